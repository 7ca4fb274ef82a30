#!/usr/bin/env python3
"""Layers on every file system that this kernel has: each works as under kernel overlayfs, or says why it cannot.

  filesystems.py --laminafs PROGRAM

One lower layer with an example of everything (interop_tree.py) is put on ext4, XFS, Btrfs, tmpfs, EROFS and squashfs, a
read-only bind mount, a mount of laminafs and one of kernel overlayfs; upper directories are on ext4, XFS, Btrfs, tmpfs and
another mount of laminafs.
The first round of operations of interop.py runs on each through laminafs and, on a copy of the same, through
kernel overlayfs: outcomes and trees have to be equal, times written meanwhile aside. So they have to be where whiteouts are
made in another form: upper directories on kernel overlayfs and ramfs, and on a tmpfs when system calls are refused (without.py); there
the kernel's upper is on a tmpfs. Such an upper is then read as a lower layer by kernel overlayfs, and refused by --kernel. Upper
directories on what cannot hold one have to be refused with a sentence. Images are files on a tmpfs, mounted through loop devices, in a mount namespace
of its own. Needs root, kernel overlayfs and the mkfs programs of the file systems. Exits 1 on any difference.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import interop_tree as model
import private
from trees import Mount, differences, run, snapshot

DISKS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}
# Version 1.5 of mkfs.erofs (Debian 12) fails at one of the odd names.
READ_ONLY = {"erofs": ["mkfs.erofs", "-T0", "--exclude-path=names", "{image}", "{source}"], "squashfs": ["mksquashfs", "{source}", "{image}", "-quiet"]}
SIZE = 400 << 20
WITHOUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "without.py")
# What an upper directory is refused with.
UNSUITABLE = {"squashfs": "Read-only file system", "vfat": "comparing it with workdir"}
# Steps that need attributes in upper: set there, or copied up.
ATTRIBUTES = re.compile("xattr|ACL|capab|opaque$|acl|metacopy|link|links|special dir rename")


class Bench:
    """Where everything is mounted."""

    def __init__(self, base, program):
        self.base, self.program, self.failures, self.mounted = base, program, 0, []
        self.source = self.place("source")
        model.base_layer(self.source)

    def place(self, name):
        """A directory of the scratch tmpfs."""
        path = f"{self.base}/{name}"
        os.makedirs(path)
        return path

    def mount(self, name, *arguments):
        """Mounts at a place of this name."""
        path = self.place(name)
        run("mount", *arguments, path)
        self.mounted.append(path)
        return path

    def image(self, name, kind, mkfs):
        """A new file system in a file, mounted."""
        image = f"{self.base}/{name}.image"
        with open(image, "wb") as f:
            f.truncate(SIZE)
        run(*mkfs, image)
        return self.mount(name, "-t", kind, "-o", "loop", image)

    def filled(self, kind, mkfs):
        """A read-only image made of the layer."""
        image = f"{self.base}/{kind}.image"
        run(*[word.format(image=image, source=self.source) for word in mkfs])
        return self.mount(kind, "-t", kind, "-o", "loop,ro", image)

    def lowers(self):
        """Name and directory of each lower layer."""
        for kind, mkfs in DISKS.items():
            path = f"{self.image(kind, kind, mkfs)}/layer"
            run("cp", "-a", "--sparse=always", self.source, path)
            yield kind, path
        yield "tmpfs", self.source
        for kind, mkfs in READ_ONLY.items():
            yield kind, self.filled(kind, mkfs)
        path = self.mount("bind", "--bind", self.source)
        run("mount", "-o", "remount,bind,ro", path)
        yield "read-only bind mount", path
        empty = self.place("empty")
        yield "kernel overlayfs", self.mount("overlay", "-t", "overlay", "overlay", "-o", f"lowerdir={self.source}:{empty}")
        path = self.place("laminafs")
        run(self.program, "mount", "-o", f"dev,lowerdir={self.source}", path)
        self.mounted.append(path)
        yield "laminafs", path

    def uppers(self):
        """Name and directory of each place for upper directories."""
        for kind in DISKS:
            yield kind, f"{self.base}/{kind}"
        path, upper, work = self.place("union"), self.place("union-u"), self.place("union-w")
        run(self.program, "mount", "-o", f"dev,lowerdir={self.place('nothing')},upperdir={upper},workdir={work}", path)
        self.mounted.append(path)
        yield "laminafs", path

    def report(self, title, lines):
        """Prints one check."""
        print(f"{'ok  ' if not lines else 'FAIL'} {title}")
        for line in lines[:12]:
            print(f"     {line}")
        if len(lines) > 12:
            print(f"     ... {len(lines)} in all")
        self.failures += bool(lines)

    def compare(self, lower_name, lower, upper_name, upper, kernel_upper=None, without="", attributes=True):
        """The same operations through both. What is without is refused to laminafs (without.py). Without attributes what
        needs them is left out: hard links too.

        Kernel overlayfs gives a file of EROFS and squashfs no access control list, as these have none. Over another
        overlayfs it does not know which names are one file, so that hard links are not compared there. On a FUSE file
        system that removes set-id bits and capabilities itself, it loses those of what it copies up.
        """
        left_out = ["set ACL"] if lower_name in READ_ONLY else []
        left_out += ["chown capable", "write to suid"] if upper_name == "laminafs" else []
        steps = {name: step for name, step in model.FIRST.items() if name not in left_out}
        if kernel_upper or without:
            # A name of more than 251 bytes leaves a directory by a copy only; ramfs makes no holes.
            steps = {name: step for name, step in steps.items() if name not in ("odd dir rename", "punch")}
        if not attributes:
            steps = {name: step for name, step in steps.items() if not ATTRIBUTES.search(name)}
        program = self.program
        if without:
            os.environ.update(LAMINAFS_PROGRAM=program, LAMINAFS_WITHOUT=without)
            program = WITHOUT
        start = time.time_ns() - 20_000_000
        results = []
        sides = (("k", None, "redirect_dir=on,index=on", kernel_upper or upper), ("l", program, "dev", upper))
        for who, server, options, place in sides:
            up, work = f"{place}/{who}.upper", f"{place}/{who}.work"
            for path in (up, work):
                shutil.rmtree(path, ignore_errors=True)
                os.mkdir(path)
            with Mount(server, f"{self.base}/mnt", [lower], up, work, (), options) as m:
                results.append((model.perform(steps, m), snapshot(m)))
        (wanted, kernel), (found, ours) = results
        lines = [f"{step}: {found[step]}, kernel {wanted[step]}" for step in wanted if wanted[step] != found[step]]
        ignore = lambda path, key, x, y: key == "mtime" and x["mtime"] >= start and y["mtime"] >= start
        lines += differences(ours, kernel, ignore)
        if lower_name == "kernel overlayfs":
            lines = [line for line in lines if "links" not in line and "nlink" not in line]
        if not attributes:
            lines = [line for line in lines if not re.search("xattrs:|nlink:|^links:", line)]
        self.report(f"lower on {lower_name}, upper on {upper_name}", lines)

    def other_forms(self):
        """Where the kernel's form of a whiteout cannot be made."""
        overlay = self.mount(
            "over", "-t", "overlay", "overlay", "-o",
            f"lowerdir={self.source},upperdir={self.place('other-u')},workdir={self.place('other-w')}",
        )
        ramfs = self.mount("ramfs", "-t", "ramfs", "ramfs")
        self.compare("tmpfs", self.source, "kernel overlayfs", overlay, self.base)
        self.as_lower("kernel overlayfs", overlay)
        self.compare("tmpfs", self.source, "tmpfs without devices", self.base, None, "devices")
        self.as_lower("tmpfs without devices", self.base)
        self.compare("tmpfs", self.source, "tmpfs without RENAME_WHITEOUT", self.base, None, "rename")
        self.compare("tmpfs", self.source, "ramfs", ramfs, self.base, attributes=False)
        self.compare("tmpfs", self.source, "tmpfs without devices and attributes", self.base, None, "devices,attributes", False)
        self.not_for_kernel("tmpfs without devices and attributes", self.base)

    def as_lower(self, name, directory):
        """What was written with whiteouts by attribute, as a lower layer of kernel overlayfs, as one of laminafs, and with --kernel."""
        upper, trees = f"{directory}/l.upper", []
        for program, options in ((None, "redirect_dir=on"), (self.program, "dev")):
            with Mount(program, f"{self.base}/mnt", [upper, self.source], options=options) as m:
                trees.append(snapshot(m))
        # Each has its own numbers of links for what was copied up under one of several names.
        lines = [line for line in differences(*trees) if not re.search("nlink:|^links:", line)]
        self.report(f"upper on {name} as a lower layer: {len(trees[0])} names", lines)
        self.not_for_kernel(name, directory)

    def not_for_kernel(self, name, directory):
        """--kernel would show what was deleted."""
        options = f"lowerdir={self.source},upperdir={directory}/l.upper,workdir={directory}/l.work"
        done = subprocess.run(
            [self.program, "mount", "--kernel", "-o", options, f"{self.base}/mnt"], capture_output=True, text=True, check=False
        )
        lines = [] if done.returncode == 1 and "would show again what was deleted" in done.stderr else [str(done)]
        self.report(f"upper on {name} is refused with --kernel", lines)

    def refused(self, name, directory, word):
        """An upper directory that cannot be one."""
        upper, work = f"{directory}/upper", f"{directory}/work"
        if name != "squashfs":
            os.mkdir(upper)
            os.mkdir(work)
        else:
            upper, work = f"{directory}/files", f"{directory}/special"
        options = f"lowerdir={self.source},upperdir={upper},workdir={work}"
        done = subprocess.run([self.program, "mount", "-o", options, f"{self.base}/mnt"], capture_output=True, text=True, check=False)
        lines = [] if done.returncode == 1 and word in done.stderr and done.stderr.count("\n") == 1 else [str(done)]
        self.report(f"upper on {name} is refused: {done.stderr.strip()}", lines)

    def all(self):
        """All combinations with tmpfs on one side, and what cannot be."""
        lowers = list(self.lowers())
        before = snapshot(self.source, raw=True)
        for name, lower in lowers:
            self.compare(name, lower, "tmpfs", self.base)
        for name, upper in self.uppers():
            self.compare("tmpfs", self.source, name, upper)
        for name in DISKS:
            self.compare(f"{name}, the same", f"{self.base}/{name}/layer", name, f"{self.base}/{name}")
        drop = lambda path, key, x, y: key == "atime"
        self.report("the layer is as it was", differences(before, snapshot(self.source, raw=True), drop))
        self.other_forms()
        places = {"squashfs": f"{self.base}/squashfs"}
        if "vfat" in open("/proc/filesystems", encoding="ascii").read():
            places["vfat"] = self.image("vfat", "vfat", ["mkfs.vfat"])
        for name, directory in places.items():
            self.refused(name, directory, UNSUITABLE[name])

    def end(self):
        """Unmounts everything, the last one first."""
        for path in reversed(self.mounted):
            subprocess.run(["umount", "-l", path], check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    args = parser.parse_args()
    private.enter()
    base = tempfile.mkdtemp(prefix="laminafs-filesystems-")
    bench = None
    try:
        run("mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", base)
        bench = Bench(base, os.path.abspath(args.laminafs))
        bench.all()
    finally:
        if bench:
            bench.end()
        subprocess.run(["umount", "-l", base], check=False)
        os.rmdir(base)
    print("file systems:", "equal" if not bench.failures else f"{bench.failures} checks failed")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
