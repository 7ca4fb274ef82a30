#!/usr/bin/env python3
"""What a walk of a million files costs the daemon, and what it gives back.

  memory.py --laminafs PROGRAM [--files N] [--limit DESCRIPTORS]

A tree of N files (default a million, a thousand in a directory) is made in a tmpfs, mounted as a lower
layer, walked with a stat of each name, and forgotten through /proc/sys/vm/drop_caches; twice, as what is
lost in a round shows in the second. Exits 1 when the daemon then still knows more than a hundredth of what
it knew, keeps more than a quarter of the memory that the walk took, needs more than 400 bytes for a name, or ever has
more descriptors open than it may (256 by default). Needs root, and 1.5 GB of memory for a million.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from trees import Mount, run

IN_A_DIRECTORY = 1000


def make_tree(root, files):
    """Makes the files; returns the number of names."""
    directories = -(-files // IN_A_DIRECTORY)
    for d in range(directories):
        path = f"{root}/part-{d // 100}/directory-{d}"
        os.makedirs(path)
        here = os.open(path, os.O_RDONLY)
        for f in range(min(IN_A_DIRECTORY, files - d * IN_A_DIRECTORY)):
            os.close(os.open(f"a-file-name-{f:05}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
    return files + directories + -(-directories // 100)


def walk(root):
    """Looks at every name; returns how many there are."""
    count, pending = 0, [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                if entry.stat(follow_symlinks=False).st_mode & 0o170000 == 0o040000:
                    pending.append(entry.path)
    return count


class Daemon:
    """What is seen of the daemon of a mount from outside."""

    def __init__(self, mnt):
        self.mnt = mnt
        self.pid = int(os.getxattr(mnt, "user.laminafs.pid"))

    def known(self):
        return json.loads(os.getxattr(self.mnt, "user.laminafs.stats"))["known_inodes"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self):
        """Resident anonymous memory in bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))

    def forgotten(self, below, patience=30):
        """Drops the kernel's caches until the daemon knows no more than `below`; false when that never happens."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
                drop.write("2")
            if self.known() <= below:
                time.sleep(1)  # what is freed in the background
                return True
            time.sleep(0.2)
        return False


def examine(daemon, names):
    """Walks and forgets twice; returns what is wrong."""
    wrong = []
    check = lambda good, what: None if good else wrong.append(what)
    before = daemon.memory()
    for turn in (1, 2):
        started = time.monotonic()
        check(walk(daemon.mnt) == names, f"walk {turn} does not see every name")
        seconds, full, known, fds = time.monotonic() - started, daemon.memory(), daemon.known(), daemon.descriptors()
        check(known >= names, f"walk {turn}: {known:,} known of {names:,}")
        check(full - before <= 400 * names, f"walk {turn}: {(full - before) / names:.0f} bytes a name")
        check(daemon.forgotten(names // 100), f"walk {turn}: {daemon.known():,} objects are still known")
        empty = daemon.memory()
        check(empty - before <= (full - before) // 4, f"walk {turn}: {empty >> 20} MB kept of {full >> 20}")
        print(
            f"walk {turn}: {seconds:.1f} s; {known:,} known, {full / 1e6:.1f} MB, {(full - before) / names:.0f} bytes a name, "
            f"{fds} descriptors; dropped: {daemon.known():,} known, {empty / 1e6:.1f} MB, {daemon.descriptors()} descriptors"
        )
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--limit", type=int, default=256, help="descriptors that the daemon, and this program, may have")
    arguments = parser.parse_args()
    base = tempfile.mkdtemp(prefix="laminafs-memory-")
    try:
        run("mount", "-t", "tmpfs", "-o", "mode=0755,nr_inodes=0", "tmpfs", base)
        lower, upper, work, mnt = (f"{base}/{name}" for name in ("lower", "upper", "work", "mnt"))
        for path in (lower, upper, work):
            os.mkdir(path)
        names = make_tree(lower, arguments.files)
        resource.setrlimit(resource.RLIMIT_NOFILE, (arguments.limit, arguments.limit))
        with Mount(arguments.laminafs, mnt, [lower], upper, work):
            wrong = examine(Daemon(mnt), names)
    finally:
        run("umount", "-l", base, check=False)
        os.rmdir(base)
    for line in wrong:
        print(f"FAIL memory: {line}")
    print("memory:", "passed" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
