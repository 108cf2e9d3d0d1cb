#!/usr/bin/env bash
# One authority and one certificate for each component, valid 30 days, and their kubeconfigs.
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
P=$S/pki; rm -rf "$P"; mkdir -p "$P"; chmod 700 "$P"; cd "$P"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
key ca
openssl req -x509 -new -key ca.key -subj "/CN=$name-authority" -days 30 -out ca.crt -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
cert() { # name subject [names]
  key "$1"; openssl req -new -key "$1.key" -subj "$2" -out "$1.csr" 2>/dev/null
  { echo extendedKeyUsage=serverAuth,clientAuth; echo keyUsage=critical,digitalSignature; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}
kubeconfig() {
  cat >"$1.conf" <<Y
apiVersion: v1
kind: Config
current-context: $name
clusters: [{name: $name, cluster: {server: $api, certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: $name, context: {cluster: $name, user: $1}}]
Y
}
cert apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$svc_ip,IP:$(node_ip 1)"
cert apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
cert front-proxy-client /CN=front-proxy-client
cert admin /O=system:masters/CN=admin; kubeconfig admin
for one in kube-controller-manager kube-scheduler kube-proxy; do cert "$one" "/CN=system:$one"; kubeconfig "$one"; done
for i in $(seq $NODES); do
  cert "kubelet-$i" "/O=system:nodes/CN=system:node:$(netns "$i")" "DNS:$(netns "$i"),IP:$(node_ip "$i")"; kubeconfig "kubelet-$i"
done
openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
