"""stress-ng: many calls at once, with its own checks of the results."""

import os
import shutil
import signal
import subprocess

from result import Result, need

STRESSORS = """access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl filename flock getdent
    hdd inode-flags io iomix lease link locka lockf lockofd metamix mmap open readahead rename revio seek sync-file
    symlink touch unlink utime xattr""".split()
# Some fill files of a gigabyte before they begin.
LARGE = ("fallocate", "hdd", "iomix", "mmap", "readahead", "revio", "sync-file")
SIZES = [part for name in LARGE for part in (f"--{name}-bytes", "64m")]
NOT_FOR_US = {3: "lacks resources", 4: "not for this system"}  # exit codes of stress-ng
GRACE = 120  # seconds a stressor may take to end


def _finish(command, directory, seconds):
    """Exit code (None if it took too long) and output of a program, which is ended with all its workers."""
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]


class Suite:
    """Runs each stressor for a while with two workers."""

    def __init__(self):
        self.program = need("stress-ng", "apt-get install stress-ng")
        listed = subprocess.run([self.program, "--stressors"], capture_output=True, text=True, check=True).stdout
        self.known = set(listed.split())

    def version(self):
        text = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        return text.split("(")[0].replace(", version", "").strip()

    def _one(self, name, directory, seconds):
        """One stressor: None or what is wrong, and whether it ran at all."""
        place = f"{directory}/stress-{name}"
        os.mkdir(place)
        command = [self.program, "--temp-path", place, f"--{name}", "2", "--verify", "--timeout", str(seconds), *SIZES]
        code, output = _finish(command, place, seconds + GRACE)
        failures = [line.split("]", 1)[-1].strip() for line in output.splitlines() if " fail: " in line]
        left = os.listdir(place)
        shutil.rmtree(place)
        if code is None:
            return f"did not end within {GRACE} s", True
        if code == 1:
            raise RuntimeError(f"{' '.join(command)}: {output.strip()}")
        if code in NOT_FOR_US:
            return NOT_FOR_US[code], False
        if code or failures:
            return failures[0] if failures else f"exit code {code}", True
        return (f"left {left[0]!r} behind" if left else None), True

    def run(self, directory, seconds, names=STRESSORS):
        """All stressors, one after the other."""
        result = Result()
        for name in names:
            if name not in self.known:
                result.skipped[name] = "not in this version of stress-ng"
                continue
            problem, ran = self._one(name, directory, seconds)
            if problem is None:
                result.passed.add(name)
            else:
                (result.failed if ran else result.skipped)[name] = problem
        return result
