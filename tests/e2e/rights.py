#!/usr/bin/env python3
"""rights.py AUDIT-LOG [NAMESPACE]: compares what the operator did with what its roles let it do.

Every verb of a role must have been used, apart from those in EXCEPTIONS; with a namespace, of the role
there, and what it was used for anywhere counts: the rules of both modes are one text.
"""
import json, subprocess, sys

# Verb and resource, and why it is there although no run shows it.
EXCEPTIONS = {
    ("patch", "events"): "an event that is repeated is counted, which a run may not see",
    ("get", "configmaps"): "named by their contents: only a later version asks for one by name",
    ("get", "replicasets"): "the same",
    ("create", "leases"): "only the first replica of all makes it",
    ("delete", "services"): "OwnerReferencesPermissionEnforcement asks for it where an owner is set anew",
    ("delete", "serviceaccounts"): "the same",
    ("delete", "statefulsets"): "the same",
}
# Server-side apply asks for create where the object is not there; the log shows it as patch.
CREATED_BY_PATCH = {"configmaps", "serviceaccounts", "services", "replicasets", "statefulsets", "networkpolicies", "poddisruptionbudgets", "httproutes"}


def rules(of_namespace):
    of_all = ("role", "chatcluster", of_namespace) if of_namespace else ("clusterrole", "chatcluster", None)
    for kind, name, namespace in (of_all, ("role", "chatcluster-lease", "chatcluster-system")):
        asked = ["kubectl", "get", kind, name, "-o", "json"] + (["-n", namespace] if namespace else [])
        for rule in json.loads(subprocess.check_output(asked))["rules"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield verb, resource


def main():
    used = set()
    with open(sys.argv[1]) as log:
        for line in log:
            entry = json.loads(line)
            about = entry.get("objectRef")
            if about:
                resource = about["resource"] + ("/" + about["subresource"] if "subresource" in about else "")
                used.add((entry["verb"], resource))
    unused = [
        (verb, resource) for verb, resource in rules(sys.argv[2] if len(sys.argv) > 2 else None)
        if (verb, resource) not in used and (verb, resource) not in EXCEPTIONS
        and not (verb == "create" and resource in CREATED_BY_PATCH)
    ]
    for verb, resource in unused:
        print(f"may {verb} {resource}, and never did")
    sys.exit(1 if unused else 0)


main()
