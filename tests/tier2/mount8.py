#!/usr/bin/env python3
"""mount(8), fstab and systemd as callers.

  mount8.py --laminafs PROGRAM

In a mount namespace of its own the program stands in /usr/bin and as mount.laminafs in /usr/sbin. It is mounted by type
`laminafs` (our helper) and `fuse.laminafs` (mount.fuse3), from the command line and from a line of fstab, and remounted
with each switch and its opposite; /proc/mounts and what can be written are looked at. Squashed mounts and those of ordinary
users are remounted too, and have to keep what protects the others. The units of examples/systemd have to pass
`systemd-analyze verify`. Needs root, mount(8), fuse3, systemd and kernel overlayfs. Exits 1 on the first difference.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import private
from trees import run

UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/systemd")


def install(program, base):
    """The program where mount(8) and systemd look for it: seen in this namespace only."""
    for number, directory in enumerate(("/usr/bin", "/usr/sbin")):
        upper, work = f"{base}/{number}/u", f"{base}/{number}/w"
        os.makedirs(upper)
        os.makedirs(work)
        shutil.copy(program, f"{upper}/{'laminafs' if directory == '/usr/bin' else 'mount.laminafs'}")
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={directory},upperdir={upper},workdir={work}", directory)


def line(mountpoint):
    """What /proc/mounts says: source, type and options; None where nothing is mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for entry in mounts:
            source, place, kind, options, *_ = entry.split()
            if place == mountpoint:
                return source, kind, options.split(",")
    return None


def expect(what, found, wanted):
    """Ends the program when they differ."""
    if found != wanted:
        sys.exit(f"mount8: {what}: {found!r} instead of {wanted!r}")


def unmount(mountpoint):
    """umount(8), which does not wait for the daemon."""
    run("umount", mountpoint)
    end = time.monotonic() + 10
    while subprocess.run(["pgrep", "-f", mountpoint], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        if time.monotonic() > end:
            sys.exit(f"mount8: the daemon of {mountpoint} is still there")
        time.sleep(0.02)


# What is asked for, and what /proc/mounts has to show and not to show then.
SWITCHES = (
    ("ro,noexec", {"ro", "noexec"}, {"rw"}),
    ("exec", {"ro"}, {"noexec"}),
    ("nosuid,sync", {"ro", "nosuid", "sync"}, {"noexec"}),
    ("suid", {"ro", "sync"}, {"nosuid"}),
    ("async", {"ro"}, {"nosuid", "sync"}),
    ("noatime", {"ro", "noatime"}, {"relatime"}),
    ("relatime", {"ro", "relatime"}, {"noatime"}),
    ("noatime", {"noatime"}, {"relatime"}),
    ("atime", {"ro"}, {"noatime"}),
    ("rw", {"rw"}, {"ro", "noexec", "nosuid", "sync", "noatime"}),
)


def remount(name, mountpoint):
    """mount -o remount with every switch. The system's fstab has no such line, so that it goes by what is mounted."""
    for switches, wanted, unwanted in SWITCHES:
        run("mount", "-o", f"remount,{switches}", mountpoint)
        now = set(line(mountpoint)[2])
        expect(f"{name}: remount,{switches}: {sorted(now)}", (wanted - now, unwanted & now), (set(), set()))
        expect(f"{name}: remount,{switches} keeps nodev", "nodev" in now, True)


def protected(base, program):
    """Mounts that stay nosuid, and nodev where an ordinary user made them."""
    mountpoint = f"{base}/m"
    layers = f"lowerdir={base}/layer one:{base}/base"
    run("mount", "-t", "fuse.laminafs", "image", mountpoint, "-o", f"{layers},squash_to_uid=1000,noexec")
    run("mount", "-o", "remount,suid,exec", mountpoint)
    now = set(line(mountpoint)[2])
    expect("squashed: remount,suid,exec", ("nosuid" in now, "noexec" in now), (True, False))
    unmount(mountpoint)
    os.chown(mountpoint, 1000, 1000)
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    run(*user, program, "mount", "-o", f"{layers},allow_other,noexec", mountpoint)
    run("mount", "-o", "remount,suid,dev,exec", mountpoint)
    now = set(line(mountpoint)[2])
    expect("user: remount,suid,dev,exec", ({"nosuid", "nodev"} <= now, "noexec" in now), (True, False))
    done = subprocess.run([*user, program, "mount", "-o", "remount,exec", mountpoint], check=False, capture_output=True, text=True)
    expect("user: remount", (done.returncode, "only root can remount" in done.stderr), (1, True))
    unmount(mountpoint)
    os.chown(mountpoint, 0, 0)


def refused(base):
    """What only a new mount can change."""
    mountpoint = f"{base}/m"
    options = f"lowerdir={base}/layer one:{base}/base,upperdir={base}/upper,workdir={base}/work"
    run("mount", "-t", "fuse.laminafs", "image", mountpoint, "-o", options)
    done = subprocess.run(["mount", "-o", "remount,volatile,writeback=1", mountpoint], check=False, capture_output=True, text=True)
    said = "only a new mount can change volatile, writeback=" in done.stderr
    expect(f"remount,volatile: {done.stderr}", (done.returncode != 0, said), (True, True))
    unmount(mountpoint)


def try_mount(base, name, *command):
    """Mounts, writes, remounts and unmounts."""
    mountpoint = f"{base}/m"
    done = subprocess.run(["mount", *command], check=False, capture_output=True, text=True, timeout=60)
    expect(f"{name}: mount", (done.returncode, done.stdout, done.stderr), (0, "", ""))
    expect(f"{name}: source and type", line(mountpoint)[:2], ("image", "fuse.laminafs"))
    with open(f"{mountpoint}/{name}", "w", encoding="utf-8") as f:
        f.write(name)
    expect(f"{name}: upper", os.path.exists(f"{base}/upper/{name}"), True)
    run("mount", "-o", "remount,ro,noexec", mountpoint)
    expect(f"{name}: ro", {"ro", "noexec", "nodev"} <= set(line(mountpoint)[2]), True)
    try:
        with open(f"{mountpoint}/refused", "w", encoding="utf-8"):
            sys.exit(f"mount8: {name}: written although read-only")
    except OSError as error:
        expect(f"{name}: writing", error.strerror, "Read-only file system")
    run("mount", "-o", "remount,rw,exec", mountpoint)
    remount(name, mountpoint)
    if "--fstab" in command:
        # A line of fstab says all, whatever was mounted.
        run("mount", *command[:-1], "-o", "remount,noexec", mountpoint)
        expect(f"{name}: by fstab", "noexec" in line(mountpoint)[2], True)
        run("mount", *command[:-1], "-o", "remount,ro", mountpoint)
        now = line(mountpoint)[2]
        expect(f"{name}: by fstab again", ("ro" in now, "noexec" in now), (True, False))
        run("mount", *command[:-1], "-o", "remount", mountpoint)
    os.unlink(f"{mountpoint}/{name}")
    expect(f"{name}: removed", os.path.exists(f"{base}/upper/{name}"), False)
    unmount(mountpoint)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    args = parser.parse_args()
    private.enter()
    base = tempfile.mkdtemp(prefix="laminafs-mount8-")
    try:
        run("mount", "-t", "tmpfs", "tmpfs", base)
        install(os.path.abspath(args.laminafs), base)
        for part in ("layer one", "base", "upper", "work", "m"):
            os.mkdir(f"{base}/{part}")
        with open(f"{base}/base/lower", "w", encoding="utf-8") as f:
            f.write("lower")
        options = f"lowerdir={base}/layer one:{base}/base,upperdir={base}/upper,workdir={base}/work,nodev"
        for kind in ("laminafs", "fuse.laminafs"):
            # mount.fuse3 passes its arguments through a shell, which it quotes for.
            try_mount(base, kind, "-t", kind, "image", f"{base}/m", "-o", options)
            with open(f"{base}/fstab", "w", encoding="utf-8") as f:
                f.write(f"image {base}/m {kind} {options.replace(' ', chr(92) + '040')},noauto,nofail,x-systemd.automount 0 0\n")
            try_mount(base, f"fstab-{kind}", "--fstab", f"{base}/fstab", f"{base}/m")
        with open(f"{base}/fuse.conf", "w", encoding="utf-8") as f:
            f.write("user_allow_other\n")
        run("mount", "--bind", f"{base}/fuse.conf", "/etc/fuse.conf")
        protected(base, os.path.abspath(args.laminafs))
        refused(base)
        for unit in ("srv-root.mount", "laminafs@.service"):
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"{UNITS}/{unit}"], check=False,
                                  capture_output=True, text=True, timeout=120)
            expect(f"systemd-analyze verify {unit}", (done.returncode, done.stderr), (0, ""))
    finally:
        if line(f"{base}/m"):
            subprocess.run(["umount", "-l", f"{base}/m"], check=False)
        subprocess.run(["umount", "-l", base], check=False)
        os.rmdir(base)
    print("mount8: equal")


if __name__ == "__main__":
    main()
