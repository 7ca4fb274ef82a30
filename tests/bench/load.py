#!/usr/bin/env python3
"""How long `laminafs load` takes, beside other tools that unpack the same layer.

  tests/bench/load.py --laminafs PROGRAM --dir DIR [--rounds N]

DIR, on a disk file system with 10 GB free, keeps the content: a Debian root with a compiler (debootstrap's
variant buildd, made once from the mirror of this machine's apt), as an image of one gzip layer and as one of four
layers, compressed by umoci. Needs root, debootstrap, umoci and podman.

In every round each contender unpacks the layer into a fresh place, after a sync, with the blob in the page cache.
Nothing is deleted before the end: ext4 is slow to reuse inodes that were deleted a moment ago. Printed are medians of
the seconds a command took, the seconds that a sync(1) after it took, processor seconds and the largest resident
process, and the ratios to `tar -xzf` in the same round. Of the contenders only laminafs has everything on disk when it
ends; for the others, add the sync.
"""

import argparse
import glob
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TIER2 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2")
sys.path.insert(0, TIER2)

import private
from debian_root import apt_source
from trees import run

# What is moved into a layer of its own for the image of several layers; the rest stays in the lowest.
PARTS = ("usr/share", "usr/bin", "usr/lib/gcc")


def content(base):
    """The layouts of both images, made once."""
    if os.path.exists(f"{base}/done"):
        return
    root, parts = f"{base}/root", f"{base}/parts"
    for path in (root, parts, f"{base}/layout"):
        shutil.rmtree(path, ignore_errors=True)
    uri, suite = apt_source()
    run("debootstrap", "--variant=buildd", suite, root, uri, timeout=1500)
    for package in glob.glob(f"{root}/var/cache/apt/archives/*.deb") + glob.glob(f"{root}/var/lib/apt/lists/*_*"):
        os.unlink(package)
    run("umoci", "init", "--layout", f"{base}/layout")
    for tag in ("one", "four"):
        run("umoci", "new", "--image", f"{base}/layout:{tag}")
    add_layer(base, "one", root, ".")
    os.makedirs(parts)
    for number, part in enumerate(PARTS):
        os.makedirs(f"{parts}/{number}/{os.path.dirname(part)}")
        shutil.move(f"{root}/{part}", f"{parts}/{number}/{part}")
    add_layer(base, "four", root, ".")
    for number, part in enumerate(PARTS):
        add_layer(base, "four", f"{parts}/{number}", part)
    for path in (root, parts):
        shutil.rmtree(path)
    open(f"{base}/done", "w", encoding="utf-8").close()


def add_layer(base, tag, directory, name):
    """Adds a layer that is a tar of one name below a directory, compressed with gzip by umoci."""
    archive = f"{base}/layer.tar"
    run("tar", "-C", directory, "--format=pax", "--xattrs", "--xattrs-include=*", "-cf", archive, name)
    run("umoci", "raw", "add-layer", "--image", f"{base}/layout:{tag}", archive, timeout=300)
    os.unlink(archive)


class Measured:
    """One run of one command."""

    def __init__(self, argv, **more):
        run("sync")
        start = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, **more)
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                sys.exit(f"{argv}: exit {process.returncode}: {errors.read().decode(errors='replace')[-2000:]}")
        self.processor, self.megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        start = time.monotonic()
        run("sync")
        self.sync = time.monotonic() - start


def contenders(program, base):
    """Name of each contender and its command, given a fresh directory."""
    layout = f"{base}/layout"
    blob = max(glob.glob(f"{layout}/blobs/sha256/*"), key=os.path.getsize)
    podman = lambda d: ["podman", "--root", f"{d}/s", "--runroot", f"{d}/r", "--storage-driver", "overlay"]
    load = lambda d, tag: [program, "--root", f"{d}/s", "load", "-q", f"oci:{layout}:{tag}"]
    return blob, {
        "zcat | wc -c": lambda d: ["sh", "-c", f"zcat < {blob} | wc -c"],
        "tar -xzf": lambda d: ["tar", "-C", d, "-xzf", blob],
        "umoci unpack": lambda d: ["umoci", "unpack", "--image", f"{layout}:one", f"{d}/bundle"],
        "podman pull oci:": lambda d: [*podman(d), "pull", "-q", f"oci:{layout}:one"],
        "laminafs load": lambda d: load(d, "one"),
        "laminafs load, 4 layers": lambda d: load(d, "four"),
        "podman pull, 4 layers": lambda d: [*podman(d), "pull", "-q", f"oci:{layout}:four"],
    }


def measure(program, base, scratch, rounds):
    """All runs, by contender; and those of loading again what is there."""
    blob, commands = contenders(program, base)
    with open(blob, "rb") as f:
        while f.read(1 << 20):
            pass
    runs, again = {name: [] for name in commands}, []
    for number in range(rounds):
        for name, command in commands.items():
            place = f"{scratch}/{number}-{len(os.listdir(scratch))}"
            os.mkdir(place)
            runs[name].append(Measured(command(place)))
            if name == "laminafs load":
                again.append(Measured(command(place)))
        print(f"round {number + 1} of {rounds}, load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return blob, runs, again


def table(runs):
    """The medians, as a table of docs/PERFORMANCE.md."""
    middle = lambda name, key: statistics.median(getattr(m, key) for m in runs[name])
    print("| command | seconds | of `tar -xzf` | sync after | processor seconds | MB resident |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, measured in runs.items():
        ratio = statistics.median(m.seconds / t.seconds for m, t in zip(measured, runs["tar -xzf"]))
        print(f"| `{name}` | {middle(name, 'seconds'):.2f} | ×{ratio:.2f} | {middle(name, 'sync'):.2f} "
              f"| {middle(name, 'processor'):.2f} | {middle(name, 'megabytes'):.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    private.enter()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    base = os.path.abspath(args.dir)
    os.makedirs(base, exist_ok=True)
    content(base)
    private.hide()
    scratch = tempfile.mkdtemp(prefix="runs-", dir=base)
    try:
        blob, runs, again = measure(program, base, scratch, args.rounds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{os.path.getsize(blob) / 1e6:.0f} MB compressed, {args.rounds} rounds, {os.cpu_count()} processors")
    table(runs)
    print("loading again:", ", ".join(f"{m.seconds * 1000:.0f} ms" for m in again))
    ratios = [l.seconds / p.seconds for l, p in zip(runs["laminafs load"], runs["podman pull oci:"])]
    print(f"laminafs load takes ×{statistics.median(ratios):.2f} of podman pull")


if __name__ == "__main__":
    main()
