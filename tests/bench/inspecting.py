#!/usr/bin/env python3
"""Time and peak memory of the inspecting commands on an image of a million entries in 20 layers.

    tests/bench/inspecting.py [--entries N] [--layers N] [--keep DIR] PROGRAM

Makes the image (a docker-archive, bare tars, seeded), loads it into a store in a temporary directory, and runs every
command on the archive and on the store: the best of three runs, wall time in seconds and the peak of resident memory in
MB. What is printed goes to /dev/null. Nothing is measured with cold caches.
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time


def layer(rng, number, count, known):
    """The tar of a layer: new files in directories of 50, some changed, deleted and opaque ones of the layers below."""
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT)

    def add(name, kind=tarfile.REGTYPE, content=b"", target=""):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname = kind, len(content), target
        info.mode, info.mtime = (0o755 if kind == tarfile.DIRTYPE else 0o644), 1_700_000_000 + number
        tar.addfile(info, io.BytesIO(content))

    made = 0
    if known:
        for path in rng.sample(known, min(len(known), count // 10)):
            add(path, content=b"changed in %d" % number)
        for path in rng.sample(known, min(len(known), count // 50)):
            directory, name = path.rsplit("/", 1)
            add(f"{directory}/.wh.{name}")
        for path in rng.sample(known, min(len(known), 5)):
            add(path.rsplit("/", 1)[0] + "/.wh..wh..opq")
        made = count // 10 + count // 50
    fresh = []
    while made < count:
        top = f"usr/share/part{number:02}/group{made // 2500:03}/directory{made // 50:05}"
        add(top, tarfile.DIRTYPE)
        for n in range(49):
            path = f"{top}/file-with-a-name-{n:02}"
            if n == 0:
                add(path, tarfile.SYMTYPE, target="file-with-a-name-01")
            elif n == 1 and made:
                add(path, content=rng.randbytes(rng.choice([0, 40, 900])))
            elif n == 2:
                add(path, tarfile.LNKTYPE, target=f"{top}/file-with-a-name-01")
            else:
                add(path, content=rng.randbytes(rng.choice([0, 40, 200])))
                fresh.append(path)
        made += 50
    tar.close()
    return out.getvalue(), fresh


def image(path, entries, layers):
    """A docker-archive."""
    rng, known, diff_ids, names = random.Random(1), [], [], []
    with tarfile.open(path, "w") as out:

        def add(name, content):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))

        for number in range(layers):
            content, fresh = layer(rng, number, entries // layers, known)
            known += rng.sample(fresh, len(fresh) // 4)
            diff_ids.append("sha256:" + hashlib.sha256(content).hexdigest())
            names.append(f"{number}.tar")
            add(names[-1], content)
        history = [{"created_by": f"RUN step {n}"} for n in range(layers)]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        add("config.json", json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": history}).encode())
        add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["million:1"], "Layers": names}]).encode())


def measure(command, env):
    """Best wall time of three runs, and the largest peak of memory in MB."""
    best, peak = float("inf"), 0
    for _ in range(3):
        start = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        best, peak = min(best, time.monotonic() - start), max(peak, usage.ru_maxrss)
        if status:
            sys.exit(f"{command} failed")
    return best, peak / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--keep", help="make the image here, and keep it for the next time")
    parser.add_argument("program")
    args = parser.parse_args()
    place = tempfile.mkdtemp(prefix="laminafs-bench-")
    try:
        archive = os.path.join(args.keep or place, "image.tar")
        if not os.path.exists(archive):
            image(archive, args.entries, args.layers)
        print(f"archive: {os.path.getsize(archive) / 1e6:.0f} MB")
        env = dict(os.environ, LAMINAFS_ROOT=os.path.join(place, "store"))
        start = time.monotonic()
        subprocess.run([args.program, "load", "-q", "-i", archive], env=env, check=True, stdout=subprocess.DEVNULL)
        print(f"load: {time.monotonic() - start:.1f} s")
        path = "/usr/share/part00/group000/directory00001/file-with-a-name-05"
        commands = [
            ["layers"],
            ["whence", path],
            ["ls", "/usr/share"],
            ["ls", "-R"],
            ["ls", "-R", "--json"],
            ["tree", "--depth", "3"],
            ["stat", path],
            ["cat", path],
            ["waste"],
        ]
        print(f"{'':28} {'archive':>16} {'store':>16}")
        for command in commands:
            row = []
            for target in (f"docker-archive:{archive}", "million:1"):
                words = [w for w in command if w.startswith("-") or w.isdigit()]
                rest = [w for w in command[1:] if w not in words]
                seconds, peak = measure([args.program, command[0], *words, target, *rest], env)
                row.append(f"{seconds:6.2f} s {peak:4.0f} MB")
            print(f"{' '.join(command)[:28]:28} {row[0]:>16} {row[1]:>16}")
        seconds, peak = measure([args.program, "diff", f"million:1@{args.layers - 1}", "million:1"], env)
        print(f"{'diff @N-1 @N':28} {'':16} {seconds:6.2f} s {peak:4.0f} MB")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
