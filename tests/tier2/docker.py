#!/usr/bin/env python3
"""Images and containers in the storage of a real Docker engine, and what goes to and fro between it and the store of laminafs.

  docker.py --laminafs PROGRAM [--scratch DIR]

Starts an engine of its own with the overlay2 driver (package docker.io, which need not run otherwise), builds an image in it by a
Dockerfile whose steps remove, replace and link, runs a container that changes more, and checks that

  - a mount of `docker-store:` shows the tree that the engine's own overlayfs mount shows, of the image and of the running container;
  - `layers` tells the commands that `docker history` tells, `diff` the changes that `docker diff` tells;
  - what `docker save` writes is loaded as the same image, and looks the same in `images` and `history`;
  - what `laminafs save` writes of it, and of an image made by `commit`, is loaded by the engine as the same image, and runs.

Needs root, docker.io, busybox-static, cgroups as the engine wants them, and DIR (default: the temporary directory) on a disk file system.
Exits 1 on any difference.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import private
from trees import Mount, differences, run, snapshot

DOCKERFILE = """
FROM base:1
COPY files /files
RUN rm -r /replaced /gone && mkdir /replaced && echo new >/replaced/new && rm /etc/deleted && ln /etc/kept /etc/linked
RUN chmod 700 /files/sub && mv /files/sub/x /files/moved && ln -s moved /files/link && rm -r /dir && ln -s files /dir
ENV COLOUR=blue
CMD ["sleep", "1000"]
"""
# What both say in the same words. Sizes differ by the lengths of symbolic links, which the engine adds.
SAME = ("Repository", "Tag", "CreatedAt", "CreatedBy", "Comment")
CHANGES = "rm -r /files/sub /replaced; mkdir /replaced; echo more >>/etc/kept; ln -s kept /etc/short; chmod 600 /files/moved; mkfifo /pipe"


def of_root(path, key, _ours, _theirs):
    """Archives of the engine have no entry for the root: its times are those of whoever unpacks them."""
    return path == b"." and key == "mtime"


class Engine:
    """A Docker engine with everything that it keeps in one directory."""

    def __init__(self, scratch):
        self.data = f"{scratch}/data"
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{scratch}/socket", "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": f"{scratch}/config"}
        command = ["dockerd", "--data-root", self.data, "--exec-root", f"{scratch}/exec", "--pidfile", f"{scratch}/pid", "-s", "overlay2",
                   "--bridge=none", "--iptables=false", "--ip6tables=false", "-H", self.env["DOCKER_HOST"]]
        self.log = open(f"{scratch}/log", "w+b")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "version"], env=self.env, capture_output=True, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                said = self.log.read()[-2000:].decode(errors="replace")
                self.stop()
                raise RuntimeError(f"the engine does not start:\n{said}")
            time.sleep(0.2)

    def __call__(self, *argv):
        """Runs docker; returns what it prints."""
        return run("docker", *argv, env=self.env).stdout.decode().strip()

    def stop(self):
        """Ends it and what it started."""
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


class Check:
    """What is compared, and how often it was not equal."""

    def __init__(self):
        self.failures = 0

    def lines(self, title, lines):
        """There should be none."""
        print(f"{'FAIL' if lines else 'ok  '} {title}", flush=True)
        for line in lines[:20]:
            print(f"     {line}")
        self.failures += bool(lines)

    def equal(self, title, ours, theirs):
        """Two values."""
        self.lines(title, [] if ours == theirs else [f"laminafs: {ours!r}", f"docker:   {theirs!r}"])


def base(directory):
    """A root file system with busybox."""
    for name in ("bin", "etc", "gone/deep", "replaced", "dir", "proc", "sys", "dev", "tmp"):
        os.makedirs(f"{directory}/{name}")
    shutil.copy("/bin/busybox", f"{directory}/bin/busybox")
    run("chroot", directory, "/bin/busybox", "--install", "-s", "/bin")
    for name in ("etc/deleted", "etc/kept", "gone/deep/f", "replaced/old", "dir/f"):
        with open(f"{directory}/{name}", "w", encoding="utf-8") as f:
            f.write(f"{name}\n")
    os.setxattr(f"{directory}/etc/kept", "user.note", b"kept")


def remove(directory):
    """Removes it without what is mounted in it, which an engine that has died leaves."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as f:
        places = [line.split()[1] for line in f]
    for place in reversed(places):
        if place.startswith(f"{directory}/"):
            run("umount", place)
    run("rm", "-rf", "--one-file-system", "--", directory)


@contextlib.contextmanager
def mounted(program, *words):
    """A read-only mount of an image."""
    place = tempfile.mkdtemp(prefix="laminafs-docker-mnt-")
    try:
        run(program, "mount", "--read-only", *words, place)
        try:
            yield place
        finally:
            run(program, "umount", place)
    finally:
        os.rmdir(place)


def of_image(engine, scratch, name):
    """The tree of an image as the engine would mount it for a container that only reads."""
    data = json.loads(engine("image", "inspect", name))[0]["GraphDriver"]["Data"]
    layers = [data["UpperDir"], *data.get("LowerDir", "").split(":")]
    with Mount(None, f"{scratch}/overlay", [layer for layer in layers if layer]) as place:
        return snapshot(place)


def check(program, scratch, engine):
    """Everything; returns how many checks failed."""
    this, store = Check(), f"{scratch}/store"
    in_docker, where = "docker-store:web:1", ("--storage-root", engine.data)

    def lamina(*argv):
        return run(program, "--root", store, *argv).stdout.decode().strip()

    root, context = f"{scratch}/root", f"{scratch}/context"
    base(root)
    os.makedirs(f"{context}/files/sub")
    for name, text in (("Dockerfile", DOCKERFILE), ("files/sub/x", "x\n"), ("files/sub/y", "y\n")):
        with open(f"{context}/{name}", "w", encoding="utf-8") as f:
            f.write(text)
    run("tar", "-C", root, "--xattrs", "-cf", f"{scratch}/base.tar", ".")
    engine("import", f"{scratch}/base.tar", "base:1")
    engine("build", "--network", "none", "-t", "web:1", context)
    container = engine("run", "-d", "--network", "none", "--name", "box", "web:1", "sh", "-c", f"{CHANGES}; echo done; sleep 1000")
    deadline = time.monotonic() + 60
    while engine("logs", "box") != "done":
        if time.monotonic() > deadline:
            raise RuntimeError("the container does not start")
        time.sleep(0.1)

    with mounted(program, *where, in_docker) as place:
        ours = snapshot(place)
    this.lines(f"docker-store: an image, {len(ours)} names", differences(of_image(engine, scratch, "web:1"), ours))
    merged = json.loads(engine("inspect", "box"))[0]["GraphDriver"]["Data"]["MergedDir"]
    theirs = snapshot(merged)
    for name in ("box", container[:7]):
        with mounted(program, *where, f"docker-store:{name}") as place:
            this.lines(f"docker-store: the running container as {name}", differences(theirs, snapshot(place)))

    layers = json.loads(lamina("layers", "--json", *where, "docker-store:box"))["layers"]
    history = engine("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", "web:1").splitlines()
    made = [line.partition("\t")[2] for line in reversed(history) if not line.startswith("0B")]
    this.equal("layers: the commands", [layer["command"] or "" for layer in layers[:-2]], made)
    this.equal("layers: what docker prepared, and what the container changed", [layer["writable"] for layer in layers[-2:]], [False, True])
    changed = lamina("diff", *where, f"docker-store:box@{len(layers) - 1}", "docker-store:box")
    ours = sorted(line.partition(" (")[0] for line in changed.splitlines())
    this.equal("diff: what the container changed", ours, sorted(engine("diff", "box").splitlines()))

    def listing(tool, form):
        """What both tools say of the images, and of how one came about, but for how long ago that was."""
        lists = (("images", "--no-trunc"), ("history", "--no-trunc", "web:1"))
        return [[{key: value for key, value in json.loads(line).items() if key in SAME} for line in
                 tool(*words, "--format", form).splitlines()] for words in lists] + [tool("images", "-q", "--no-trunc").split()]

    def compare(title):
        ours, theirs = listing(lamina, "json"), listing(engine, "{{json .}}")
        for what, ours, theirs in zip(("images", "history", "ids"), ours, theirs):
            this.equal(f"{title}: {what}", ours, theirs)

    engine("save", "-o", f"{scratch}/saved.tar", "web:1", "base:1")
    lamina("load", "-q", "-i", f"{scratch}/saved.tar")
    compare("docker save, laminafs load")
    with mounted(program, "--root", store, "web:1") as place:
        this.lines("docker save, laminafs load: the tree", differences(of_image(engine, scratch, "web:1"), snapshot(place), of_root))

    lamina("mount", "--name", "mine", "web:1", f"{scratch}/mnt")
    for line in CHANGES.split("; "):
        run("chroot", f"{scratch}/mnt", "/bin/sh", "-c", line)
    expected = snapshot(f"{scratch}/mnt")
    lamina("umount", "mine")
    lamina("commit", "-c", 'CMD ["cat", "/etc/kept"]', "mine", "mine:1")
    engine("rm", "-f", "box")
    engine("rmi", "web:1", "base:1")
    lamina("save", "-o", f"{scratch}/back.tar", "web:1", "mine:1", "base:1")
    engine("load", "-q", "-i", f"{scratch}/back.tar")
    compare("laminafs save, docker load")
    this.lines("laminafs commit, docker load: the tree", differences(expected, of_image(engine, scratch, "mine:1"), of_root))
    this.equal("laminafs commit, docker run", "etc/kept\nmore", engine("run", "--rm", "--network", "none", "mine:1"))
    return this.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    args = parser.parse_args()
    private.enter()
    private.hide()
    scratch = tempfile.mkdtemp(prefix="laminafs-docker-", dir=args.scratch)
    try:
        os.mkdir(f"{scratch}/mnt")
        engine = Engine(scratch)
        try:
            return check(os.path.abspath(args.laminafs), scratch, engine) > 0
        finally:
            try:
                for container in engine("ps", "-aq").splitlines():
                    engine("rm", "-f", container)
            finally:
                engine.stop()
    finally:
        remove(scratch)


if __name__ == "__main__":
    sys.exit(main())
