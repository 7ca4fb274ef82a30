#!/usr/bin/env python3
"""What the number of layers costs: mounting, the first look into a merged directory, and names after that.

  tests/bench/layers.py --laminafs PROGRAM --dir DIR [--rounds N] [--layers 3,500]

DIR is on the file system to measure on. Beside laminafs stand kernel overlayfs, mounted through fsconfig(2) with
`lowerdir+` (mount(8) passes no more than a page of options; Linux 6.7), and fuse-overlayfs where it is installed. Needs root.
Every layer has the directory d with one name that all have; the lowest has 1,000 more, and these are asked for. Printed
are medians of the rounds: milliseconds to mount and for first looks, microseconds for each name after that.
"""

import argparse
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2"))

import contenders
import private

NAMES = 1000
MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 429, 430, 431, 432
SET_STRING, CREATE = 1, 6
FROM_EMPTY_PATH = 4
AT_FDCWD = -100

LIBC = ctypes.CDLL(None, use_errno=True)


def syscall(number, *args):
    """A system call that Python has no name for."""
    result = LIBC.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


class Kernel(NamedTuple):
    """Kernel overlayfs, with one option a layer."""

    title: str = "kernel overlayfs"

    def mount(self, place, lowers):
        """Mounts at `m` of a place, over its `u` and `w`."""
        fs = syscall(FSOPEN, b"overlay", 0)
        options = [("lowerdir+", lower) for lower in lowers] + [("upperdir", f"{place}/u"), ("workdir", f"{place}/w")]
        for key, value in options:
            syscall(FSCONFIG, fs, SET_STRING, key.encode(), value.encode(), 0)
        syscall(FSCONFIG, fs, CREATE, None, None, 0)
        mount = syscall(FSMOUNT, fs, 0, 0)
        syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, f"{place}/m".encode(), FROM_EMPTY_PATH)
        os.close(mount)
        os.close(fs)


def unions(program):
    """What is compared."""
    found = contenders.find(program)
    others = [found[name] for name in found if name.startswith("fo")]
    return [found["laminafs"], Kernel(), *others]


def make_layers(base, count):
    """The layers, topmost first."""
    lowers = [f"{base}/L{n}" for n in range(count)]
    for lower in lowers:
        os.makedirs(f"{lower}/d")
        open(f"{lower}/d/everywhere", "w", encoding="utf-8").close()
    for n in range(NAMES):
        open(f"{lowers[-1]}/d/f{n}", "w", encoding="utf-8").close()
    return lowers


def missing(path):
    """Asks for what is not there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    sys.exit(f"{path} is there")


def each(act):
    """Does it for every name."""
    return lambda m: [act(f"{m}/d", n) for n in range(NAMES)]


# What is measured after mounting, in order: name, unit, the figure of one second in it, the call.
STEPS = (
    ("first look into the root", "ms", 1e3, lambda m: missing(f"{m}/no")),
    ("first look into a directory of all layers", "ms", 1e3, lambda m: missing(f"{m}/d/no")),
    ("stat, first", "µs", 1e6 / NAMES, each(lambda d, n: os.stat(f"{d}/f{n}"))),
    ("stat, again", "µs", 1e6 / NAMES, each(lambda d, n: os.stat(f"{d}/f{n}"))),
    ("stat, missing", "µs", 1e6 / NAMES, each(lambda d, n: missing(f"{d}/no{n}"))),
    ("list 1,001 names, first", "ms", 1e3, lambda m: os.listdir(f"{m}/d")),
    ("list 1,001 names, again", "ms", 1e3, lambda m: os.listdir(f"{m}/d")),
)


def measure(union, lowers, base):
    """The figure of each step in a fresh mount."""
    place = tempfile.mkdtemp(prefix="run-", dir=base)
    for part in "uwm":
        os.mkdir(f"{place}/{part}")
    start = time.perf_counter()
    union.mount(place, lowers)
    os.stat(f"{place}/m/.")
    figures = {"mount": (time.perf_counter() - start) * 1e3}
    try:
        for what, _, scale, act in STEPS:
            start = time.perf_counter()
            act(f"{place}/m")
            figures[what] = (time.perf_counter() - start) * scale
    finally:
        subprocess.run(["umount", f"{place}/m"], check=True)
    shutil.rmtree(place)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", default="3,500")
    args = parser.parse_args()
    private.enter()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    counts = [int(count) for count in args.layers.split(",")]
    base = tempfile.mkdtemp(prefix="laminafs-layers-", dir=args.dir)
    runs = {}
    try:
        lowers = make_layers(base, max(counts))
        for _ in range(args.rounds):
            for union in unions(program):
                for count in counts:
                    runs.setdefault((union.title, count), []).append(measure(union, lowers[-count:], base))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    table(runs)


def table(runs):
    """The medians, as a table of docs/PERFORMANCE.md."""
    print("| |" + "".join(f" {name}, {count} |" for name, count in runs))
    print("|---|" + "---:|" * len(runs))
    for what, unit in [("mount", "ms"), *((what, unit) for what, unit, _, _ in STEPS)]:
        cells = [statistics.median(figures[what] for figures in measured) for measured in runs.values()]
        print(f"| {what} ({unit}) |" + "".join(f" {cell:.{1 if cell >= 10 else 2}f} |" for cell in cells))


if __name__ == "__main__":
    main()
