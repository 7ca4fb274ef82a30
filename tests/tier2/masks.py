#!/usr/bin/env python3
"""The mount tests as on kernels that lack something: each capability of FUSE masked alone, then all at once.

    tests/tier2/masks.py [--long] [MASK...]

Runs some tests each, of what the capability is for (half a minute); with --long all mount tests (some minutes each), whose result is in
docs/CONFORMANCE.md. MASK is a name of the table below; default all of them. Tests check that the mount reports the mask, and
what the counts of requests stand on; the answers must be the same. Needs root and what `cargo test --test mount` needs.

It is the build for development that is tested: release builds do not look at LAMINAFS_TEST_FUSE_MASK.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

ALL = "all at once"
# What is masked, and the tests that are run without --long.
MASKS = {
    "async_dio": ["files::direct_io"],
    "atomic_o_trunc": ["passthrough::attributes", "passthrough::pages"],
    "cache_symlinks": ["names::making_everything", "renaming::exchanging"],
    "do_readdirplus": ["listing::listings_seek", "names::layers_merge", "round_trips::a_walk"],
    "dont_mask": ["permissions::new_objects", "permissions::default_acls"],
    "handle_killpriv_v2": ["permissions::set_id", "permissions::capabilities", "matrix::privileges::a_change"],
    "has_ioctl_dir": ["metadata::inode_flags", "metadata::attributes"],
    "max_pages": ["files::a_part", "files::copying", "round_trips::a_large"],
    "no_open_support": ["held::", "files::truncating", "deleted::deleted_files", "files::exclusive", "files::record_locks"],
    "no_opendir_support": ["listing::listings_seek", "names::removed", "held::held_in"],
    "parallel_dirops": ["concurrency::directories"],
    "passthrough": ["passthrough::"],
    "posix_acl": ["permissions::acls", "permissions::default"],
    "writeback_cache": ["dirty::a_modification_time"],
    ALL: ["held::", "permissions::", "files::t", "times::times_of", "files::copying", "listing::listings_seek", "passthrough::"],
}
# No mount asks for these: to mask them changes nothing.
NEVER = {"allow_idmap", "export_support"}
# fuser asks for these whatever we say.
ALWAYS = {"async_read", "big_writes"}


def build():
    """The test program and the program, with debug assertions."""
    command = ["cargo", "test", "--locked", "--no-run", "--test", "mount", "--message-format=json", "--quiet"]
    output = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    built = {m["target"]["name"]: m["executable"] for m in map(json.loads, output.splitlines()) if m.get("executable")}
    return built["mount"], built["laminafs"]


def offered(program):
    """The capabilities that a mount tells about."""
    with tempfile.TemporaryDirectory(prefix="laminafs-masks-") as base:
        lower, mountpoint = f"{base}/lower", f"{base}/m"
        os.mkdir(lower), os.mkdir(mountpoint)
        subprocess.run([program, "mount", "-o", f"lowerdir={lower}", mountpoint], check=True)
        try:
            stats = subprocess.run([program, "stats", "--json", mountpoint], capture_output=True, check=True).stdout
        finally:
            subprocess.run([program, "umount", mountpoint], check=True)
    return set(json.loads(stats)["stats"]["features"]["fuse"]) - {"data"}


def run_tests(binary, masked, filters):
    """Runs mount tests; returns how many passed and the names of those that failed."""
    environment = {**os.environ, "LAMINAFS_TEST_FUSE_MASK": masked, "RUST_BACKTRACE": "0"}
    done = subprocess.run([binary, *filters], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    results = [line.split() for line in done.stdout.splitlines() if line.startswith("test ")]
    passed = sum(words[-1] == "ok" for words in results)
    failed = sorted(words[1] for words in results if words[-1] == "FAILED")
    if done.returncode != 0:
        print(done.stdout[-8000:], done.stderr[-2000:], sep="\n")
        failed = failed or [f"the test program ended with {done.returncode}"]
    elif not passed:
        failed = [f"no test has a name with {' or '.join(filters)}"]
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("masks", nargs="*", metavar="MASK")
    arguments = parser.parse_args()
    if unknown := set(arguments.masks) - set(MASKS):
        parser.error(f"not in the table: {', '.join(unknown)}")
    binary, program = build()
    capabilities = offered(program)
    maskable = capabilities - ALWAYS - NEVER
    if difference := maskable ^ set(MASKS) - {ALL}:
        print(f"masks: the table and 'laminafs stats' differ in: {', '.join(sorted(difference))}")
        return 1
    failures = 0
    for name in arguments.masks or MASKS:
        masked = ",".join(sorted(maskable)) if name == ALL else name
        begin = time.monotonic()
        passed, failed = run_tests(binary, masked, [] if arguments.long else MASKS[name])
        failures += len(failed)
        print(f"masks: without {name}: {passed} passed, {len(failed)} failed, {time.monotonic() - begin:.0f} s", *failed, sep="\n  ", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
