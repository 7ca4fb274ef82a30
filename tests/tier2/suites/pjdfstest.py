"""pjdfstest: what POSIX says of each system call, case by case."""

import os
import re
import subprocess
import tempfile

from result import Result, need

VERSION = "0.2.2"
TIMEOUT = 600
FEWEST = 390  # a run with fewer cases than this is not the whole suite
LINE = re.compile(r"^(\S+::\S+)\s+(ok|FAILED|skipped)$")

# Cases that pass on the bare file system and do not on the mount, with the cause. It is an error when one passes.
KNOWN = {
    "link::link_count_max": "skipped: for FUSE and overlayfs pathconf(_PC_LINK_MAX) answers 127, which means unknown",
}

CONFIGURATION = """\
[features]
posix_fallocate = {{}}
rename_ctime = {{}}
utime_now = {{}}
utimensat = {{}}
stat_st_birthtime = {{}}
[settings]
naptime = 0.02
allow_remount = {remount}
[dummy_auth]
entries = [["daemon", "daemon"], ["bin", "bin"]]
"""


class Suite:
    """Runs all cases in a directory; `scratch` is for its files, `other` on another file system."""

    def __init__(self, scratch, other):
        self.program = need("pjdfstest", f"cargo install --locked pjdfstest@{VERSION}")
        self.scratch, self.other = scratch, other
        # mount(8) would hand the remount to a helper program, which knows nothing of it; -i is for the kernel alone.
        os.makedirs(f"{scratch}/bin")
        with open(f"{scratch}/bin/mount", "w", encoding="utf-8") as out:
            out.write(f'#!/bin/sh\nexec {need("mount", "install util-linux")} -i "$@"\n')
        os.chmod(f"{scratch}/bin/mount", 0o755)

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def _once(self, directory, remount, patterns=()):
        """One run of the program."""
        configuration = f"{self.scratch}/pjdfstest.toml"
        with open(configuration, "w", encoding="utf-8") as out:
            out.write(CONFIGURATION.format(remount=str(remount).lower()))
        environment = dict(os.environ, NO_COLOR="1", PATH=f"{self.scratch}/bin:{os.environ['PATH']}")
        command = [self.program, "-c", configuration, "-p", directory, "-s", self.other, *patterns]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
        )
        result, lines = Result(), done.stdout.splitlines()
        for number, line in enumerate(lines):
            if found := LINE.match(line.strip()):
                case, outcome = found.groups()
                reason = lines[number + 1].strip() if number + 1 < len(lines) else ""
                if outcome == "ok":
                    result.passed.add(case)
                else:
                    (result.failed if outcome == "FAILED" else result.skipped)[case] = reason
        if not result.passed and not result.failed:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return result

    def run(self, directory, remountable):
        """All cases; those of a read-only file system in `remountable`, which is in a mount of its own."""
        with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as short:
            # By a short path: sockets are bound there, and their addresses hold 107 bytes.
            os.chmod(short, 0o755)
            os.symlink(directory, f"{short}/d")
            result = self._once(f"{short}/d", remount=False)
        result.add(self._once(remountable, remount=True, patterns=["erofs"]))
        return result


def verdict(bare, result, known=None):
    """What is wrong with a result: sentences, none if all is well."""
    known = KNOWN if known is None else known
    lines = [] if len(bare.passed) >= FEWEST else [f"only {len(bare.passed)} cases pass on the bare file system"]
    lines += [f"{case}: fails on the bare file system: {reason}" for case, reason in bare.failed.items()]
    for case in sorted(bare.passed - result.passed - known.keys()):
        lines.append(f"{case}: {result.failed.get(case) or result.skipped.get(case) or 'did not run'}")
    listed = sorted(result.passed & known.keys())
    return lines + [f"{case}: passes, take it off the list of known failures" for case in listed]
