"""An ordinary user loads and mounts the images that root has loaded.

Owners, modes and devices, which the user may not make, are kept in attributes; the mount has to show them. It is made
with no_default_permissions, so that the user, alone, can read what belongs to others there.
"""

import os
import pickle
import shutil
import subprocess
import sys

from trees import run

NOBODY = 65534
# One that the user can reach, which that of this program need not be.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
TAGS = ("odd-3", "gnu", "debian-3")
HERE = os.path.dirname(os.path.abspath(__file__))
# Prints the tree below its argument and what is wrong with its inode numbers.
READ = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from trees import identity_problems, snapshot
problems = []
tree = snapshot(sys.argv[2], problems=problems)
sys.stdout.buffer.write(pickle.dumps((tree, problems + identity_problems(tree))))
"""


def user(this):
    """Compares the trees that the user sees with those that root sees."""
    # The user need not be able to enter the scratch directory, nor those of the sources and of the program.
    home = "/run/home"
    os.mkdir(home)
    run("mount", "--bind", this.tools.dir("home"), home)
    os.chown(home, NOBODY, NOBODY)
    shutil.copy(os.path.join(os.path.dirname(HERE), "trees.py"), home)
    shutil.copy(this.tools.laminafs, f"{home}/laminafs")
    for tag in TAGS:
        ours = {path: _for_user(record) for path, record in this.tree(tag).items()}
        archive = f"{home}/{tag}.tar"
        this.tools.lamina("save", "-o", archive, this.images.name(tag), store=this.images.store(tag))
        os.chmod(archive, 0o644)
        _run(home, "load", "-i", archive)
        os.unlink(archive)
        tree, problems = _tree(home, this.images.name(tag))
        this.report(f"user: {tag}: inode numbers", problems)
        this.compare(f"user: {tag}: as root sees it", "user", tag, ours, tree)


def _for_user(record):
    """What an ordinary user may see of a record."""
    return type(record)(record, xattrs={k: v for k, v in record["xattrs"].items() if not k.startswith("trusted.")})


def _as_user(home, *argv):
    """Runs a program as the user; returns its output."""
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, "LC_ALL": "C"}
    done = subprocess.run(argv, user=NOBODY, group=NOBODY, extra_groups=[], env=env, cwd=home, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"as user: {argv[:6]}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def _run(home, *argv):
    return _as_user(home, f"{home}/laminafs", *argv).decode().strip()


def _tree(home, name):
    """The tree of an image in the user's store, and what is wrong with it."""
    place = f"{home}/mnt"
    _as_user(home, "mkdir", "-p", place)
    _run(home, "mount", "--rm", "-o", "no_default_permissions", name, place)
    try:
        return pickle.loads(_as_user(home, PYTHON, "-B", "-c", READ, home, place))
    finally:
        _run(home, "umount", place)
