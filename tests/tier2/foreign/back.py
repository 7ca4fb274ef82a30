"""Archives of other tools come in, and what laminafs writes goes out to them."""

import json
import os
import shutil
import subprocess

import build
import views
from trees import run, snapshot


def archives(this):
    """Archives that skopeo and podman write, each loaded into a store of its own."""
    tools = this.tools
    podmans = tools.podman("pull", "-q", this.images.at("debian-3"))
    made = {
        "docker-archive of skopeo": ("odd-3", lambda out: tools.skopeo("copy", this.images.at("odd-3"), f"docker-archive:{out}:localhost/t:a")),
        "oci-archive of skopeo": ("odd-3", lambda out: tools.skopeo("copy", this.images.at("odd-3"), f"oci-archive:{out}:localhost/t:a")),
        "docker-archive of podman": ("debian-3", lambda out: tools.podman("save", "--format", "docker-archive", "-o", out, "localhost/t:a")),
        "oci-archive of podman": ("debian-3", lambda out: tools.podman("save", "--format", "oci-archive", "-o", out, "localhost/t:a")),
    }
    tools.podman("tag", podmans, "localhost/t:a")
    for number, (what, (tag, make)) in enumerate(made.items()):
        out, store = f"{tools.scratch}/in.tar", f"archive-{number}"
        make(out)
        printed = _load(this, out, store, compressed=number % 2 == 1)
        this.report(f"{what}: name", [] if printed == "Loaded image: localhost/t:a" else [printed])
        problems = []
        tree = views.laminafs(tools, printed.split(": ")[-1], problems, store=store)
        this.compare(f"{what}: {tag}", "laminafs", tag, this.tree(tag), tree)
        os.unlink(out)
        shutil.rmtree(f"{tools.scratch}/{store}")


def _load(this, archive, store, compressed):
    """Loads an archive from a file, or compressed through a pipe; what laminafs prints."""
    if not compressed:
        return this.tools.lamina("load", "-i", archive, store=store)
    with subprocess.Popen(["gzip", "-1c", archive], stdout=subprocess.PIPE) as gzip:
        argv = [this.tools.laminafs, "--root", f"{this.tools.scratch}/{store}", "load"]
        done = subprocess.run(argv, stdin=gzip.stdout, capture_output=True, timeout=300, check=True)
    return done.stdout.decode().strip()


def back(this):
    """What save and commit write."""
    for tag in ("odd-3", "debian-3", "zstd"):
        _saved(this, tag)
    _commit(this)


def _saved(this, tag):
    """An image saved in both formats: the same layers, the same tree elsewhere."""
    tools, name = this.tools, this.images.name(tag)
    this.tools.lamina("load", "-q", this.images.at(tag))
    ours = this.tree(tag)
    for form, transport in (("oci", "oci-archive"), ("docker", "docker-archive")):
        out = f"{tools.scratch}/out.tar"
        tools.lamina("save", "--format", form, "-o", out, name)
        title = f"{tag} saved as {form}:"
        this.report(f"{title} layers bit for bit", _changed_layers(out, this.images.layers(tag)))
        reference = f"{transport}:{out}"
        layers = tools.inspect(reference)["Layers"]
        if form == "oci":
            this.report(f"{title} skopeo inspect", [] if layers == this.images.layers(tag) else [f"it has {layers}"])
        copy = f"oci:{tools.scratch}/copy:{tag}"
        tools.skopeo("copy", reference, copy)
        # Archives of docker hold layers that skopeo does not compress, so that umoci reads those of zstd too.
        theirs = this.refused(f"{title} umoci", "umoci", tag if form == "oci" else f"{tag} as docker", lambda: views.umoci(tools, copy))
        if theirs:
            this.compare(f"{title} skopeo copy and umoci unpack", "umoci", tag, ours, theirs)
        loaded = tools.podman("load", "-q", "-i", out).splitlines()[-1].split(": ", 1)[-1]
        this.compare(f"{title} podman load", "podman", tag, ours, views.podman(tools, loaded))
        tools.podman("rmi", "-f", loaded)
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


def _commit(this):
    """Changes made in a mount become a layer, which other tools show as the mount did."""
    tools, name = this.tools, "localhost/committed:1"
    this.tools.lamina("load", "-q", this.images.at("odd-1"))
    with views.mounted(tools, this.images.name("odd-1"), "-o", "dev", "--name", "changed") as place:
        build.first_changes(place)
        shown = snapshot(place)
    tools.lamina("commit", "-m", "first changes", "--change", "ENV A=b", "changed", name)
    problems = []
    again = views.laminafs(tools, name, problems)
    this.compare("commit: laminafs mounts what it wrote", "laminafs", "commit", shown, again)
    out = f"{tools.scratch}/committed.tar"
    tools.lamina("save", "--format", "oci", "-o", out, name)
    copy = f"oci:{tools.scratch}/copy:committed"
    tools.skopeo("copy", f"oci-archive:{out}", copy)
    config = json.loads(tools.skopeo("inspect", "--config", copy))
    this.report("commit: configuration", [] if "A=b" in config["config"]["Env"] else [f"it is {config}"])
    this.compare("commit: umoci unpack", "umoci", "commit", shown, views.umoci(tools, copy))
    loaded = tools.podman("pull", "-q", copy)
    this.compare("commit: podman pull", "podman", "commit", shown, views.podman(tools, loaded))
    tools.lamina("rm", "changed")
    os.unlink(out)
