#!/usr/bin/env python3
"""rights.py AUDIT-LOG: compares what the operator did with what its roles let it do.

Every verb of a role must have been used, apart from those in EXCEPTIONS.
"""
import json, subprocess, sys

# Verb and resource, and why it is there although no run shows it.
EXCEPTIONS = {
    ("create", "httproutes"): "needs the Gateway API",
    ("delete", "httproutes"): "needs the Gateway API",
    ("get", "httproutes"): "needs the Gateway API",
    ("patch", "httproutes"): "needs the Gateway API",
    ("patch", "events"): "an event that is repeated is counted, which a run may not see",
    ("patch", "secrets"): "fills a key that somebody took out",
    ("get", "configmaps"): "named by their contents: only a later version asks for one by name",
    ("get", "replicasets"): "the same",
    ("create", "leases"): "only the first replica of all makes it",
    ("delete", "services"): "OwnerReferencesPermissionEnforcement asks for it where an owner is set anew",
    ("delete", "serviceaccounts"): "the same",
    ("delete", "statefulsets"): "the same",
}
# Server-side apply asks for create where the object is not there; the log shows it as patch.
CREATED_BY_PATCH = {"configmaps", "serviceaccounts", "services", "replicasets", "statefulsets", "networkpolicies", "poddisruptionbudgets"}


def rules():
    for kind, name, namespace in (("clusterrole", "chatcluster", None), ("role", "chatcluster-lease", "chatcluster-system")):
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
        (verb, resource) for verb, resource in rules()
        if (verb, resource) not in used and (verb, resource) not in EXCEPTIONS
        and not (verb == "create" and resource in CREATED_BY_PATCH)
    ]
    for verb, resource in unused:
        print(f"may {verb} {resource}, and never did")
    sys.exit(1 if unused else 0)


main()
