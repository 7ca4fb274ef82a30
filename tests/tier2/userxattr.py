#!/usr/bin/env python3
"""An upper directory written with userxattr by kernel overlayfs and by laminafs in turn, and what it may not lead to.

  userxattr.py --laminafs PROGRAM

The kernel changes a tree, laminafs shows the same and changes more, the kernel shows that again, as root; redirects that a user wrote are
followed by neither. All on a tmpfs in a mount namespace of its own. Needs root and kernel overlayfs. Exits 1 on any
difference.
"""

import argparse
import os
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", required=True)
    args = parser.parse_args()
    private.enter()
    program, failures = os.path.abspath(args.laminafs), 0
    base = tempfile.mkdtemp(prefix="laminafs-userxattr-")
    run("mount", "-t", "tmpfs", "tmpfs", base)
    try:
        lower, upper, work, mnt = (f"{base}/{name}" for name in ("lower", "upper", "work", "mnt"))
        for path in (lower, upper, work):
            os.mkdir(path)
        run("sh", "-euc", LAYER, cwd=lower)

        def tree(server, steps=""):
            with Mount(server, mnt, [lower], upper, work, (), "userxattr") as m:
                if steps:
                    run("sh", "-euc", steps, cwd=m)
                return snapshot(m)

        written = tree(None, FIRST)
        failures += check("written by the kernel", written, tree(program))
        written = tree(program, LATER)
        failures += check("changed by laminafs", written, tree(None))
        names = attributes(upper)
        trusted = {name for name in names if name.startswith("trusted.")}
        print(f"{'FAIL' if trusted else 'ok  '} attributes: {' '.join(sorted(names))}")
        failures += bool(trusted)
        with Mount(program, mnt, [lower], upper, work, (), "userxattr") as m:
            ours = snapshot(m)
        run(program, "mount", "--kernel", "-o", f"lowerdir={lower},upperdir={upper},workdir={work},userxattr", mnt)
        failures += check("with --kernel", ours, snapshot(mnt))
        run(program, "umount", mnt)
        # The kernel does not even show such a directory.
        os.setxattr(f"{upper}/d", *LED)
        led = [title for title, server in (("laminafs", program), ("the kernel", None)) if b"d/secret" in tree(server)]
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
