"""podman and buildah with one kind of mount, as root or as the ordinary user."""

import os
import pickle
import shutil
import sys
import time

import place
from trees import run

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "../../../examples/storage.conf")
# The program that mounts; None: the kernel.
PROGRAMS = {"laminafs": f"{place.ROOT}/laminafs", "fuse-overlayfs": "/usr/bin/fuse-overlayfs",
            "fuse-overlayfs2": "/usr/local/bin/fuse-overlayfs2", "native": None}
READ = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from trees import identity_problems, snapshot
problems = []
tree = snapshot(sys.argv[2], problems=problems)
sys.stdout.buffer.write(pickle.dumps((tree, problems + identity_problems(tree))))
"""


class Engine:
    """podman and buildah of one user with storage of their own, removed at the end of a with block."""

    def __init__(self, user, kind, program=None):
        """user is "root" or "user"; kind is one of PROGRAMS; program mounts in its place."""
        self.user, self.kind = user, kind
        self.uid = 0 if user == "root" else place.UID
        self.program = program or PROGRAMS[kind]
        self.name = f"{user}, {kind}"
        self.home = f"{place.ROOT}/{user}-{kind}"
        self.config = f"{self.home}/.config/containers/storage.conf"
        self.graph = f"{self.home}/.local/share/containers/storage"
        self.runtime = f"/run/{user}-{kind}"
        self.env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": self.home, "XDG_RUNTIME_DIR": self.runtime,
                    "TMPDIR": f"{self.home}/tmp", "LC_ALL": "C", "CONTAINERS_CONF": f"{self.home}/containers.conf"}
        if user == "root":
            self.env["CONTAINERS_STORAGE_CONF"] = self.config
            # crun raises the limit of locked memory for root's cgroup of a build, which not every machine allows.
            self.env["BUILDAH_ISOLATION"] = "chroot"

    def __enter__(self):
        config = os.path.dirname(self.config)
        for directory in (self.home, f"{self.home}/tmp", self.runtime, os.path.dirname(config), config):
            os.mkdir(directory, 0o700)
            os.chown(directory, self.uid, self.uid)
        place.write(self.config, self.settings())
        place.write(self.env["CONTAINERS_CONF"], place.CONTAINERS.format(home=self.home))
        return self

    def settings(self):
        """examples/storage.conf with the paths of this engine."""
        with open(EXAMPLE, encoding="utf-8") as f:
            text = f.read()
        paths = {"/var/lib/containers/storage": self.graph, "/run/containers/storage": f"{self.runtime}/containers",
                 "/usr/local/bin/laminafs": self.program or ""}
        for old, new in paths.items():
            if text.count(f'"{old}"') != 1:
                raise RuntimeError(f"examples/storage.conf does not have {old}")
            text = text.replace(f'"{old}"', f'"{new}"')
        if self.user != "root":
            # What the file tells an ordinary user to leave out.
            text = "".join(l for l in text.splitlines(True) if not l.startswith(("graphroot", "runroot")))
        if not self.program:
            text = "".join(l for l in text.splitlines(True) if not l.startswith("mount_program"))
        return text

    def __exit__(self, *_):
        """Everything goes, also after a failure half-way."""
        self.try_podman("rm", "-f", "-t", "0", "-a")
        self.try_podman("system", "reset", "-f")
        if self.uid:
            self._argv(["podman", "unshare", "rm", "-rf", self.graph], check=False)
            self._argv(["podman", "system", "migrate"], check=False)
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def _argv(self, argv, check=True, timeout=120, env=None):
        who = {} if not self.uid else {"user": self.uid, "group": self.uid, "extra_groups": []}
        return run(*argv, check=check, timeout=timeout, env={**self.env, **(env or {})}, cwd=self.home, umask=0o022, **who)

    def text(self, *argv, **more):
        """Runs a program as the engine's user; returns what it prints."""
        return self._argv(argv, **more).stdout.decode(errors="surrogateescape").strip()

    def podman(self, *argv, **more):
        """Runs podman; returns what it prints."""
        return self.text("podman", *argv, **more)

    def buildah(self, *argv, **more):
        """Runs buildah; returns what it prints."""
        return self.text("buildah", *argv, **more)

    def try_podman(self, *argv):
        """Runs podman, which may fail."""
        self._argv(["podman", *argv], check=False)

    def inside(self, script, *argv, by="podman", **more):
        """Runs a shell script where the mounts of podman (or buildah) are seen: for the ordinary user, in its user namespace."""
        unshare = (by, "unshare") if self.uid else ()
        return self._argv([*unshare, "sh", "-eu", "-c", script, "sh", *argv], **more).stdout

    def tree(self, image):
        """The tree of an image as `podman image mount` shows it, and what is wrong with its inode numbers."""
        tier2 = os.path.dirname(HERE)
        shutil.copy(os.path.join(tier2, "trees.py"), self.home)
        place.write(f"{self.home}/read.py", READ)
        script = f'at=$(podman image mount "$1"); "$2" -B {self.home}/read.py {self.home} "$at"; podman image umount "$1" >/dev/null'
        return pickle.loads(self.inside(script, image, shutil.which("python3", path="/usr/bin") or sys.executable))

    def mounts(self):
        """The file systems that are mounted below this engine's storage, in its namespaces too."""
        lines = self.inside("cat /proc/self/mountinfo").decode(errors="replace").splitlines()
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
            lines += f.read().splitlines()
        places = {line.split()[4] for line in lines}
        # podman binds the storage's own directory to itself.
        return sorted(p for p in places if p.startswith((f"{self.graph}/", self.runtime + "/")) and not p.endswith("/overlay"))

    def running(self):
        """The processes of this engine's containers and mounts."""
        return [f"runs: {pid} {words[:200]}" for pid, words in place.processes().items() if self.home in words]

    def leftovers(self):
        """What a container that has gone should not have left: mounts, processes, locks on files."""
        for _ in range(50):
            left = [f"mounted: {p}" for p in self.mounts()] + self.running() + _locks(self.graph)
            if not left:
                break
            time.sleep(0.1)
        return left


def _locks(directory):
    """Locks that somebody holds on files below a directory."""
    inodes = {}
    for path, _, files in os.walk(directory):
        for name in files:
            try:
                st = os.lstat(f"{path}/{name}")
                inodes[(os.major(st.st_dev), os.minor(st.st_dev), st.st_ino)] = f"{path}/{name}"
            except FileNotFoundError:
                pass
    with open("/proc/locks", encoding="ascii") as f:
        fields = [field.split(":") for line in f for field in line.split() if field.count(":") == 2]
    held = {(int(major, 16), int(minor, 16), int(ino)) for major, minor, ino in fields}
    return [f"locked: {inodes[ino]}" for ino in held & inodes.keys()]
