#!/usr/bin/env python3
"""metrics_api.py CERTIFICATE KEY FILE: the metrics API (metrics.k8s.io/v1beta1) of a cluster without a metrics server.

Every pod that is asked for uses as much memory as FILE says, at this moment. https://127.0.0.1:18443
"""
import datetime, http.server, json, ssl, subprocess, sys, urllib.parse

GROUP = "metrics.k8s.io/v1beta1"
RESOURCES = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP, "resources": [
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}]}


def pods(namespace, selector):
    asked = ["kubectl", "-n", namespace, "get", "pods", "-o", "json"] + (["-l", selector] if selector else [])
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    usage = {"cpu": "10m", "memory": open(sys.argv[3]).read().strip()}
    return [{"metadata": {key: pod["metadata"].get(key) for key in ("name", "namespace", "labels")}, "timestamp": now, "window": "15s",
             "containers": [{"name": one["name"], "usage": usage} for one in pod["spec"]["containers"]]}
            for pod in json.loads(subprocess.check_output(asked))["items"] if pod["status"].get("phase") == "Running"]


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        parts = url.path.removeprefix(f"/apis/{GROUP}").strip("/").split("/")
        if parts[0] == "namespaces":
            selector = urllib.parse.parse_qs(url.query).get("labelSelector", [""])[0]
            answer = {"kind": "PodMetricsList", "apiVersion": GROUP, "metadata": {}, "items": pods(parts[1], selector)}
        else:
            answer = RESOURCES
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 18443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
