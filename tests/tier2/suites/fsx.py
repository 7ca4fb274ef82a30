"""fsx: random operations on one file, whose content is known at every moment."""

import concurrent.futures
import hashlib
import os
import random
import subprocess

from result import Result, need

VERSION = "0.3.2"
LENGTH = 256 << 10
AT_ONCE = 2
TIMEOUT = 3600

# What is done to the file. A file that is kept at its size allows no change of size and no reopening.
OPERATIONS = {
    "read": 10, "write": 10, "punch_hole": 2, "sendfile": 2, "posix_fadvise": 1, "copy_file_range": 2,
    "fsync": 0.1, "fdatasync": 0.1,
}
RESIZING = {"close_open": 1, "truncate": 5, "posix_fallocate": 2}
MAPPING = {"mapread": 10, "mapwrite": 10, "invalidate": 1}
FILES = ("new", "lower", "kept")


def _configuration(mapping, kept):
    """The configuration file."""
    weights = dict.fromkeys(MAPPING | RESIZING, 0) | OPERATIONS
    weights |= (MAPPING if mapping else {}) | ({} if kept else RESIZING)
    # fsx takes the EINVAL of an allocation of nothing for a file system that cannot allocate: hence at least one byte.
    head = f"flen = {LENGTH}\nblockmode = {str(kept).lower()}\n[opsize]\nmin = 1\n[weights]\n"
    return head + "".join(f"{name} = {weight}\n" for name, weight in weights.items())


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Suite:
    """Runs of fsx: on a file it makes, on a lower one that it empties first, on a lower one whose size it keeps."""

    def __init__(self, scratch):
        self.program = need("fsx", f"cargo install --locked fsx@{VERSION}")
        self.scratch = scratch
        for mapping in (False, True):
            for kept in (False, True):
                with open(self._file(mapping, kept), "w", encoding="utf-8") as out:
                    out.write(_configuration(mapping, kept))

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def _file(self, mapping, kept):
        return f"{self.scratch}/fsx-{'map' if mapping else 'nomap'}-{'kept' if kept else 'free'}.toml"

    @staticmethod
    def cases(seeds):
        """(name, kind of file, with mmap, seed) of each run."""
        return [(f"fsx-{kind}-{'mmap' if mapping else 'plain'}-{seed}", kind, mapping, seed)
                for seed in seeds for mapping in (True, False) for kind in FILES]

    def prepare(self, directory, seeds):
        """Makes the files that shall be in a lower layer."""
        for name, kind, _, seed in self.cases(seeds):
            if kind != "new":
                with open(f"{directory}/{name}", "wb") as out:
                    out.write(random.Random(seed).randbytes(LENGTH))

    def _one(self, case, directory, operations):
        """One run; None or what is wrong."""
        name, kind, mapping, seed = case
        command = [self.program, "-q", "-f", self._file(mapping, kind == "kept"), "-N", str(operations)]
        command += ["-S", str(seed), "-P", self.scratch, f"{directory}/{name}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
        if done.returncode == 0:
            return None
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        return f"exit code {done.returncode}: {lines[0]}"

    def run(self, contender, seeds, operations):
        """All kinds of files for each seed. The contender is mounted here; what is stored must be what was shown."""
        result, shown = Result(), {}
        cases = self.cases(seeds)
        self.prepare(contender.below(), seeds)
        with contender:
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                outcomes = list(pool.map(lambda case: self._one(case, contender.shared, operations), cases))
            shown = {case[0]: _digest(f"{contender.shared}/{case[0]}") for case in cases}
        for (name, *_), problem in zip(cases, outcomes):
            if problem is None and _digest(contender.stored(name)) != shown[name]:
                problem = "the stored file is not what the mount showed"
            if problem is None:
                result.passed.add(name)
            else:
                result.failed[name] = problem
        return result
