#!/usr/bin/env python3
"""What many mounts of one image take of memory.

  tests/bench/mounts.py --laminafs PROGRAM --debian DEBIAN [--mounts N] [--contenders NAME,...]

DEBIAN holds the layers that `tests/tier2/debian_root.py --layers-only --dir DEBIAN` makes. They are read into the page
cache; then N mounts of them (ten by default) are made without an upper directory, as read-only containers have them,
and all of /usr is read through one after the other. Printed are, in MB, how much the page cache (Cached in
/proc/meminfo) and the kernel's own objects (Slab) have grown after the first mount and after the last, what the daemons
hold (Pss: pages that they share, such as the program, are counted once), and the seconds that a reading took.
Contenders are those of workloads.py but `writeback`: `laminafs` has data=cache, by default. Needs root, and a machine on
which little else goes on.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2"))

import private
from contenders import adopt, find, mounted, some
from suite import read_all


def meminfo():
    """Kilobytes by name."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return {line.split(":")[0]: int(line.split()[1]) for line in f}


def pss(pid):
    """Kilobytes that a process holds, its part of shared pages included."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def measure(contender, lowers, base, mounts):
    """Growth in kilobytes after the first and the last mount: page cache, objects, daemons; and seconds of each reading."""
    before = meminfo()
    grown, seconds, daemons = [], [], []
    with contextlib.ExitStack() as all_mounts:
        for number in range(mounts):
            mount = all_mounts.enter_context(mounted(contender, lowers, base, writable=False))
            daemons += mount.daemons
            start = time.monotonic()
            read_all(f"{mount.place}/m/usr")
            seconds.append(time.monotonic() - start)
            if number in (0, mounts - 1):
                now = meminfo()
                grown.append((now["Cached"] - before["Cached"], now["Slab"] - before["Slab"], sum(map(pss, daemons))))
    return grown, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--debian", required=True)
    parser.add_argument("--mounts", type=int, default=10)
    parser.add_argument("--contenders", type=lambda text: text.split(","))
    args = parser.parse_args()
    private.enter()
    adopt()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    found = find(program)
    chosen = some(args.contenders, {key: found[key] for key in found if key != "writeback"}, "contender")
    lowers = [os.path.abspath(f"{args.debian}/{layer}") for layer in ("L3", "L2", "L1")]
    for lower in lowers:
        read_all(lower)
    base = tempfile.mkdtemp(prefix="laminafs-mounts-")
    try:
        measured = {c.title: measure(c, lowers, base, args.mounts) for c in chosen.values()}
    finally:
        shutil.rmtree(base, ignore_errors=True)
    table(measured, args.mounts)


def table(measured, mounts):
    """The figures, as a table of docs/PERFORMANCE.md."""
    print(f"| MB after 1 mount, after {mounts} | page cache | kernel objects | daemons | seconds to read |")
    print("|---|---:|---:|---:|---:|")
    for title, (grown, seconds) in measured.items():
        columns = [", ".join(f"{figure / 1024:.0f}" for figure in figures) for figures in zip(*grown)]
        print(f"| {title} | {' | '.join(columns)} | {seconds[0]:.2f}, then {statistics.median(seconds[1:] or seconds):.2f} |")


if __name__ == "__main__":
    main()
