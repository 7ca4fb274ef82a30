"""Images made of random content, and the store as its program shows it."""

import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile


def layer(seed, files, size):
    """A layer tar with that many files of up to `size` random bytes, links and whiteouts among them."""
    rng = random.Random(seed)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(files):
            name = f"{seed}/d{number % 17}/f{number}"
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, info.uid = 1_700_000_000 + number, 0o640, number % 5
            if number % 11 == 10 and (number - 1) % 13 != 12:
                info.type, info.linkname = tarfile.LNKTYPE, f"{seed}/d{(number - 1) % 17}/f{number - 1}"
                tar.addfile(info)
            elif number % 13 == 12:
                info.name = f"{seed}/d{number % 17}/.wh.gone{number}"
                tar.addfile(info)
            else:
                data = rng.randbytes(rng.randrange(size))
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(path, name, layers):
    """Writes an OCI archive with one image of these layer tars under `name`; returns the id of the image."""
    blobs = [gzip.compress(tar, 1, mtime=0) for tar in layers]
    digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
    part = lambda kind, data: {
        "mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = json.dumps({"architecture": machine, "os": "linux", "author": name,
                         "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in layers]}}).encode()
    manifest = json.dumps({"schemaVersion": 2, "config": part("config.v1+json", config),
                           "layers": [part("layer.v1.tar+gzip", blob) for blob in blobs]}).encode()
    top = part("manifest.v1+json", manifest) | {"annotations": {"org.opencontainers.image.ref.name": name}}
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    members = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}
    for blob in blobs + [config, manifest]:
        members["blobs/sha256/" + hashlib.sha256(blob).hexdigest()] = blob
    with tarfile.open(path, "w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return digest(config)


class Store:
    """A store and the program that works on it."""

    def __init__(self, program, root):
        self.program, self.root = program, root

    def command(self, *words):
        """The words of a command line."""
        return [self.program, "--root", self.root, *words]

    def run(self, *words, **more):
        """Runs a command to its end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, errors="replace", check=False, **more)

    def must(self, *words):
        """Runs a command that has to succeed, and returns what it prints."""
        done = self.run(*words)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def has(self, command, word=""):
        """Whether the program has a command, with that word in its help."""
        done = self.run(command, "--help")
        return done.returncode == 0 and word in done.stdout

    def names(self):
        """The id of the image of each name."""
        rows = [json.loads(line) for line in self.must("images", "--no-trunc", "--format", "json").splitlines()]
        return {f"{row['Repository']}:{row['Tag']}": row["ID"] for row in rows if row["Tag"] != "<none>"}

    def leftovers(self):
        """What lies in tmp."""
        return sorted(os.listdir(os.path.join(self.root, "tmp")))
