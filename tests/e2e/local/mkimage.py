#!/usr/bin/env python3
"""mkimage.py OUT.tar NAME CONFIG.json ROOT: an image archive of one layer, in the layouts of docker and OCI.

The same ROOT gives the same bytes: entries are sorted, times and owners are fixed (owners as CONFIG's
"owners" says: {"path": [uid, gid]}). It can be loaded by ctr, docker and kind.
"""
import hashlib, io, json, os, sys, tarfile

EPOCH = 1_767_225_600  # 2026-01-01


def layer(root, owners):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                inside = os.path.relpath(path, root)
                entry = tar.gettarinfo(path, inside)
                entry.mtime, entry.uname, entry.gname = EPOCH, "", ""
                entry.uid, entry.gid = owners.get(inside, (0, 0))
                if entry.isreg():
                    with open(path, "rb") as content:
                        tar.addfile(entry, content)
                else:
                    tar.addfile(entry)
    return out.getvalue()


def main():
    out, name, config_file, root = sys.argv[1:]
    with open(config_file) as text:
        config = json.load(text)
    blobs = {}

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    content = blob(layer(root, {path: tuple(who) for path, who in config.pop("owners", {}).items()}))
    made = "2026-01-01T00:00:00Z"
    image = blob(json.dumps({
        "architecture": "amd64", "os": "linux", "created": made, "config": config,
        "rootfs": {"type": "layers", "diff_ids": [content["digest"]]}, "history": [{"created": made}],
    }).encode())
    kind = "application/vnd.oci.image"
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **image},
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", **content}],
    }).encode())
    named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[-1]}
    index = {"schemaVersion": 2, "manifests": [{
        "mediaType": f"{kind}.manifest.v1+json", **manifest,
        "platform": {"os": "linux", "architecture": "amd64"}, "annotations": named,
    }]}
    path = lambda described: "blobs/sha256/" + described["digest"][7:]
    docker = [{"Config": path(image), "RepoTags": [name], "Layers": [path(content)]}]
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(),
             "manifest.json": json.dumps(docker).encode()}
    files.update({f"blobs/sha256/{digest}": data for digest, data in blobs.items()})
    with tarfile.open(out + ".part", "w") as tar:
        for inside in sorted(files):
            entry = tarfile.TarInfo(inside)
            entry.size, entry.mtime, entry.mode = len(files[inside]), EPOCH, 0o644
            tar.addfile(entry, io.BytesIO(files[inside]))
    os.replace(out + ".part", out)
    print(f"{name} {manifest['digest']}")


main()
