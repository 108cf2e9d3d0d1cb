#!/usr/bin/env bash
# The default StorageClass and its provisioner: a folder on the claim's node as a local volume.
set -uo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
kc apply -f - <<'Y'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: chatcluster.test/folder
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
Y
while sleep 0.5; do
  kc get pvc -A -o json 2>/dev/null | jq -r '.items[]|select(.status.phase=="Pending" and .metadata.annotations["volume.kubernetes.io/selected-node"])|[.metadata.namespace,.metadata.name,.metadata.uid,.metadata.annotations["volume.kubernetes.io/selected-node"],.spec.resources.requests.storage]|@tsv' |
    while IFS=$'\t' read -r ns claim uid node size; do
      kc get pv "pvc-$uid" >/dev/null 2>&1 && continue
      d=$S/${node#"$name"-}/volumes/pvc-$uid; mkdir -p -m 0777 "$d"; chmod 0777 "$d"
      kc create -f - <<Y
{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pvc-$uid","annotations":{"pv.kubernetes.io/provisioned-by":"chatcluster.test/folder"}},
 "spec":{"capacity":{"storage":"$size"},"accessModes":["ReadWriteOnce"],"storageClassName":"standard","persistentVolumeReclaimPolicy":"Delete",
 "claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","namespace":"$ns","name":"$claim","uid":"$uid"},"local":{"path":"$d"},
 "nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["$node"]}]}]}}}}
Y
    done
  kc get pv -o json 2>/dev/null | jq -r '.items[]|select(.status.phase=="Released" or .status.phase=="Failed")|[.metadata.name,.spec.local.path]|@tsv' |
    while IFS=$'\t' read -r pv d; do rm -rf "$d"; kc delete pv "$pv"; done
done
