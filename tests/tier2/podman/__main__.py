"""podman and buildah, by root and by an ordinary user, with laminafs as their mount_program.

  python3 tests/tier2/podman --laminafs PROGRAM [--scratch DIR] [--debian ROOT] [--only PART] [--user root|user] [--long]

  setup       examples/storage.conf, --storage-opt, and the name fuse-overlayfs on PATH; system reset
  containers  run, exec, diff, commit (also of a running container), cp, image mount, save, load, volumes with :O, rmi, prune
  builds      podman build of a Dockerfile with two stages and ten steps; buildah from, mount, run, copy, commit
  many        two containers that write at once on one image; thirty started and stopped
  layers      a script of changes, committed: the layer and the tree are those of fuse-overlayfs and of the kernel's overlay
  packages    apt-get, dpkg and SQLite in a container of Debian, which needs the network (ordinary user: with --long)

After each part no mount, no process and no lock may be left. ROOT is a Debian root directory, which is left as it is; without
it debootstrap makes one (a minute). DIR (default: the temporary directory) must be on a disk file system. The ordinary user, its
subordinate ids, and the configuration files exist in a mount namespace only. Needs root and the programs that place.py names.
Exits 0 when all is as expected.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import builds
import containers
import layers
import many
import packages
import place
import private
import setup
from debian_root import minimal
from engine import Engine

PARTS = {"setup": setup, "containers": containers, "builds": builds, "many": many, "layers": layers, "packages": packages}


class Run:
    """One call of this program: what failed."""

    def __init__(self, debian):
        self.debian, self.failures = debian, 0

    def report(self, engine, title, lines):
        """Prints one check."""
        print(f"{'ok  ' if not lines else 'FAIL'} {engine.user}: {title}", flush=True)
        for line in lines[:20]:
            print(f"     {line[:600]}")
        if len(lines) > 20:
            print(f"     ... {len(lines)} in all")
        self.failures += bool(lines)

    def expect(self, engine, title, got, wanted):
        """A check of one value."""
        self.report(engine, title, [] if got == wanted else [f"{got!r}, expected {wanted!r}"])

    def read(self, engine, image):
        """The tree of an image, with a check of its inode numbers."""
        tree, problems = engine.tree(image)
        self.report(engine, f"inode numbers of {image}", problems)
        return tree


def check(args, scratch, program):
    """Runs the parts for both users; returns how many checks failed."""
    start = time.monotonic()
    parts = [part for part in PARTS if args.only in (None, part)]
    debian = args.debian and os.path.abspath(args.debian)
    if "packages" in parts and not debian:
        debian = minimal(f"{scratch}/debian")
        print(f"     a Debian root after {time.monotonic() - start:.0f} s", flush=True)
    place.prepare(scratch, program)
    this = Run(debian)
    for user in ("root", "user"):
        if args.user not in (None, user):
            continue
        with Engine(user, "laminafs") as engine:
            for part in parts:
                if part == "packages" and user == "user" and not (args.long or args.only):
                    continue
                try:
                    getattr(PARTS[part], part)(this, engine)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    this.report(engine, part, [str(error)])
                print(f"     {user}: {part} done after {time.monotonic() - start:.0f} s", flush=True)
        this.report(engine, "nothing is left at the end", engine.running())
    return this.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--scratch", help="a directory on a disk file system (default: a temporary one)")
    parser.add_argument("--debian", metavar="ROOT")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--user", choices=("root", "user"))
    parser.add_argument("--long", action="store_true")
    args = parser.parse_args()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    private.enter()
    scratch = tempfile.mkdtemp(prefix="laminafs-podman-", dir=args.scratch)
    try:
        failures = check(args, scratch, program)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("podman:", "as expected" if not failures else f"{failures} checks failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
