#!/usr/bin/env python3
"""hostile.py TABLE NAMESPACE: asks the API server for every object of crds/tests/hostile.yaml, without keeping any.
"""
import json, subprocess, sys


def read(path):
    try:
        import yaml
    except ImportError:
        sys.exit("python3-yaml is missing: apt-get install python3-yaml")
    with open(path) as text:
        return yaml.safe_load(text)


def merge(target, patch):
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge(target.get(key), value)
    return target


def main():
    table, namespace = read(sys.argv[1]), sys.argv[2]
    wrong = 0
    for case in table["cases"]:
        made = merge(table["base"], case["patch"])
        made["metadata"]["namespace"] = namespace
        asked = subprocess.run(["kubectl", "create", "--dry-run=server", "-f", "-"], input=json.dumps(made), capture_output=True, text=True)
        said = asked.stdout + asked.stderr
        taken = asked.returncode == 0
        if taken != (case["refused"] == "operator") or (not taken and case["says"] not in said):
            wrong += 1
            print(f"{case['name']}: {said.strip()[:400]}")
    print(f"{len(table['cases'])} objects")
    sys.exit(1 if wrong else 0)


main()
