"""Mounts and files of container tools that nobody else sees and that end with the program."""

import os
import sys

from trees import run

MARK = "LAMINAFS_PRIVATE_MOUNTS"
# podman and buildah write into these, whatever storage they are given.
HIDDEN = ("/run", "/dev/shm", "/var/lib")


def enter():
    """Starts the running program again in a mount namespace of its own, unless it is in one."""
    if os.environ.get(MARK) == "1":
        del os.environ[MARK]
        return
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv])


def hide():
    """Covers the directories that container tools share; to be called after enter()."""
    for directory in HIDDEN:
        run("mount", "-t", "tmpfs", "-o", "mode=1777" if directory == "/dev/shm" else "mode=755", "tmpfs", directory)
