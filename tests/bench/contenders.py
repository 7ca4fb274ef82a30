"""The union file systems that the benchmarks compare, and how each is mounted and ended."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2"))

from trees import escape, run

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Contender(NamedTuple):
    """A union file system: its name in tables, and the words of the command that mounts it.

    `{m}` in a word is the mount point; `{options}` the options lowerdir, and upperdir and workdir where there is an
    upper directory; `{branches}` the same directories in the way of unionfs-fuse.
    """

    title: str
    command: tuple

    def mount(self, place, lowers, writable=True):
        """Mounts at `m` of a place, over its `u` and `w` where the mount is to be writable."""
        options = "lowerdir=" + ":".join(map(escape, lowers))
        branches = ":".join(f"{lower}=RO" for lower in lowers)
        if writable:
            options += f",upperdir={escape(f'{place}/u')},workdir={escape(f'{place}/w')}"
            branches = f"{place}/u=RW:{branches}"
        run(*[word.format(options=options, branches=branches, m=f"{place}/m") for word in self.command])


def find(laminafs):
    """The contenders that are installed, by a short name: kernel overlayfs is always the first.

    fuse-overlayfs 1.x and 2.x are different programs; of the second one looks for `fuse-overlayfs2`, too. mergerfs is
    none: it has no copy-on-write. All allow device nodes, as a container root needs them. The others sync no copy-up, as
    laminafs with `volatile` does not.
    """
    ours = lambda more: (laminafs, "mount", "-o", "{options},dev" + more, "{m}")
    found = {
        "kernel": Contender("kernel overlayfs", ("mount", "-t", "overlay", "overlay", "-o", "{options}", "{m}")),
        "laminafs": Contender("laminafs", ours("")),
        "passthrough": Contender("laminafs, passthrough", ours(",data=passthrough")),
        "writeback": Contender("laminafs, writeback", ours(",writeback=1")),
        "volatile": Contender("laminafs, volatile", ours(",volatile")),
    }
    for program in filter(shutil.which, ("fuse-overlayfs", "fuse-overlayfs2")):
        said = run(program, "--version").stdout.decode()
        version = re.search(r"fuse-overlayfs:? (?:version )?(\d+)(\S*)", said) or sys.exit(f"{program}: which version? {said}")
        found[f"fo{version[1]}"] = Contender(f"fuse-overlayfs {version[1]}{version[2]}", (program, "-o", "{options},dev", "{m}"))
    if shutil.which("unionfs"):
        found["unionfs"] = Contender("unionfs-fuse", ("unionfs", "-o", "cow,allow_other,dev,suid", "{branches}", "{m}"))
    return found


def some(wanted, found, what):
    """Those of the found ones that are wanted; all when none are named."""
    unknown = [name for name in wanted or () if name not in found]
    if unknown:
        sys.exit(f"no such {what}: {', '.join(unknown)}; there are {', '.join(found)}")
    return {name: found[name] for name in found if not wanted or name in wanted}


def adopt():
    """Has daemons become children of this program, so that `reap` can wait for them; ends by SIGTERM as by Ctrl-C."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def children():
    """Processes whose parent is this one."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as f:
        return [int(pid) for pid in f.read().split()]


def reap(pids, patience=10):
    """Waits until these children ended, and ends those that do not."""
    deadline = time.monotonic() + patience
    pids = set(pids)
    while pids:
        pids -= {pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0]}
        if time.monotonic() > deadline:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


class Mounted(NamedTuple):
    """What `mounted` gives: the place, with `u`, `w` and the mount point `m`, what mounting took, and the daemons."""

    place: str
    seconds: float
    daemons: list


@contextlib.contextmanager
def mounted(contender, lowers, base, writable=True, keep=False):
    """Mounts a contender in a new place below `base`; unmounts it, and removes the place unless it is to be kept.

    Needs `adopt`. The daemon has ended when this is left.
    """
    place = tempfile.mkdtemp(prefix="run-", dir=base)
    for part in "uwm":
        os.mkdir(f"{place}/{part}")
    before = children()
    try:
        start = time.monotonic()
        contender.mount(place, lowers, writable)
        os.listdir(f"{place}/m")
        yield Mounted(place, time.monotonic() - start, [pid for pid in children() if pid not in before])
    finally:
        if os.path.ismount(f"{place}/m") and subprocess.run(["umount", f"{place}/m"], check=False).returncode:
            run("umount", "-l", f"{place}/m", check=False)
        reap(pid for pid in children() if pid not in before)
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


def ratio(ours, theirs):
    """The median of the ratios within a round; None when one run failed."""
    if None in ours or None in theirs:
        return None
    return statistics.median(x / y for x, y in zip(ours, theirs))
