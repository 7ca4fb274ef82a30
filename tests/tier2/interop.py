#!/usr/bin/env python3
"""Kernel overlayfs and laminafs read, and go on with, each other's upper directories.

  interop.py --laminafs PROGRAM [--scratch DIR] [--keep]

On each kind of file system (DIR itself, a tmpfs, lowers on one and uppers on the other) a stack of
every marker and every feature is made, most of it by kernel overlayfs. Two rounds of operations
then run through each implementation, or the first round through one and the second through the
other. Checked, exit 1 on any difference:

  - each operation has the same outcome (success or errno) through both;
  - what the writer showed before the unmount is what the other, and itself, shows after it:
    kind, mode, owner, size, time, content, xattrs, link count, link groups;
  - the four final trees are equal (times written during the run aside);
  - through laminafs readdir, lstat and fstat agree on inode numbers, which are unique and are the
    same after a remount;
  - sparse files stay sparse, the lower layers stay as they were, and work directories hold no
    rubbish.

Needs root. Native mounts use redirect_dir=on,index=on,metacopy=on.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import interop_tree as model
from trees import Mount, differences, digest, identity_problems, run, snapshot

NATIVE = "redirect_dir=on,index=on,metacopy=on"


class Case:
    """One pair of file systems: where the lowers are and where the uppers are."""

    def __init__(self, name, lower, upper, program):
        self.name, self.lower, self.upper, self.program = name, lower, upper, program
        self.mnt = os.path.join(lower, "mnt")
        self.failures = 0

    def build(self):
        """Makes the stack; its data-only layer is last."""
        os.makedirs(self.mnt, exist_ok=True)
        for name in ("L1", "L2", "L3", "M", "D", "w2", "wm"):
            os.makedirs(f"{self.lower}/{name}")
        at = lambda name: f"{self.lower}/{name}"
        model.base_layer(at("L1"))
        model.kernel_layer(at("L2"), at("L1"), at("w2"), self.mnt, NATIVE)
        model.marker_layer(at("L3"))
        model.metacopy_layers(at("M"), at("D"), at("wm"), self.mnt, NATIVE)
        self.lowers, self.data = [at("L3"), at("M"), at("L2"), at("L1")], [at("D")]

    def mount(self, who, name):
        """Mounts the upper directory called name with who: 'kernel' or 'laminafs'."""
        program, options = (None, NATIVE) if who == "kernel" else (self.program, "dev")
        upper, work = f"{self.upper}/{name}.upper", f"{self.upper}/{name}.work"
        os.makedirs(upper, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        return Mount(program, self.mnt, self.lowers, upper, work, self.data, options)

    def report(self, title, lines):
        """Prints one check."""
        print(f"{'ok  ' if not lines else 'FAIL'} {self.name}: {title}")
        for line in lines[:25]:
            print(f"     {line}")
        if len(lines) > 25:
            print(f"     ... {len(lines)} in all")
        self.failures += bool(lines)

    def read(self, who, name):
        """The tree that who shows of an upper directory."""
        problems = []
        with self.mount(who, name) as m:
            tree = snapshot(m, problems=problems)
        if who == "laminafs":
            self.report(f"inode numbers, {name}", problems + identity_problems(tree))
        return tree

    def write(self, who, name, steps):
        """Runs steps with who; returns the outcomes and the tree shown before the unmount."""
        with self.mount(who, name) as m:
            outcome = model.perform(steps, m)
            tree = snapshot(m)
        return outcome, tree

    def check_round(self, writer, name, shown):
        """An upper directory reads the same through both implementations as its writer showed it."""
        other = "kernel" if writer == "laminafs" else "laminafs"
        self.report(f"{name}: written by {writer}, read by {other}", differences(shown, self.read(other, name)))
        again = self.read(writer, name)
        lines = differences(shown, again)
        if writer == "laminafs":
            lines += [f"{p!r}: inode {shown[p]['ino'][1]} became {again[p]['ino'][1]}" for p in shown.keys() & again.keys()
                      if shown[p]["ino"][1] != again[p]["ino"][1]]
        self.report(f"{name}: written and read again by {writer}", lines)

    def check_upper(self, name):
        """Holes survive in an upper directory, and the work directory is clean."""
        lines = []
        for copy in "ab":
            path = f"{self.upper}/{name}.upper/special/sparse-{copy}"
            if os.path.exists(path) and os.stat(path).st_blocks > model.HALF_SPARSE:
                lines.append(f"{path} lost its holes")
        left = os.listdir(f"{self.upper}/{name}.work/work")
        lines += [f"left in the work directory: {entry}" for entry in left if not entry.startswith("#") and entry != "incompat"]
        self.report(f"{name}: holes and work directory", lines)

    def all(self):
        """The whole comparison on this pair of file systems."""
        self.build()
        start = time.time_ns() - 20_000_000  # file systems take their time from a coarser clock
        before = [snapshot(l, raw=True) for l in self.lowers + self.data]
        base_kernel, base_ours = self.read("kernel", "untouched"), self.read("laminafs", "untouched")
        self.report("the stack without changes", differences(base_ours, base_kernel))
        outcomes, trees = {}, {}
        for first in ("laminafs", "kernel"):
            for second in ("laminafs", "kernel"):
                name = f"{first}-{second}"
                outcome, shown = self.write(first, name, model.FIRST)
                outcomes.setdefault("first", {})[first] = outcome
                trees.setdefault("first", {})[first] = shown
                if first == second:
                    self.check_round(first, name, shown)
                    self.check_upper(name)
                outcome, shown = self.write(second, name, model.SECOND)
                outcomes.setdefault("second", {})[name] = outcome
                trees.setdefault("second", {})[name] = shown
                self.check_round(second, name, shown)
                self.check_upper(name)
        ignore = lambda path, key, x, y: key == "mtime" and x["mtime"] >= start and y["mtime"] >= start
        for turn, done in outcomes.items():
            names = sorted(done)
            model_name = names[0]
            for other in names[1:]:
                lines = [f"{s}: {o} against {done[other][s]}" for s, o in done[model_name].items() if o != done[other][s]]
                self.report(f"outcomes of the {turn} round, {model_name} and {other}", lines)
                self.report(f"trees of the {turn} round, {model_name} and {other}",
                            differences(trees[turn][model_name], trees[turn][other], ignore))
        failed = {s: o for s, o in outcomes["first"]["kernel"].items() if o != "ok"}
        print(f"     {len(model.FIRST)} and {len(model.SECOND)} operations, {len(base_ours)} names; refused by the kernel: {failed}")
        after = [snapshot(l, raw=True) for l in self.lowers + self.data]
        for x, y, layer in zip(before, after, self.lowers + self.data):
            # Kernel overlayfs updates the access time of a lower file; laminafs alone is checked elsewhere.
            drop = lambda path, key, p, q: key == "atime"
            self.report(f"layer {os.path.basename(layer)} is as it was ({digest(x)[:8]})", differences(x, y, drop))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--scratch", help="a directory on a disk file system (default: a temporary one)")
    parser.add_argument("--only", help="disk, tmpfs or mixed")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    program = shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found")
    scratch = tempfile.mkdtemp(prefix="laminafs-interop-", dir=args.scratch)
    failures = 0
    try:
        os.mkdir(f"{scratch}/tmpfs")
        run("mount", "-t", "tmpfs", "tmpfs", f"{scratch}/tmpfs")
        for name, lower, upper in (("disk", "", ""), ("tmpfs", "tmpfs/", "tmpfs/"), ("mixed", "tmpfs/", "")):
            if args.only not in (None, name):
                continue
            lower, upper = f"{scratch}/{lower}{name}.l", f"{scratch}/{upper}{name}.u"
            os.makedirs(lower)
            os.makedirs(upper)
            case = Case(name, lower, upper, os.path.abspath(program))
            case.all()
            failures += case.failures
    finally:
        if args.keep:
            print(f"kept: {scratch}")
        else:
            run("umount", "-l", f"{scratch}/tmpfs", check=False)
            shutil.rmtree(scratch, ignore_errors=True)
    print("interoperation:", "equal" if not failures else f"{failures} checks failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
