#!/usr/bin/env python3
"""Full disks and bombs: commands fail with a sentence, the store stays sound, and goes on when there is space.

  space.py --laminafs PROGRAM [--scratch DIR] [--entries N]

The store is on a tmpfs of 40 MB. With less and less space free, and with too few inodes, a load, an
import and a commit are tried. Each fails with exit code 1 and one line that says what is missing, or succeeds; after it
`laminafs verify` finds the store sound, what was there is there, tmp is empty, and rmi works; with the
space free again the same command succeeds. Then layers that grow without end: compressed zeros, N entries
(default 30000), a terabyte of hole; and one to look into, which implies six million directories
(2 GB of memory). Needs root; run it in a mount namespace of its own.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True

import images

SIZE = 40 << 20


class Space:
    """A store on a small file system."""

    def __init__(self, program, scratch):
        self.failures = 0
        self.dir = tempfile.mkdtemp(prefix="laminafs-space-", dir=scratch)
        self.disk = os.path.join(self.dir, "disk")
        os.mkdir(self.disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=4000", "tmpfs", self.disk], check=True)
        self.store = images.Store(program, os.path.join(self.disk, "store"))
        self.filler = os.path.join(self.disk, "filler")
        self.small = os.path.join(self.dir, "small.tar")
        self.large = os.path.join(self.dir, "large.tar")
        self.root = os.path.join(self.dir, "root.tar")
        self.first = images.archive(self.small, "small:1", [images.layer("small", 50, 20000)])
        layers = [images.layer("base", 300, 20000), images.layer("top", 500, 20000)]
        images.archive(self.large, "large:1", layers)
        with open(self.root, "wb") as tar:
            tar.write(layers[1])

    def close(self):
        """Takes all away."""
        subprocess.run(["umount", self.disk], check=True)
        shutil.rmtree(self.dir)

    def report(self, title, wrong):
        """Prints one check."""
        print(f"{'FAIL' if wrong else 'ok  '} {title}", *wrong, sep="\n     ")
        self.failures += bool(wrong)

    def sound(self):
        """What is wrong with the store, or with what must be in it."""
        done = self.store.run("verify")
        wrong = [] if done.returncode == 0 else [done.stdout, done.stderr]
        if self.store.names().get("small:1") != self.first:
            wrong.append(f"small:1 is gone: {self.store.names()}")
        if self.store.leftovers():
            wrong.append(f"tmp holds {self.store.leftovers()}")
        return wrong

    def leave(self, free):
        """Fills the disk until that many bytes are left."""
        stat = os.statvfs(self.disk)
        with open(self.filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, stat.f_bavail * stat.f_frsize - free))

    def leave_inodes(self, free):
        """Uses up all inodes but that many."""
        os.mkdir(self.filler)
        for number in range(os.statvfs(self.disk).f_ffree - free):
            open(os.path.join(self.filler, str(number)), "w", encoding="ascii").close()

    def clear(self):
        """Frees the disk again."""
        shutil.rmtree(self.filler) if os.path.isdir(self.filler) else os.unlink(self.filler)

    def make_writable(self):
        """Makes a writable layer with files of random bytes in it."""
        mountpoint = os.path.join(self.dir, "mnt")
        os.mkdir(mountpoint)
        self.store.must("mount", "--name", "web", "small:1", mountpoint)
        try:
            for number in range(200):
                with open(os.path.join(mountpoint, str(number)), "wb") as file:
                    file.write(os.urandom(20000))
        finally:
            self.store.must("umount", mountpoint)

    def full(self):
        """Loads and imports on disks that are full to different degrees."""
        self.store.must("load", "-q", "-i", self.small)
        self.make_writable()
        commands = {"load": ["load", "-q", "-i", self.large], "load of a stream": ["load", "-q"],
                    "import": ["import", self.root, "large:1"], "commit": ["commit", "web", "large:1"]}
        fillings = [(self.leave, free << 10) for free in (0, 8, 100, 1000, 3000, 5000, 7000, 9000, 11000, 13000, 15000)]
        fillings += [(self.leave_inodes, free) for free in (0, 1, 3, 10, 200)]
        for title, words in commands.items():
            wrong, refused = [], 0
            for fill, free in fillings:
                fill(free)
                with open(self.large, "rb") as stream:
                    done = self.store.run(*words, stdin=stream)
                refused += done.returncode != 0
                if done.returncode not in (0, 1) or done.returncode and "No space left" not in done.stderr:
                    wrong.append(f"{free} free: exit code {done.returncode}: {done.stderr}")
                if done.returncode and len(done.stderr.splitlines()) != 1:
                    wrong.append(f"{free} free: not one line: {done.stderr}")
                if done.returncode == 0:
                    self.store.must("rmi", "large:1")
                wrong += [f"{free} free: {what}" for what in self.sound()]
                self.clear()
            with open(self.large, "rb") as stream:
                done = self.store.run(*words, stdin=stream)
            wrong += [] if done.returncode == 0 else [f"with space: {done.stderr}"]
            wrong += self.sound()
            self.leave(0)
            done = self.store.run("rmi", "large:1")
            wrong += [] if done.returncode == 0 else [f"rmi on a full disk: {done.stderr}"]
            self.clear()
            self.store.must("prune", "-f")
            wrong += [] if refused else ["no disk was too full"]
            self.report(f"{title}: refused on {refused} of {len(fillings)} full disks", wrong + self.sound())

    def bombs(self, entries):
        """Layers that grow without end."""
        store = images.Store(self.store.program, os.path.join(self.dir, "store"))
        path = os.path.join(self.dir, "bomb.tar.gz")
        self.pack_zeros(path, 200 << 20)
        self.bomb(store, "compressed zeros", ["import", path], "1000 times")
        self.bomb(store, "a layer of more than --max-layer", ["import", "--max-layer", "100000000", path], "--max-layer")
        self.pack_entries(path, entries)
        self.bomb(store, f"{entries} entries, {entries - 1} allowed", ["import", "--max-entries", str(entries - 1), path], f"{entries - 1} entries")
        self.bomb(store, f"{entries} entries", ["import", path, "many:1"], None)
        self.looked_into()
        self.pack_hole(path)
        self.bomb(store, "a terabyte of hole", ["import", path, "hole:1"], None)
        done = store.run("verify")
        self.report("verify of both", [] if done.returncode == 0 else [done.stdout])

    def bomb(self, store, title, words, refusal):
        """Imports a bomb, which is refused with these words, or taken when there are none."""
        begun = time.monotonic()
        done = store.run(*words)
        took = time.monotonic() - begun
        right = done.returncode == 0 if refusal is None else done.returncode == 1 and refusal in done.stderr
        wrong = [] if right else [f"exit code {done.returncode}: {done.stderr}"]
        if store.leftovers() or took > 300:
            wrong.append(f"after {took:.0f} s tmp holds {store.leftovers()}")
        self.report(f"{title}: {'taken' if refusal is None else 'refused'} in {took:.1f} s", wrong)

    def looked_into(self):
        """Looks into an archive whose few entries imply millions of directories: refused before it takes all memory."""
        layer, path = os.path.join(self.dir, "deep.tar.gz"), os.path.join(self.dir, "deep.tar")
        with tarfile.open(layer, "w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as tar:
            for number in range(25000):
                tar.addfile(tarfile.TarInfo(f"{number}/{'d/' * 250}f"))
        with gzip.open(layer) as stream:
            diff_id = hashlib.file_digest(stream, "sha256").hexdigest()
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}}
        manifest = [{"Config": "config.json", "RepoTags": ["deep:1"], "Layers": ["layer"]}]
        with tarfile.open(path, "w") as tar:
            tar.add(layer, "layer")
            for name, document in (("config.json", config), ("manifest.json", manifest)):
                info = tarfile.TarInfo(name)
                content = json.dumps(document).encode()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        begun = time.monotonic()
        process = subprocess.Popen([self.store.program, "layers", f"docker-archive:{path}"], stderr=subprocess.PIPE)
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - begun
        wrong = [] if os.waitstatus_to_exitcode(status) == 1 and "look at fewer layers" in said else [f"status {status}: {said}"]
        if took > 120 or usage.ru_maxrss > 3500000:
            wrong.append(f"took {took:.0f} s and {usage.ru_maxrss} kB")
        size = os.path.getsize(path) // 1000
        self.report(f"layers of an archive of {size} kB: refused in {took:.1f} s with {usage.ru_maxrss // 1000} MB", wrong)

    @staticmethod
    def pack_zeros(path, size):
        """A layer with a file of zeros."""
        info = tarfile.TarInfo("zeros")
        info.size = size
        with gzip.open(path, "wb", 9) as out:
            out.write(info.tobuf())
            for _ in range(size >> 20):
                out.write(bytes(1 << 20))

    @staticmethod
    def pack_entries(path, entries):
        """A layer with that many files, ten thousand in a directory."""
        with gzip.open(path, "wb", 1) as out:
            for number in range(entries):
                out.write(tarfile.TarInfo(f"d{number // 10000}/{number}").tobuf(tarfile.USTAR_FORMAT))

    @staticmethod
    def pack_hole(path):
        """A layer with a sparse file of a terabyte, in which nothing is."""
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("hole")
            info.pax_headers = {"GNU.sparse.size": str(10**12), "GNU.sparse.map": "0,0"}
            tar.addfile(info, io.BytesIO())


def main():
    """Runs all."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--laminafs", required=True)
    options.add_argument("--scratch", default=tempfile.gettempdir())
    options.add_argument("--entries", type=int, default=30000)
    args = options.parse_args()
    space = Space(os.path.abspath(args.laminafs), args.scratch)
    try:
        space.full()
        space.bombs(args.entries)
    finally:
        space.close()
    return bool(space.failures)


if __name__ == "__main__":
    sys.exit(main())
