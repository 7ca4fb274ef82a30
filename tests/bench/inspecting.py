#!/usr/bin/env python3
"""Time and peak memory of the inspecting commands on an image of a million entries in 20 layers.

    tests/bench/inspecting.py [--entries N] [--layers N] [--image FILE] [--store DIR] [--rounds N] PROGRAM

Makes the image (a docker-archive, bare tars, seeded), loads it into a store, and runs every command on the archive and on
the store: of the best round, the time on the clock and that of all processors together in seconds, and the peak of resident
memory in MB. What is printed goes to /dev/null. Nothing is measured with cold caches. With --image and --store what is made
stays, and is used again the next time.
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


def measure(command, env, rounds):
    """Time on the clock, of the processors, and peak of memory in MB, of the best round."""
    best = (float("inf"), 0, 0)
    for _ in range(rounds):
        start = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{command} failed")
        best = min(best, (time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000))
    return "%6.2f %6.2f %5.0f" % best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--image", help="the image; made if it is not there, and kept")
    parser.add_argument("--store", help="the store; made if it is not there, and kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("program")
    args = parser.parse_args()
    place = tempfile.mkdtemp(prefix="laminafs-bench-")
    try:
        archive = args.image or os.path.join(place, "image.tar")
        if not os.path.exists(archive):
            image(archive, args.entries, args.layers)
        print(f"archive: {os.path.getsize(archive) / 1e6:.0f} MB")
        store = args.store or os.path.join(place, "store")
        env = dict(os.environ, LAMINAFS_ROOT=store)
        if not os.path.exists(store):
            start = time.monotonic()
            subprocess.run([args.program, "load", "-q", "-i", archive], env=env, check=True, stdout=subprocess.DEVNULL)
            print(f"load: {time.monotonic() - start:.1f} s")
        measure([args.program, "layers", "million:1"], env, 1)
        print(f"{'clock, processors, MB':28} {'archive':>20} {'store':>20}")
        path = "/usr/share/part00/group000/directory00001/file-with-a-name-05"
        commands = [
            ["layers"],
            ["whence", path],
            ["ls", "/usr/share"],
            ["ls", "-R"],
            ["ls", "-R", "--json"],
            ["tree", "--depth", "3"],
            ["tree", "--json"],
            ["stat", path],
            ["cat", path],
            ["waste"],
            ["report"],
        ]
        for command in commands:
            words = [word for word in command[1:] if not word.startswith("/")]
            rest = [word for word in command[1:] if word.startswith("/")]
            run = lambda target: measure([args.program, command[0], *words, target, *rest], env, args.rounds)
            row = [run(f"docker-archive:{archive}"), run("million:1")]
            print(f"{' '.join([command[0], *words]):28} {row[0]:>20} {row[1]:>20}", flush=True)
        row = measure([args.program, "diff", f"million:1@{args.layers - 1}", "million:1"], env, args.rounds)
        print(f"{'diff @N-1 @N':28} {'':20} {row:>20}")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
