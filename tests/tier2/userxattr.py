#!/usr/bin/env python3
"""An upper directory written with userxattr by kernel overlayfs and by laminafs in turn, and what it may not lead to.

  userxattr.py --laminafs PROGRAM

The kernel changes a tree, laminafs shows the same and changes more, the kernel shows that again: as root, and as an ordinary user
who is root of a user namespace. Redirects that a user wrote are followed by neither. All on a tmpfs in a mount namespace of its
own. Needs root and kernel overlayfs. Exits 1 on any difference.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import private
from trees import Mount, differences, run, snapshot

LAYER = "mkdir -p d/sub e gone s; echo 1 >d/f; echo 2 >d/sub/g; echo 3 >e/f; echo 4 >gone/f; echo 5 >s/secret; echo 6 >top"
FIRST = "rm top; rm -r gone; mkdir gone; echo n >gone/new; rm d/f; chmod 700 e; echo more >>d/sub/g; mv e/f d/moved"
LATER = "echo t >top; rm d/sub/g; rm -r e; mkdir e; mv gone/new e/new; rm -r gone; ln -s x gone; mv d/moved top"
LED = ("user.overlay.redirect", b"/s")


def check(title, a, b):
    """Two trees have to be equal."""
    lines = differences(a, b)
    print(f"{'FAIL' if lines else 'ok  '} {title}: {len(a)} names")
    for line in lines:
        print(f"     {line}")
    return len(lines)


def attributes(upper):
    """All attributes of the union below a directory."""
    paths = [os.path.join(d, n) for d, dirs, files in os.walk(upper) for n in dirs + files] + [upper]
    return {n for path in paths for n in os.listxattr(path, follow_symlinks=False) if ".overlay." in n}


def in_turn(program, base, who):
    """The kernel and laminafs change one upper directory in turn; how many checks failed."""
    for name in ("lower", "upper", "work"):
        os.mkdir(f"{base}/{name}")
    run("sh", "-euc", LAYER, cwd=f"{base}/lower")
    written = tree(None, base, FIRST)
    failures = check(f"{who}: written by the kernel", written, tree(program, base))
    written = tree(program, base, LATER)
    failures += check(f"{who}: changed by laminafs", written, tree(None, base))
    names = attributes(f"{base}/upper")
    trusted = {name for name in names if name.startswith("trusted.")}
    print(f"{'FAIL' if trusted else 'ok  '} {who}: attributes: {' '.join(sorted(names))}")
    return failures + bool(trusted)


def tree(server, base, steps=""):
    """What is mounted by a program, or the kernel, shows, after it was changed."""
    with Mount(server, f"{base}/mnt", [f"{base}/lower"], f"{base}/upper", f"{base}/work", (), "userxattr") as m:
        if steps:
            run("sh", "-euc", steps, cwd=m)
        return snapshot(m)


def by_user(program, base):
    """The same by an ordinary user, in a user namespace."""
    home = f"{base}/user"
    os.makedirs(f"{home}/on")
    os.chmod(base, 0o755)
    for name in os.listdir(os.path.dirname(os.path.abspath(__file__))):
        if name.endswith(".py"):
            shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), home)
    shutil.copy(program, f"{home}/laminafs")
    ids = ("--reuid=1000", "--regid=1000", "--clear-groups")
    # That of the machine: another one may be in a home directory.
    inner = ("/usr/bin/python3", f"{home}/userxattr.py", "--laminafs", f"{home}/laminafs", "--inside", home)
    return subprocess.run(("setpriv", *ids, "unshare", "-Urm", *inner), check=False).returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    parser.add_argument("--inside", metavar="DIR", help="the part of the ordinary user, who calls it in a user namespace")
    args = parser.parse_args()
    program = os.path.abspath(args.laminafs)
    if args.inside:
        run("mount", "-t", "tmpfs", "tmpfs", args.inside + "/on")
        return in_turn(program, args.inside + "/on", "user") > 0
    private.enter()
    base = tempfile.mkdtemp(prefix="laminafs-userxattr-")
    run("mount", "-t", "tmpfs", "tmpfs", base)
    try:
        lower, upper, work, mnt = (f"{base}/{name}" for name in ("lower", "upper", "work", "mnt"))
        failures = in_turn(program, base, "root")
        with Mount(program, mnt, [lower], upper, work, (), "userxattr") as m:
            ours = snapshot(m)
        run(program, "mount", "--kernel", "-o", f"lowerdir={lower},upperdir={upper},workdir={work},userxattr", mnt)
        failures += check("with --kernel", ours, snapshot(mnt))
        run(program, "umount", mnt)
        failures += by_user(program, base)
        # The kernel does not even show such a directory.
        os.setxattr(f"{upper}/d", *LED)
        led = [title for title, server in (("laminafs", program), ("the kernel", None)) if b"d/secret" in tree(server, base)]
        print(f"{'FAIL' if led else 'ok  '} a redirect of a user leads {' and '.join(led) or 'nobody'}")
        failures += bool(led)
        for option in ("redirect_dir=on", "redirect_dir=follow", "metacopy=on"):
            text = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr,{option}"
            refused = [subprocess.run(c, capture_output=True, check=False).returncode != 0 for c in (
                [program, "mount", "-o", text, mnt], ["mount", "-t", "overlay", "overlay", "-o", text, mnt])]
            print(f"{'ok  ' if all(refused) else 'FAIL'} userxattr and {option}: refused by laminafs and the kernel: {refused}")
            failures += not all(refused)
    finally:
        run("umount", "-l", base, check=False)
        os.rmdir(base)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
