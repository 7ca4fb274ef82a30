"""The machine as podman and buildah find it: a mount namespace in which all that they share is the test's own.

/run, /dev/shm and /var/lib are empty (private.py), /etc/containers is a copy, and an ordinary user with ranges of
subordinate ids exists, without that a file of the machine is changed. Cgroups are version 2 without controllers, since a
machine that has both versions gives crun none that it could use.
"""

import os
import shutil

import private
from trees import run

UID = 4242
USER = "laminafs-test"
FIRST_ID, IDS = 1_000_000, 65536
# Where the scratch directory is reached by everybody, whoever owns the directories above it.
ROOT = "/run/laminafs-test"
NEEDED = ("podman", "buildah", "crun", "conmon", "fuse-overlayfs", "newuidmap", "newgidmap", "busybox", "setfattr", "tar")

# No cgroups and no network of their own, limits that are below every hard limit, and so few locks that thirty containers
# cannot be had one after another if one is left behind.
CONTAINERS = """
[containers]
cgroups = "disabled"
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
num_locks = 24
[network]
network_config_dir = "{home}/network"
"""


def prepare(scratch, laminafs):
    """Makes the place; the caller is in a mount namespace of its own (private.enter)."""
    missing = [program for program in NEEDED if not shutil.which(program)]
    if missing:
        raise SystemExit(f"not found: {', '.join(missing)}")
    run("mount", "--make-rprivate", "/")
    private.hide()
    os.mkdir(ROOT)
    run("mount", "--bind", scratch, ROOT)
    os.chmod(ROOT, 0o755)
    _cgroups()
    _user()
    shutil.copy(laminafs, f"{ROOT}/laminafs")
    os.chmod(f"{ROOT}/laminafs", 0o755)
    shutil.copytree("/etc/containers", f"{ROOT}/etc-containers", symlinks=True)
    _bind("etc-containers", "/etc/containers")
    # Rootless podman warns of any other.
    run("mount", "--make-rshared", "/")


def _cgroups():
    run("umount", "-R", "/sys/fs/cgroup")
    run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")


def _user():
    """A user with subordinate ids, in copies of the files that say so."""
    lines = {
        "passwd": f"{USER}:x:{UID}:{UID}::{ROOT}:/bin/sh\n",
        "group": f"{USER}:x:{UID}:\n",
        "subuid": f"{USER}:{FIRST_ID}:{IDS}\n",
        "subgid": f"{USER}:{FIRST_ID}:{IDS}\n",
    }
    for name, line in lines.items():
        with open(f"/etc/{name}", encoding="utf-8") as f:
            write(f"{ROOT}/{name}", f.read() + line)
        _bind(name, f"/etc/{name}")


def _bind(name, over):
    run("mount", "--bind", f"{ROOT}/{name}", over)


def write(path, text):
    """Writes a small file that everybody can read."""
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o644)


def processes():
    """The processes whose command lines name the place: process id to command line. Zombies have none."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as f:
                words = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if ROOT in words and int(name) != os.getpid():
            found[int(name)] = words
    return found
