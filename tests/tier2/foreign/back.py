"""Archives of other tools come in, and what `laminafs save` writes goes out to them."""

import json
import os
import shutil
import subprocess

import views
from trees import run


def archives(this):
    """Archives that skopeo and podman write, each loaded into a store of its own."""
    tools = this.tools
    tools.podman("tag", tools.podman("pull", "-q", this.images.at("debian-3")), "localhost/t:a")
    for number, kind in enumerate(("docker-archive", "oci-archive")):
        out = f"{tools.scratch}/in.tar"
        tools.skopeo("copy", this.images.at("odd-3"), f"{kind}:{out}:localhost/t:a")
        _arrives(this, f"{kind} of skopeo", "odd-3", out, compressed=number == 0)
        tools.podman("save", "--format", kind, "-o", out, "localhost/t:a")
        _arrives(this, f"{kind} of podman", "debian-3", out, compressed=number == 1)


def _arrives(this, what, tag, archive, compressed):
    """Loads an archive, from a file or compressed through a pipe, and compares; removes it."""
    printed = _load(this, archive, "arrived", compressed)
    this.report(f"{what}: name", [] if printed == "Loaded image: localhost/t:a" else [printed])
    problems = []
    tree = views.laminafs(this.tools, "localhost/t:a", problems, store="arrived")
    this.report(f"{what}: inode numbers", problems)
    this.compare(f"{what}: {tag}", "laminafs", tag, this.tree(tag), tree)
    os.unlink(archive)
    shutil.rmtree(this.tools.store("arrived"))


def _load(this, archive, store, compressed):
    """What laminafs prints."""
    if not compressed:
        return this.tools.lamina("load", "-i", archive, store=store)
    with subprocess.Popen(["gzip", "-1c", archive], stdout=subprocess.PIPE) as gzip:
        argv = [this.tools.laminafs, "--root", this.tools.store(store), "load"]
        done = subprocess.run(argv, stdin=gzip.stdout, capture_output=True, timeout=300, check=True)
    return done.stdout.decode().strip()


def back(this):
    """An image in gzip and without compression, and one in zstd, saved in both formats."""
    for tag in ("odd-3", "zstd"):
        for form in ("oci", "docker"):
            _saved(this, tag, form)


def _saved(this, tag, form):
    """The archive has the same layers, and shows the same tree elsewhere."""
    tools, ours, title = this.tools, this.tree(tag), f"{tag} saved as {form}:"
    out, copy = f"{tools.scratch}/out.tar", f"oci:{tools.scratch}/copy:{tag}"
    tools.lamina("save", "--format", form, "-o", out, this.images.name(tag), store=this.images.store(tag))
    this.report(f"{title} layers bit for bit", _changed_layers(out, this.images.layers(tag)))
    reference = f"{form}-archive:{out}"
    # For archives of docker skopeo names layers by what they are without compression.
    diff_ids = json.loads(tools.skopeo("inspect", "--config", reference))["rootfs"]["diff_ids"]
    wanted = this.images.layers(tag) if form == "oci" else diff_ids
    layers = tools.inspect(reference)["Layers"]
    this.report(f"{title} skopeo inspect", [] if layers == wanted else [f"it has {layers}, not {wanted}"])
    tools.skopeo("copy", reference, copy)
    # Archives of docker hold layers that skopeo does not compress, so that umoci reads those of zstd too.
    theirs = this.refused(f"{title} umoci", "umoci", tag if form == "oci" else f"{tag} as docker", lambda: views.umoci(tools, copy))
    if theirs:
        this.compare(f"{title} skopeo copy and umoci unpack", "umoci", tag, ours, theirs)
    loaded = tools.podman("load", "-q", "-i", out).splitlines()[-1].split(": ", 1)[-1]
    this.compare(f"{title} podman load", "podman", tag, ours, views.podman(tools, loaded))
    os.unlink(out)
    shutil.rmtree(f"{tools.scratch}/copy")


def _changed_layers(archive, wanted):
    """Layers that are not in an archive under their digest, or not as they should be."""
    lines = []
    for digest in wanted:
        member = f"blobs/sha256/{digest.removeprefix('sha256:')}"
        script = 'tar -xOf "$1" "$2" | sha256sum'
        found = run("sh", "-c", script, "sh", archive, member).stdout.decode().split()[0]
        if f"sha256:{found}" != digest:
            lines.append(f"{member}: its digest is {found}")
    return lines
