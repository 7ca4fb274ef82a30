#!/usr/bin/env python3
"""fuse-overlayfs shows of owners and modes in attributes what laminafs shows.

  override_stat.py --laminafs PROGRAM [--scratch DIR]

A lower layer in the form of rootless tools and an upper directory are mounted by laminafs with
xattr_permissions=2, and with 1, and changed; then the two are read as layers by fuse-overlayfs with the same
option. Kind, mode, owner, content and attributes have to be equal, exit 1 if not. Version 1.10 (Debian
12) knows no types: then devices and pipes are left out, which is said. It also lists the attribute
itself, which does not count. In the other direction fuse-overlayfs changes the same layers, and
what it has written is read by both; then laminafs goes on with its upper directory, and both read it again. With 1 that version
fails to make symbolic links, pipes and devices, so those steps are left out.

Needs root and fuse-overlayfs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

from trees import differences, snapshot

NAME = "user.containers.override_stat"
LAYER = {
    ".": "0:0:0755:dir",
    "etc": "0:0:0755:dir",
    "etc/shadow": "0:42:0640:file",
    "su": "0:0:4755:file",
    "tmp": "0:0:1777:dir",
    "home": "1000:1000:0750:dir",
    "home/f": "1000:1000:0600:file",
    "null": "0:0:0666:char-1-3",
    "pipe": "3:4:0620:pipe",
}
# What version 1.10 can do with either option.
THEIR_CHANGES = """
chown 7:8 su; chmod 4711 su; mkdir -m 2770 d; chown 5:6 d; echo new >d/f; chmod 444 d/f; chmod 700 tmp; rm etc/shadow
"""
LATER_CHANGES = """
chown 9:10 su; chmod 4755 su; echo more >>d/f; mkdir later; chown 11:12 later
"""
CHANGES = """
echo more >>home/f; chown 7:8 su; chmod 4711 su; mkdir -m 2770 d; chown 5:6 d; echo new >d/f; chmod 444 d/f
rm etc/shadow; (umask 077; echo x >etc/shadow); setfattr -n user.a -v b etc/shadow; mv home users; chmod 700 tmp
mkfifo d/pipe; mknod d/sda b 8 0
"""


def build(layer):
    """Makes the lower layer, as it is on disk."""
    for path, value in LAYER.items():
        full = os.path.join(layer, path)
        if value.endswith(":dir"):
            os.makedirs(full, mode=0o700, exist_ok=True)
        else:
            with open(full, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(path if value.endswith(":file") else "")
        os.setxattr(full, NAME, value.encode())


def read(command, mnt):
    """The tree that a mount shows, without what is another matter: times, link counts, sizes of devices."""
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    try:
        tree = snapshot(mnt)
    finally:
        subprocess.run(["fusermount3", "-u", mnt], check=True)
    keep = ("kind", "mode", "uid", "gid", "rdev", "content", "xattrs", "ino")
    return {path: {k: v for k, v in record.items() if k in keep} for path, record in tree.items()}


def compare(program, layers, mnt, title):
    """What both show of the layers; the number of differences."""
    ours = read([program, "mount", "-o", layers, mnt], mnt)
    theirs = read(["fuse-overlayfs", "-o", layers, mnt], mnt)
    for path, record in theirs.items():
        for name in [n for n in record["xattrs"] if ".override_" in n]:
            del record["xattrs"][name]
    special = [p for p, r in ours.items() if r["kind"] not in ("file", "dir")]
    if all(theirs[p]["kind"] == "file" for p in special):
        print(f"this fuse-overlayfs takes no types from the attribute: left out {b' '.join(special).decode()}")
        for path in special:
            del ours[path], theirs[path]
    lines = differences(ours, theirs)
    print(f"{'FAIL' if lines else 'ok  '} {title}: {len(ours)} objects through both")
    for line in lines:
        print(f"     {line}")
    return len(lines) + (len(ours) < 8)


def change(mount, umount, mnt, changes):
    """Mounts, changes, unmounts."""
    subprocess.run(mount, check=True, stderr=subprocess.DEVNULL)
    try:
        subprocess.run(["sh", "-euc", changes], cwd=mnt, check=True)
    finally:
        subprocess.run([*umount, mnt], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--laminafs", required=True)
    parser.add_argument("--scratch", default=tempfile.gettempdir())
    args = parser.parse_args()
    failures = 0
    for number, theirs in (("2", False), ("1", False), ("2", True), ("1", True)):
        scratch = tempfile.mkdtemp(prefix="override-stat-", dir=args.scratch)
        try:
            lower, upper, work, mnt = (os.path.join(scratch, n) for n in ("lower", "upper", "work", "mnt"))
            for path in (lower, upper, work, mnt):
                os.mkdir(path)
            build(lower)
            option = f"xattr_permissions={number}"
            writable = f"lowerdir={lower},upperdir={upper},workdir={work},{option}"
            layers = f"lowerdir={upper}:{lower},{option}"
            ours = ([args.laminafs, "mount", "-o", writable, mnt], [args.laminafs, "umount"], mnt)
            if not theirs:
                change(*ours, CHANGES)
                failures += compare(args.laminafs, layers, mnt, f"{option}, written by laminafs")
                continue
            change(["fuse-overlayfs", "-o", writable, mnt], ["fusermount3", "-u"], mnt, THEIR_CHANGES)
            failures += compare(args.laminafs, layers, mnt, f"{option}, written by fuse-overlayfs")
            change(*ours, LATER_CHANGES)
            failures += compare(args.laminafs, layers, mnt, f"{option}, gone on with by laminafs")
        finally:
            shutil.rmtree(scratch)
    return bool(failures)


sys.exit(main())
