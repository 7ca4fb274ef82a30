#!/usr/bin/env python3
"""How long podman takes to run, commit and build with laminafs, fuse-overlayfs and the kernel's overlay.

  tests/bench/podman.py --laminafs PROGRAM --debian ROOT [--scratch DIR] [--user root|user] [--only WORK] [--rounds N]

  run           podman run --rm of an image of busybox: from the start of the command to its end, with the mount and the unmount
  run-debian    the same of a Debian root
  commit        podman commit of a container of Debian in which two thousand files were added, two hundred changed, some hundred deleted
  build         podman build --no-cache of the Dockerfile of tests/tier2/podman/builds.py: two stages, ten steps, little data
  build-debian  the same on Debian: five steps that copy, change, move and delete some thousand files

ROOT is what `tests/tier2/debian_root.py --minimal --dir ROOT` makes. DIR has to be on a disk file system, with 4 GB free. Runs in
places of its own, as tests/tier2/podman does, and needs what that needs; fuse-overlayfs2 is measured where it is in /usr/local/bin.
In each round every contender does the work once, each round beginning with another one, after a round that is not measured.
Printed are medians of the seconds, and the median of the ratios to the kernel in the same round.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack

sys.dont_write_bytecode = True
TIER2 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2")
sys.path[:0] = [os.path.join(TIER2, "podman"), TIER2]

import builds
import images
import place
import private
from engine import PROGRAMS, Engine

KINDS = ("native", "fuse-overlayfs", "fuse-overlayfs2", "laminafs")
CHANGES = """
cp -a /usr/share/zoneinfo /usr/share/perl5 /srv
find /usr/share/zoneinfo -type f | head -n 200 | while read -r f; do echo >> "$f"; done
rm -rf /usr/share/doc
"""
DOCKERFILE = f"""FROM {images.DEBIAN}
RUN cp -a /usr/share /opt/share
RUN find /opt/share -type f | head -n 300 | xargs sed -i s/a/b/
RUN find /usr/share/zoneinfo -type f | head -n 100 | xargs chmod 600
RUN rm -rf /opt/share/zoneinfo /usr/share/doc
RUN mv /opt/share /srv/share
"""


def run_busybox(engine):
    engine.podman("run", "--rm", images.BUSYBOX, "true")


def run_debian(engine):
    engine.podman("run", "--rm", images.DEBIAN, "true")


def before_commit(engine):
    engine.podman("run", "--name", "changed", images.DEBIAN, "sh", "-euc", CHANGES)


def commit(engine):
    engine.podman("commit", "-q", "changed", "localhost/committed")


def after_commit(engine):
    engine.podman("rm", "-f", "changed")
    engine.podman("rmi", "localhost/committed")


def build(engine):
    engine.podman("build", "-q", "--no-cache", "-t", "localhost/built", builds.context(engine), timeout=300)


def build_debian(engine):
    directory = f"{engine.home}/debian-context"
    engine.inside('mkdir -p "$1"; printf %s "$2" > "$1/Dockerfile"', directory, DOCKERFILE)
    engine.podman("build", "-q", "--no-cache", "-t", "localhost/built", directory, timeout=300)


def after_build(engine):
    engine.podman("rmi", "localhost/built")
    engine.podman("image", "prune", "-f")


def nothing(_engine):
    """No preparation."""


# Before, the measured work, after.
WORK = {
    "run": (nothing, run_busybox, nothing),
    "run-debian": (nothing, run_debian, nothing),
    "commit": (before_commit, commit, after_commit),
    "build": (nothing, build, after_build),
    "build-debian": (nothing, build_debian, after_build),
}


def measure(engines, work, rounds):
    """The seconds of each engine in each round."""
    before, act, after = WORK[work]
    seconds = {engine.kind: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines[number % len(engines):] + engines[:number % len(engines)]:
            before(engine)
            os.sync()
            start = time.monotonic()
            act(engine)
            if number:
                seconds[engine.kind].append(time.monotonic() - start)
            after(engine)
    return seconds


def compare(args, user):
    """Measures all for one user and prints a table."""
    kinds = [kind for kind in KINDS if PROGRAMS[kind] is None or os.path.exists(PROGRAMS[kind])]
    print(f"\n{user}:\n| | " + " | ".join(kinds) + " |\n|---|" + "---:|" * len(kinds))
    with ExitStack() as stack:
        engines = [stack.enter_context(Engine(user, kind)) for kind in kinds]
        for engine in engines:
            engine.podman("import", "-q", images.busybox(), images.BUSYBOX)
            engine.podman("import", "-q", images.debian(os.path.abspath(args.debian)), images.DEBIAN, timeout=300)
        for work in WORK:
            if args.only not in (None, work):
                continue
            rounds = args.rounds * (3 if work.startswith("run") else 1)
            seconds = measure(engines, work, rounds)
            cells = []
            for kind in kinds:
                ratio = statistics.median(a / b for a, b in zip(seconds[kind], seconds["native"]))
                cells.append(f"{statistics.median(seconds[kind]):.2f} s" + (f" (×{ratio:.2f})" if kind != "native" else ""))
            print(f"| `{work}`, {rounds} rounds | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--debian", required=True, metavar="ROOT")
    parser.add_argument("--scratch", help="a directory on a disk file system (default: a temporary one)")
    parser.add_argument("--user", choices=("root", "user"))
    parser.add_argument("--only", choices=WORK)
    parser.add_argument("--rounds", type=int, default=3, help="of the longer ones; three times as many of run (default 3)")
    args = parser.parse_args()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    private.enter()
    scratch = tempfile.mkdtemp(prefix="laminafs-podman-", dir=args.scratch)
    try:
        place.prepare(scratch, program)
        for user in ("root", "user"):
            if args.user in (None, user):
                compare(args, user)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
