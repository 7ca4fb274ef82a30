"""The verbs of podman on containers: run, exec, diff, commit, cp, image mount, volumes, rmi, prune."""

import os

import images

# No hexadecimal digit at its beginning: `podman diff c` is about an image whose id begins with c, if there is one.
NAME = "tried"
ADDED = {"A /added", "A /data/dir", "A /data/dir/f", "D /data/deleted", "C /data/appended", "C /data", "D /data/old"}
CHANGE = """
echo new > /added
mkdir /data/dir
echo f > /data/dir/f
rm /data/deleted
echo more >> /data/appended
rm -r /data/old
"""


def containers(this, engine):
    """Uses every verb once."""
    podman = engine.podman
    podman("import", "-q", images.busybox(), images.BUSYBOX)
    mounted = podman("run", "--rm", images.BUSYBOX, "sh", "-c", "grep ' / ' /proc/mounts; id -u; echo x > /x && cat /x")
    this.expect(engine, "run", mounted.split()[2], "fuse.laminafs")
    this.expect(engine, "run writes", mounted.split()[-2:], ["0", "x"])
    podman("run", "-d", "--name", NAME, images.BUSYBOX, "sleep", "1000")
    podman("exec", NAME, "sh", "-euc", CHANGE)
    this.expect(engine, "exec", podman("exec", NAME, "cat", "/added", "/data/dir/f"), "new\nf")
    shown = set(podman("diff", NAME).splitlines())
    this.expect(engine, "diff of a running container", sorted(ADDED - shown), [])
    podman("commit", "-q", NAME, "localhost/while-running")
    podman("exec", NAME, "sh", "-c", "echo later > /later")
    _copies(this, engine)
    podman("stop", "-t", "0", NAME)
    podman("commit", "-q", "-c", "ENV A=b", NAME, "localhost/stopped")
    for image, later in (("while-running", False), ("stopped", True)):
        tree = this.read(engine, f"localhost/{image}")
        names = [n.decode() for n in (b"added", b"data/dir/f", b"later", b"data/deleted", b"data/old", b"data/old/deep/b") if n in tree]
        this.expect(engine, f"commit, image mount: {image}", names, ["added", "data/dir/f"] + ["later"] * later)
        this.expect(engine, f"run of {image}", podman("run", "--rm", f"localhost/{image}", "tail", "-n1", "/data/appended"), "more")
    podman("start", NAME)
    this.expect(engine, "started again with its changes", podman("exec", NAME, "cat", "/later"), "later")
    podman("rm", "-f", "-t", "0", NAME)
    podman("rmi", "localhost/while-running", "localhost/stopped")
    this.expect(engine, "rmi", podman("images", "-q").splitlines(), podman("images", "-q", images.BUSYBOX).splitlines())
    _load(this, engine)
    _volumes(this, engine)
    if engine.uid:
        _other_ids(this, engine)
    podman("create", "-q", images.BUSYBOX, "true")
    podman("tag", images.BUSYBOX, "localhost/other")
    podman("system", "prune", "-f")
    this.expect(engine, "system prune", podman("ps", "-aq"), "")
    this.report(engine, "nothing is left of these containers", engine.leftovers())


def _copies(this, engine):
    """podman cp into and out of a container, files and directories."""
    directory = f"{engine.home}/copied"
    engine.podman("cp", f"{NAME}:/data", directory)
    with open(f"{directory}/dir/f", encoding="utf-8") as f:
        this.expect(engine, "cp out", f.read(), "f\n")
    this.expect(engine, "cp out has no whiteouts", sorted(os.listdir(directory)), sorted(engine.podman("exec", NAME, "ls", "/data").split()))
    # podman cp fails where it has to make hard links in a directory that gets another name.
    os.unlink(f"{directory}/linked-2")
    engine.podman("cp", directory, f"{NAME}:/back")
    engine.podman("cp", f"{directory}/moded", f"{NAME}:/data/emptied/c")
    this.expect(engine, "cp in", engine.podman("exec", NAME, "sh", "-c", "cat /back/dir/f; head -n1 /data/emptied/c"), "f\nmoded of the image")
    engine.inside('rm -rf "$1"', directory)


def _load(this, engine):
    """An image saved in each format is loaded as the same."""
    wanted = engine.podman("image", "inspect", "--format", "{{.Id}}", images.BUSYBOX)
    for form in ("docker-archive", "oci-archive"):
        archive = f"{engine.home}/saved.tar"
        engine.podman("save", "-q", "--format", form, "-o", archive, images.BUSYBOX)
        engine.podman("rmi", "-f", images.BUSYBOX)
        engine.podman("load", "-q", "-i", archive)
        os.unlink(archive)
        this.expect(engine, f"save, rmi and load: {form}", engine.podman("image", "inspect", "--format", "{{.Id}}", images.BUSYBOX), wanted)


def _volumes(this, engine):
    """A volume with :O is a union of its own, and the directory below it stays as it is."""
    directory = f"{engine.home}/volume"
    engine.inside('mkdir "$1"; echo kept > "$1/kept"; echo gone > "$1/gone"', directory)
    script = "grep ' /v ' /proc/mounts; rm /v/gone; echo new > /v/new; echo more >> /v/kept; ls /v; cat /v/kept"
    shown = engine.podman("run", "--rm", "-v", f"{directory}:/v:O", images.BUSYBOX, "sh", "-euc", script).split()
    this.expect(engine, "volume with :O", (shown[2], shown[6:]), ("fuse.laminafs", ["kept", "new", "kept", "more"]))
    after = engine.inside('cd "$1"; ls; cat kept', directory).decode().split()
    this.expect(engine, "the volume's directory afterwards", after, ["gone", "kept", "kept"])


def _other_ids(this, engine):
    """Containers with ids of their own, for which podman asks for uidmapping= and gidmapping=.

    Of an ordinary user only: for root podman maps the layers once more itself, and no mount program sees what it should.
    """
    shown = engine.podman("run", "--rm", "--userns=keep-id", images.BUSYBOX, "sh", "-c", "id -u; stat -c %u:%g /etc; echo x > /tmp/x; stat -c %u /tmp/x")
    this.expect(engine, "--userns=keep-id", shown.split(), [str(engine.uid), "0:0", str(engine.uid)])
    script = "stat -c %u:%g /etc; chown 5:6 /data/owned; echo x > /added; chown 7:8 /added; rm /data/deleted"
    shown = engine.podman("run", "--name", "mapped", "--uidmap", "0:1:1000", "--gidmap", "0:1:1000", images.BUSYBOX, "sh", "-euc", script)
    engine.podman("commit", "-q", "mapped", "localhost/mapped")
    engine.podman("rm", "mapped")
    tree = this.read(engine, "localhost/mapped")
    owners = [(tree[name]["uid"], tree[name]["gid"]) for name in (b"data/owned", b"added", b"data/moded")]
    this.expect(engine, "--uidmap", (shown, owners, b"data/deleted" in tree), ("0:0", [(5, 6), (7, 8), (0, 0)], False))
    engine.podman("rmi", "localhost/mapped")
