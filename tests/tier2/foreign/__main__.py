"""Images made and read by other tools, beside laminafs.

  python3 tests/tier2/foreign --laminafs PROGRAM [--scratch DIR] [--debian ROOT] [--only PART] [--keep]

Builds images from real content with GNU tar, umoci, buildah, skopeo and podman (build.py), and checks that

  forward  the tree that `laminafs mount` shows, through FUSE and with --kernel, is the one that `umoci unpack`, `podman
           image mount`, `buildah mount` and GNU tar show: type, mode, owner, times, attributes, links, content, devices;
  archives archives that skopeo and podman write are loaded as the same images;
  back     what `laminafs save` writes is accepted by skopeo, umoci and podman, shows the same tree there, and has the
           layers bit for bit that came in;
  commit   so is what `laminafs commit` makes of changes in a mount, and GNU tar unpacks what `laminafs export` makes;
  look     what ls, stat, waste, diff, layers, report and ui say of them in a store, a layout and podman's storage, and of a
           container, is what mounts show;
  cost     shared layers are on disk once, `df -v` adds up, and loading again unpacks nothing;
  user     an ordinary user who loads and mounts the same images sees what root sees.

Differences that have a name in known.py are counted and not compared; exits 1 on any other. ROOT is a Debian root
directory, which is left as it is; without it debootstrap makes one (a minute or two). DIR (default: the temporary
directory) must be on a disk file system, with 4 GB free. Needs root, skopeo, umoci, podman, buildah and fuse3.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import back
import build
import commit
import cost
import forward
import known
import look
import private
import user
import views
from debian_root import minimal
from tools import Tools
from trees import differences

# cost comes first: it looks at a store that nothing else has used.
PARTS = {"cost": cost, "forward": forward, "archives": back, "back": back, "commit": commit, "user": user, "look": look}


class Run:
    """One call of this program: the images, the tools, and what failed."""

    def __init__(self, tools, images, since):
        self.tools, self.images, self.since = tools, images, since
        self.failures, self.trees = 0, {}

    def tree(self, tag):
        """The tree of an image as a laminafs mount shows it to root."""
        if tag not in self.trees:
            problems = []
            tree = self.trees[tag] = views.laminafs(self.tools, self.images.load(tag), problems, store=self.images.store(tag))
            self.report(f"{tag}: {len(tree)} names, inode numbers", problems)
        return self.trees[tag]

    def report(self, title, lines):
        """Prints one check."""
        print(f"{'ok  ' if not lines else 'FAIL'} {title}", flush=True)
        for line in lines[:20]:
            print(f"     {line[:600]}")
        if len(lines) > 20:
            print(f"     ... {len(lines)} in all")
        self.failures += bool(lines)

    def compare(self, title, view, tag, ours, theirs):
        """Reports how a tool's tree differs from that of laminafs, known differences aside."""
        implied = self.images.implied(tag) if tag in forward.TAGS else ()
        self.report(title, differences(ours, theirs, known.ignore(view, tag, self.since, implied)))

    def refused(self, title, view, tag, attempt):
        """Calls attempt; when the tool fails, reports whether that is known, and returns None."""
        wanted = known.REFUSED.get((view, tag))
        try:
            result = attempt()
        except RuntimeError as error:
            if wanted is None or wanted not in str(error):
                self.report(title, [str(error)])
            else:
                print(f"     {title}: refused by {view}, as known: {wanted}")
            return None
        if wanted is not None:
            self.report(title, [f"{view} does not refuse it any more"])
        return result


def check(args, scratch, program):
    """Builds everything and runs the parts; returns how many checks failed."""
    start = time.monotonic()
    root = args.debian or minimal(f"{scratch}/debian")
    print(f"     a Debian root after {time.monotonic() - start:.0f} s", flush=True)
    private.hide()
    since = time.time_ns()
    images = build.Images(Tools(scratch, program))
    images.odd()
    images.debian(os.path.abspath(root))
    print(f"     images built after {time.monotonic() - start:.0f} s", flush=True)
    this = Run(images.tools, images, since)
    images.check(this.report)
    for name, part in PARTS.items():
        if args.only in (None, name):
            getattr(part, name)(this)
            print(f"     {name} done after {time.monotonic() - start:.0f} s", flush=True)
    known.show()
    if not args.only:
        this.report("every known difference is needed", [f"{name}: met nowhere" for name in known.unused()])
    return this.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--scratch", help="a directory on a disk file system (default: a temporary one)")
    parser.add_argument("--debian", metavar="ROOT")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--keep", action="store_true", help="leave the scratch directory")
    args = parser.parse_args()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    private.enter()
    # No "_" at either end: paths become names of images.
    scratch = tempfile.mkdtemp(prefix="laminafs-images-x", suffix="x", dir=args.scratch)
    try:
        failures = check(args, scratch, program)
    finally:
        if args.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    print("foreign:", "equal" if not failures else f"{failures} checks failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
