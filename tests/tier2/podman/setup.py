"""The ways to tell podman which program mounts: storage.conf, the command line, and the name fuse-overlayfs on PATH."""

import os
import shutil

import images
import place

# Names of attributes on a directory that was deleted and made again, and the options that its mount tells.
MARKS = """
at=$(podman mount marked)
getfattr --only-values -n user.laminafs.options "$at"; echo
getfattr -d -m . -h "$(podman inspect -f '{{.GraphDriver.Data.UpperDir}}' marked)/data/old" 2>/dev/null | sed -n 's/^\\(.*opaque\\)=.*/\\1/p'
podman umount marked >/dev/null
"""
CHANGE = "rm -r /data/old /data/deleted; mkdir /data/old; echo new > /data/old/new; mv /data/renamed /data/moved"
MOUNTED = ("run", "--rm", images.BUSYBOX, "sh", "-c", "grep ' / ' /proc/mounts")


def setup(this, engine):
    """Each way, with a container that says what its root is."""
    engine.podman("import", "-q", images.busybox(), images.BUSYBOX)
    info = engine.podman("info", "--format", '{{index .Store.GraphOptions "overlay.mount_program"}}')
    this.report(engine, "storage.conf: podman info names the program", [] if engine.program in info else [info])
    this.expect(engine, "storage.conf", _kind(engine), "fuse.laminafs")
    # As where the file names Debian's place of it.
    directory = f"{engine.home}/bin"
    engine.inside('mkdir "$1"', directory)
    renamed = f"{directory}/fuse-overlayfs"
    shutil.copy(engine.program, renamed)
    os.chmod(renamed, 0o755)
    without = "".join(l for l in engine.settings().splitlines(True) if not l.startswith("mount_program"))
    place.write(engine.config, without)
    option = f"--storage-opt=overlay.mount_program={renamed}"
    this.expect(engine, "--storage-opt, as fuse-overlayfs", _kind(engine, option), "fuse.laminafs")
    shown = engine.buildah(option, "from", "--pull-never", "--name", "b", images.BUSYBOX)
    this.expect(engine, "--storage-opt of buildah", (shown, engine.buildah(option, "rm", "b") != ""), ("b", True))
    if engine.uid:
        # Storage in which a mount program has worked is not taken for the kernel's any more.
        path = {"PATH": f"{directory}:{engine.env['PATH']}"}
        this.expect(engine, "found by its name on PATH", engine.podman(*MOUNTED, env=path).split()[2], "fuse.laminafs")
    place.write(engine.config, engine.settings())
    _with_userxattr(this, engine)
    shutil.rmtree(directory)
    this.report(engine, "nothing is left of the set-up", engine.leftovers())
    engine.podman("system", "reset", "-f")
    left = [n for n in os.listdir(engine.graph) if n not in ("libpod",)] if os.path.exists(engine.graph) else []
    this.expect(engine, "system reset", left, [])


def _kind(engine, *options):
    return engine.podman(*options, *MOUNTED).split()[2]


def _with_userxattr(this, engine):
    """mountopt in storage.conf: the option reaches the program, and changes are what they are without it."""
    place.write(engine.config, engine.settings() + 'mountopt = "nodev,userxattr"\n')
    engine.podman("run", "--name", "marked", images.BUSYBOX, "sh", "-euc", CHANGE)
    options, *marks = engine.inside(MARKS).decode().splitlines()
    this.expect(engine, "mountopt: userxattr reaches the mount", "userxattr" in options.split(","), True)
    this.expect(engine, "mountopt: markers with userxattr", marks, ["user.overlay.opaque"])
    engine.podman("commit", "-q", "marked", "localhost/marked")
    place.write(engine.config, engine.settings())
    shown = engine.podman("run", "--rm", "localhost/marked", "sh", "-c", "ls /data/old; ls /data | grep -E 'deleted|renamed|moved'")
    this.expect(engine, "mountopt: the image committed with userxattr, without it", shown.split(), ["new", "moved"])
    engine.podman("rm", "marked")
    engine.podman("rmi", "localhost/marked")
