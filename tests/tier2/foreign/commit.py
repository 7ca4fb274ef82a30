"""Changes made in a mount become a layer and an archive, which other tools show as the mount did."""

import json
import os
import shutil

import interop_tree as model
import views
from trees import snapshot

# No image can hold them.
LEFT_OUT = ("socket", "socket copy-up")
COMPRESSIONS = ("gzip", "zstd", "none")


def commit(this):
    """All changes of interop_tree.py, exported and committed with each compression while they are mounted."""
    tools, image = this.tools, this.images.load("odd-1")
    exported = f"{tools.scratch}/exported.tar"
    with views.mounted(tools, image, "-o", "dev,suid", "--name", "changed", store="odd") as place:
        for steps in (model.FIRST, model.SECOND):
            model.perform({name: step for name, step in steps.items() if name not in LEFT_OUT}, place)
        shown = snapshot(place)
        tools.lamina("export", "-o", exported, "changed", store="odd")
        for form in COMPRESSIONS:
            tools.lamina("commit", "--compression", form, "-m", form, "--change", "ENV A=b", "changed", f"localhost/committed:{form}", store="odd")
        this.compare("commit: the mount afterwards", "laminafs", "commit", shown, snapshot(place))
    this.compare("export: GNU tar", "tar", "commit", shown, views.tar(tools, exported))
    os.unlink(exported)
    for form in COMPRESSIONS:
        _elsewhere(this, form, shown)
    problems = []
    again = views.laminafs(tools, "localhost/committed:gzip", problems, store="odd")
    this.report("commit: inode numbers", problems)
    this.compare("commit: laminafs mounts what it wrote", "laminafs", "committed", shown, again)
    tools.lamina("rm", "changed", store="odd")
    told = tools.lamina("verify", store="odd")
    this.report("commit: the store verifies", [] if "sound" in told else [told])


def _elsewhere(this, form, shown):
    """A committed image, saved, in skopeo, umoci and podman."""
    tools, title = this.tools, f"commit with {form}:"
    out, copy = f"{tools.scratch}/committed.tar", f"oci:{tools.scratch}/committed:{form}"
    tools.lamina("save", "--format", "oci", "-o", out, f"localhost/committed:{form}", store="odd")
    config = json.loads(tools.skopeo("inspect", "--config", f"oci-archive:{out}"))
    this.report(f"{title} configuration", [] if "A=b" in config["config"]["Env"] else [f"it is {config}"])
    # umoci 0.4 reads no zstd: skopeo, which compares all digests, turns it into gzip.
    again = ("--dest-compress-format", "gzip") if form == "zstd" else ()
    tools.skopeo("copy", *again, f"oci-archive:{out}", copy)
    this.compare(f"{title} umoci unpack", "umoci", "commit", shown, views.umoci(tools, copy))
    this.compare(f"{title} podman pull", "podman", "commit", shown, views.podman(tools, tools.podman("pull", "-q", f"oci-archive:{out}")))
    os.unlink(out)
    shutil.rmtree(f"{tools.scratch}/committed")
