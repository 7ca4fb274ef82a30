#!/usr/bin/env python3
"""What commit and export write, read back by programs that we did not write.

  commit.py --laminafs PROGRAM [--scratch DIR] [--keep]

A tree with one example of each feature is imported as an image, mounted, and changed by all operations of interop.py.
While it is mounted it is committed, with each compression, and exported. Checked, exit 1 on any difference: the trees
that GNU tar makes of the export, that umoci makes of the committed image (through an archive and skopeo), and that
laminafs mounts of it, are the tree that the mount showed: kind, mode, owner, size, time, content, xattrs, link groups.

Needs root, GNU tar, skopeo and umoci.
"""

import argparse
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import interop_tree as model
from trees import differences, run, snapshot

# Nobody can put these into an archive.
SKIPPED = ("socket",)


def without_sockets(tree):
    return {path: record for path, record in tree.items() if record["kind"] not in SKIPPED}


def usual(path, key, x, y):
    """What may differ: link counts count names that nobody sees."""
    return key == "nlink"


def of_umoci(path, key, x, y):
    """What umoci loses besides: Go's tar reader takes an empty value for no attribute, and umoci sets none of overlayfs."""
    if key != "xattrs":
        return usual(path, key, x, y)
    kept = lambda r: {n: v for n, v in r["xattrs"].items() if v and not n.startswith("trusted.overlay.")}
    return kept(x) == kept(y)


class Bench:
    def __init__(self, program, scratch):
        self.program, self.dir, self.failures = program, scratch, 0
        self.mnt = f"{scratch}/mnt"
        os.makedirs(self.mnt)

    def laminafs(self, *argv, **more):
        return run(self.program, "--root", f"{self.dir}/store", *argv, **more)

    def report(self, title, lines):
        print(f"{'ok  ' if not lines else 'FAIL'} {title}")
        for line in lines[:25]:
            print(f"     {line}")
        self.failures += bool(lines)

    def compare(self, title, want, tree, ignore=usual):
        self.report(title, differences(want, without_sockets(tree), ignore))

    def make_base(self):
        base = f"{self.dir}/base"
        os.makedirs(base)
        model.base_layer(base)
        run("tar", "-C", base, "--xattrs", "--xattrs-include=*", "--format=pax", "-cf", f"{self.dir}/base.tar", ".")
        self.laminafs("import", f"{self.dir}/base.tar", "base:1")

    def through_umoci(self, name, compression):
        """The tree that umoci makes of an image of the store."""
        place = f"{self.dir}/umoci-{compression}"
        os.makedirs(place)
        self.laminafs("save", "--format", "oci", "-o", f"{place}/image.tar", name)
        # umoci 0.4 reads no zstd: skopeo, which compares all digests, turns it into gzip.
        again = ("--dest-compress-format", "gzip") if compression == "zstd" else ()
        run("skopeo", "copy", *again, f"oci-archive:{place}/image.tar", f"oci:{place}/layout:one")
        run("umoci", "unpack", "--image", f"{place}/layout:one", f"{place}/bundle")
        return snapshot(f"{place}/bundle/rootfs")

    def through_tar(self, archive):
        """The tree that GNU tar makes of an export."""
        place = f"{self.dir}/tar"
        os.makedirs(place)
        argv = ("tar", "-C", place, "-xpf", archive, "--xattrs", "--xattrs-include=*", "--numeric-owner")
        run(*argv, "--delay-directory-restore")
        return snapshot(place)

    def work(self):
        self.make_base()
        self.laminafs("mount", "--name", "web", "-o", "dev,suid", "base:1", self.mnt)
        try:
            for steps in (model.FIRST, model.SECOND):
                model.perform(steps, self.mnt)
            want = without_sockets(snapshot(self.mnt))
            self.laminafs("export", "-o", f"{self.dir}/web.tar", "web")
            for compression in ("gzip", "zstd", "none"):
                argv = ("commit", "--compression", compression, "-m", compression, "web", f"site:{compression}")
                self.laminafs(*argv)
            self.compare("the mount after it was committed", want, snapshot(self.mnt))
        finally:
            self.laminafs("umount", self.mnt)
        self.compare("export, unpacked by GNU tar", want, self.through_tar(f"{self.dir}/web.tar"))
        for compression in ("gzip", "zstd", "none"):
            tree = self.through_umoci(f"site:{compression}", compression)
            self.compare(f"commit with {compression}, by umoci", want, tree, of_umoci)
        self.laminafs("mount", "--read-only", "-o", "dev,suid", "site:gzip", self.mnt)
        try:
            self.compare("the committed image, mounted", want, snapshot(self.mnt))
        finally:
            self.laminafs("umount", self.mnt)
        told = self.laminafs("verify").stdout.decode()
        self.report("the store verifies", [] if "sound" in told else [told])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    parser.add_argument("--keep", action="store_true", help="leave the directories")
    args = parser.parse_args()
    missing = [tool for tool in ("tar", "skopeo", "umoci") if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        sys.exit(f"commit.py: needs root and {', '.join(missing or ['nothing else'])}")
    os.umask(0)
    scratch = tempfile.mkdtemp(prefix="laminafs-commit-", dir=args.scratch)
    bench = Bench(os.path.abspath(args.laminafs), scratch)
    try:
        bench.work()
    finally:
        if not args.keep:
            shutil.rmtree(scratch)
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
