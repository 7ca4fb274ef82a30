#!/usr/bin/env python3
"""What single operations cost on a union: microseconds, and requests where the union counts them.

  tests/bench/operations.py --laminafs PROGRAM --dir DIR [--rounds N] [--count N]

DIR is on the file system to measure on (a tmpfs: the cost of the union itself; a disk file system: with its own). Beside
laminafs, with the page cache and with passthrough, stand the bare directory, kernel overlayfs, and fuse-overlayfs where
it is installed. Needs root. Every operation is done N times on different names, in a fresh mount; printed are medians
of the rounds. A call from Python costs some 0.3 to 1 microsecond, which is part of every figure.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2"))

import private
from contenders import adopt, find, mounted
from trees import run


def opened(path, flags, act=lambda fd: None):
    """Opens, acts and closes."""
    fd = os.open(path, flags, 0o644)
    act(fd)
    os.close(fd)


def missing(path):
    """Asks for what is not there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    sys.exit(f"{path} is there")


def listed(path):
    """Lists a directory of 20 files with their attributes."""
    with os.scandir(path) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)


def written(fd):
    """Writes 4 KiB 16 times."""
    for _ in range(16):
        os.write(fd, BLOCK)


BLOCK = b"x" * 4096

# Short names of those that are measured, beside the bare directory.
CONTENDERS = ("kernel", "laminafs", "passthrough", "fo1", "fo2")

# What is measured, in order: name, how often within one call, the call, given the mount and a number.
OPERATIONS = (
    ("stat, missing", 1, lambda m, n: missing(f"{m}/flat/no{n}")),
    ("stat, first", 1, lambda m, n: os.stat(f"{m}/flat/f{n}")),
    ("stat, again", 1, lambda m, n: os.stat(f"{m}/flat/f{n}")),
    ("list 20 files, first", 1, lambda m, n: listed(f"{m}/trees/d{n}")),
    ("list 20 files, again", 1, lambda m, n: listed(f"{m}/trees/d{n}")),
    ("open, read 4k, first", 1, lambda m, n: opened(f"{m}/flat/f{n}", os.O_RDONLY, lambda fd: os.read(fd, 4096))),
    ("open, read 4k, again", 1, lambda m, n: opened(f"{m}/flat/f{n}", os.O_RDONLY, lambda fd: os.read(fd, 4096))),
    ("create", 1, lambda m, n: opened(f"{m}/flat/new{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    ("write 4k", 16, lambda m, n: opened(f"{m}/flat/new{n}", os.O_WRONLY, written)),
    ("chmod, upper", 1, lambda m, n: os.chmod(f"{m}/flat/new{n}", 0o600)),
    ("rename, upper", 1, lambda m, n: os.rename(f"{m}/flat/new{n}", f"{m}/flat/other{n}")),
    ("unlink, upper", 1, lambda m, n: os.unlink(f"{m}/flat/other{n}")),
    ("mkdir", 1, lambda m, n: os.mkdir(f"{m}/flat/dir{n}")),
    ("rmdir", 1, lambda m, n: os.rmdir(f"{m}/flat/dir{n}")),
    ("chmod, lower", 1, lambda m, n: os.chmod(f"{m}/flat/f{n}", 0o600)),
    ("unlink, lower", 1, lambda m, n: os.unlink(f"{m}/flat/g{n}")),
)


def lower_layer(base, count):
    """The lower layer: flat files and small directories."""
    for n in range(count):
        os.makedirs(f"{base}/trees/d{n}")
        for f in range(20):
            open(f"{base}/trees/d{n}/f{f}", "w", encoding="utf-8").close()
    os.makedirs(f"{base}/flat")
    for n in range(count):
        for name in "fg":
            with open(f"{base}/flat/{name}{n}", "wb") as f:
                f.write(BLOCK)


class Bare:
    """No union: a copy of the layer."""

    title = "bare directory"

    def mount(self, place, lowers, _writable):
        os.rmdir(f"{place}/m")
        run("cp", "-a", *lowers, f"{place}/m")


def requests(program, mountpoint):
    """How many requests the kernel sent so far that it waited for."""
    stats = json.loads(run(program, "stats", "--json", mountpoint).stdout)["stats"]["requests"]
    return sum(count for kind, count in stats.items() if kind not in ("getxattr", "forget", "release"))


def measure(program, name, contender, lower, base, count):
    """Microseconds of each operation, and requests where they are counted."""
    counted = name in ("laminafs", "passthrough")
    times, asked = {}, {}
    with mounted(contender, [lower], base) as mount:
        mnt = f"{mount.place}/m"
        for what, times_in, act in OPERATIONS:
            before = requests(program, mnt) if counted else 0
            start = time.perf_counter()
            for n in range(count):
                act(mnt, n)
            times[what] = (time.perf_counter() - start) * 1e6 / count / times_in
            if counted:
                asked[what] = (requests(program, mnt) - before) / count / times_in
    return times, asked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    private.enter()
    adopt()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    found = find(program)
    wanted = {"bare": Bare()} | {key: found[key] for key in CONTENDERS if key in found}
    base = tempfile.mkdtemp(prefix="laminafs-operations-", dir=args.dir)
    try:
        lower_layer(f"{base}/lower", args.count)
        runs = {contender.title: [] for contender in wanted.values()}
        for _ in range(args.rounds):
            for key, contender in wanted.items():
                runs[contender.title].append(measure(program, key, contender, f"{base}/lower", base, args.count))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    table(runs)


def table(runs):
    """The medians, as a table of docs/PERFORMANCE.md; requests in brackets."""
    print("| microseconds (requests) |" + "".join(f" {name} |" for name in runs))
    print("|---|" + "---:|" * len(runs))
    for what, _, _ in OPERATIONS:
        cells = []
        for measured in runs.values():
            cell = f"{statistics.median(times[what] for times, _ in measured):.1f}"
            asked = measured[-1][1].get(what)
            cells.append(cell if asked is None else f"{cell} ({asked:.2f})")
        print(f"| {what} |" + "".join(f" {cell} |" for cell in cells))


if __name__ == "__main__":
    main()
