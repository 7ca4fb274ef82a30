"""Public test suites on a laminafs mount: pjdfstest, fsx and stress-ng.

  python3 tests/tier2/suites --laminafs PROGRAM [--scratch DIR] [--long] [--only SUITE] [--results FILE]

Exits 1 when a case of pjdfstest passes on the bare file system and not on the mount (but for a list
of known ones, which must not pass), when a stressor fails on the mount and not on the bare file
system, when fsx sees wrong data, or when a run changes a lower layer or leaves something in the work
directory. DIR (default: the temporary directory) must not be a tmpfs or an overlayfs.

With --long in full length, also on kernel overlayfs and on fuse-overlayfs if that is installed; the
results go into docs/CONFORMANCE.md. With --results they are also kept in FILE, together with those that
are there from earlier runs, so that the suites can be run one at a time. Needs root, pjdfstest, fsx and
stress-ng.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import contenders
import fsx
import pjdfstest
import report
import stress
from trees import run

DOCUMENT = os.path.join(HERE, "../../../docs/CONFORMANCE.md")
DEFAULT, COLLECTING = "laminafs", "laminafs writeback=1"


@dataclasses.dataclass
class Amount:
    """How much is run: seconds a stressor; operations of fsx on disk (one seed) and on a tmpfs, with how many seeds."""

    stress: int
    disk: int
    tmpfs: int = 0
    seeds: dict = dataclasses.field(default_factory=dict)


SHORT = Amount(1, 5_000)
LONG = Amount(5, 20_000, 100_000, {DEFAULT: 10, COLLECTING: 3})


class Run:
    """One call of this program: where, with which suites, and what came out."""

    def __init__(self, arguments, scratch):
        self.amount = LONG if arguments.long else SHORT
        self.disk, self.tmpfs = f"{scratch}/disk", f"{scratch}/tmpfs"
        self.places = 0
        self.results, self.versions, self.wrong = {}, {}, []
        program = os.path.abspath(shutil.which(arguments.laminafs) or sys.exit(f"{arguments.laminafs}: not found"))
        self.ours = {
            DEFAULT: lambda base: contenders.Laminafs(base, program),
            COLLECTING: lambda base: contenders.Laminafs(base, program, COLLECTING, "dev,writeback=1"),
        }
        self.all = {"bare": contenders.Bare} | self.ours
        if arguments.long:
            self.all["overlayfs"] = contenders.overlayfs
            if peer := shutil.which("fuse-overlayfs2") or shutil.which("fuse-overlayfs"):
                self.all["fuse-overlayfs"] = lambda base: contenders.fuse_overlayfs(base, peer)
                version = run(peer, "--version").stdout.decode().splitlines()[0]
                self.versions["fuse-overlayfs"] = version.replace(": version", "")

    def new(self, who, parent=None):
        """A fresh contender in a directory of its own."""
        self.places += 1
        base = f"{parent or self.disk}/{self.places}"
        os.mkdir(base)
        return self.all[who](base)

    def complain(self, title, who, lines):
        """Notes what is wrong with one of our mounts; the others only go into the table."""
        if who in self.ours:
            self.wrong += lines
            for line in lines:
                print(f"FAIL {title}, {who}: {line}", flush=True)

    def done(self, title, who, started):
        """Says how one suite went on one contender."""
        result, seconds = self.results[title, who], time.monotonic() - started
        names = f": {', '.join(sorted(result.skipped))}" if result.skipped else ""
        print(f"     {title}, {who}: {result.cell()}{names} ({seconds:.0f} s)", flush=True)

    def pjdfstest(self, suite):
        """All cases, in a merged directory and in the root."""
        titles = ("pjdfstest", "pjdfstest, in the root")
        for who in self.all:
            contender = self.new(who)
            with contender:
                for title, directory in zip(titles, (contender.shared, contender.root)):
                    started = time.monotonic()
                    result = suite.run(directory, self.tmpfs if who == "bare" else directory)
                    self.results[title, who] = result
                    self.done(title, who, started)
                    self.complain(title, who, pjdfstest.verdict(self.results[title, "bare"], result))
            self.complain(titles[0], who, contender.problems())

    def stress(self, suite):
        """All stressors; what fails on a mount is tried on the bare file system as well."""
        title = f"stress-ng, {self.amount.stress} s each"
        whole = self.amount is LONG
        made = {who: self.new(who) for who in (self.all if whole else self.ours)}

        def one(who):
            started = time.monotonic()
            with made[who]:
                self.results[title, who] = suite.run(made[who].shared, self.amount.stress)
            self.done(title, who, started)

        # In the short run all mounts at once: the stressors end after a second, however much they got done.
        with concurrent.futures.ThreadPoolExecutor(1 if whole else len(made)) as threads:
            list(threads.map(one, made))
        for who, contender in made.items():
            result = self.results[title, who]
            excused = suite.run(self.new("bare").shared, self.amount.stress, list(result.failed)).failed
            for name in excused:
                print(f"     {title}, {name}: fails on the bare file system too: {excused[name]}")
            lines = [f"{name}: {why}" for name, why in result.failed.items() if name not in excused]
            self.complain(title, who, lines + contender.problems())

    def fsx(self, suite):
        """Random operations on disk and, in the long run, many more on a tmpfs, where syncing costs nothing."""
        amount, disk = self.amount, dict.fromkeys(self.all, 1)
        for where, parent, operations, seeds in (
            ("disk", self.disk, amount.disk, disk),
            ("tmpfs", self.tmpfs, amount.tmpfs, amount.seeds),
        ):
            title = f"fsx, {where}, {operations:,} operations a run"
            for who, number in seeds.items():
                started = time.monotonic()
                contender = self.new(who, parent)
                self.results[title, who] = result = suite.run(contender, range(1, number + 1), operations)
                self.done(title, who, started)
                lines = [f"{name}: {why}" for name, why in result.failed.items()]
                self.complain(title, who, lines + contender.problems())


def perform(arguments, scratch):
    """Runs the suites asked for; returns what is wrong."""
    this = Run(arguments, scratch)
    suites = {}
    if arguments.only in (None, "pjdfstest"):
        suites["pjdfstest"] = pjdfstest.Suite(scratch, this.tmpfs)
    if arguments.only in (None, "fsx"):
        suites["fsx"] = fsx.Suite(scratch)
    if arguments.only in (None, "stress"):
        suites["stress"] = stress.Suite()
    for name, suite in suites.items():
        this.versions[name] = suite.version()
        getattr(this, name)(suite)
    if arguments.results:
        report.merge(arguments.results, this.results, this.versions)
    if arguments.long and (arguments.only is None or arguments.results):
        disk = run("findmnt", "-n", "-o", "FSTYPE", "-T", scratch).stdout.decode().strip()
        report.write(DOCUMENT, this.results, this.versions, disk)
    return this.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--scratch", help="a directory on a disk file system")
    parser.add_argument("--long", action="store_true", help="in full length, with peers, into docs/CONFORMANCE.md")
    parser.add_argument("--only", choices=("pjdfstest", "fsx", "stress"))
    parser.add_argument("--results", help="keep the results here, and take over those of earlier runs")
    arguments = parser.parse_args()
    contenders.leave_namespace()
    scratch = tempfile.mkdtemp(prefix="laminafs-suites-", dir=arguments.scratch)
    os.chmod(scratch, 0o755)  # pjdfstest goes on as other users
    for name in ("disk", "tmpfs"):
        os.mkdir(f"{scratch}/{name}")
    run("mount", "-t", "tmpfs", "tmpfs", f"{scratch}/tmpfs")
    try:
        wrong = perform(arguments, scratch)
    finally:
        run("umount", "-l", f"{scratch}/tmpfs", check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print("suites:", "passed" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
