#!/usr/bin/env python3
"""A real Debian root file system in three layers, used through laminafs and through kernel overlayfs.

  debian_root.py --laminafs PROGRAM --dir DIR [--layers-only]
  debian_root.py --minimal --dir DIR

DIR keeps the layers (L1, L2, L3; made once by debootstrap with the mirror that this machine's own apt
uses, so they can serve as the stack of a benchmark too) and gets the upper directories of the
runs. It has to be on a file system that can be an overlayfs upper, with 3 GB free. Needs root,
debootstrap and kernel overlayfs. Exits 1 when anything differs. With --minimal DIR becomes a small root
for the other programs of the second tier, and that is all.

Layers: L1 the base with Python, gcc, git and SQLite; L2 packages installed, a 90 MB database and a
git repository made; L3 packages removed, documentation deleted. Both unions then run the same work
in a chroot: apt-get install, dpkg -r and -P, compileall, gcc, git commit, the database rewritten in
WAL mode over its lower copy. Checked afterwards:

  1. the merged trees are equal (see IGNORED for what is not compared);
  2. no layer changed: content, attributes, xattrs, inode numbers, change and access times;
  3. laminafs's upper directory, mounted by kernel overlayfs, shows the tree laminafs showed;
  4. kernel overlayfs's upper directory, mounted by laminafs, shows the tree the kernel showed.
"""

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from trees import Mount, digest, differences, identity_problems, run, snapshot

INCLUDE = "python3,gcc,libc6-dev,git,sqlite3,make,ca-certificates"
INSTALL = "man-db less nano curl tcl8.6 python3-setuptools"
LATER = "zsh perl-doc file"
NATIVE = "redirect_dir=on,index=on,metacopy=off"

# What the two runs may legitimately do differently: path pattern, the fields concerned, why.
IGNORED = [
    ("*", ("mtime",), "written during the run (when both times are later than its start)"),
    ("var/log/*", ("size", "content"), "logs hold times of day"),
    ("var/cache/ldconfig/aux-cache", ("size", "content"), "holds inode numbers and change times"),
    ("var/cache/apt/*.bin", ("size", "content"), "a cache in the order of its hash table"),
    ("var/cache/man/*", ("size", "content"), "database holds times"),
    ("var/lib/systemd/*", ("content",), "time stamps of timers"),
    ("*.git/index", ("content",), "holds inode numbers and times"),
    ("*__pycache__/*.pyc", ("size", "content"), "holds times of sources and reference-count flags"),
]

BUILD_L2 = f"""
apt-get update -q
apt-get install -y -q --no-install-recommends {INSTALL}
apt-get install -y -q --no-install-recommends --download-only {LATER}
mkdir -p /srv/repo
cp -r /usr/share/perl /usr/share/git-core /srv/repo/
cd /srv/repo
git init -q . && git add -A . && git commit -q -m first
python3 - <<'PY'
import random, sqlite3
random.seed(1)
db = sqlite3.connect("/srv/big.db")
db.execute("create table t(id integer primary key, k integer, v blob)")
db.executemany("insert into t(k, v) values(?, ?)", ((i % 997, random.randbytes(1500)) for i in range(58000)))
db.execute("create index tk on t(k)")
db.commit()
PY
"""

BUILD_L3 = """
dpkg -r nano
dpkg -P tcl8.6
rm -rf /usr/share/man /usr/share/info /usr/share/locale
rm -rf /usr/share/doc
mkdir /usr/share/doc
"""

STEPS = {
    "apt-get install": f"apt-get install -y -q --no-download --no-install-recommends {LATER}",
    "dpkg -r": "dpkg -r less; dpkg -P curl; dpkg --audit",
    "compileall": "python3 -m compileall -q -f /usr/lib/python3.11 /usr/lib/python3 || test $? = 1",
    "gcc": """
mkdir -p /srv/c; cd /srv/c
for i in 1 2 3 4 5 6 7 8; do printf '#include <stdio.h>\\nint f%d(void){return %d;}\\n' $i $i > f$i.c; done
printf '#include <stdio.h>\\nint f1(void);int f8(void);int main(void){printf("%%d\\\\n",f1()+f8());return 0;}\\n' > main.c
printf 'prog: main.o f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o\\n\\tgcc -o $@ $^\\n' > Makefile
make -s -j2 prog; test "$(./prog)" = 9; ar rcsD lib.a f*.o""",
    "git commit": """
cd /srv/repo
git mv perl moved; for f in $(git ls-files git-core | head -20); do echo change >> "$f"; done; git ls-files -z moved | grep -z /CPAN/ | xargs -0 git rm -q -f
git add -A . ; git commit -q -m second; git -c pack.threads=1 gc -q --prune=now; git fsck --full --strict >/dev/null; git status --short | wc -l | grep -qx 0""",
    "sqlite in WAL mode": """
python3 - <<'PY'
import sqlite3
db = sqlite3.connect("/srv/big.db")
assert db.execute("pragma journal_mode=wal").fetchone()[0] == "wal"
other = sqlite3.connect("/srv/big.db")
for part in range(4):
    db.execute("update t set k = k + 1, v = substr(v, 700) || substr(v, 1, 699) where id % 4 = ?", (part,))
    seen = other.execute("select count(*) from t where k = 5").fetchone()
    db.commit()
db.execute("delete from t where id % 10 = 3")
db.commit()
print(db.execute("pragma wal_checkpoint(truncate)").fetchone())
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
assert db.execute("select count(*) from t").fetchone()[0] == 52200
PY
test "$(sqlite3 /srv/big.db 'pragma integrity_check')" = ok""",
}


def apt_source():
    """The mirror and suite of this machine's own apt: the first that serves this Debian release."""
    with open("/etc/os-release", encoding="utf-8") as f:
        codename = dict(l.rstrip().split("=", 1) for l in f if "=" in l).get("VERSION_CODENAME", "").strip('"')
    out = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    sources = [line.split() for line in out.stdout.decode().splitlines()]
    for uri, release, component in sources:
        if component == "main" and release == codename:
            return uri, release
    sys.exit(f"no apt source of this machine serves {codename or 'its release'}: {sources}")


def minimal(root):
    """Makes a small Debian root with debootstrap, without packages and lists that were downloaded; returns its path."""
    uri, suite = apt_source()
    run("debootstrap", "--variant=minbase", suite, root, uri, timeout=1500)
    for directory in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for name in os.listdir(f"{root}/{directory}"):
            if os.path.isfile(f"{root}/{directory}/{name}"):
                os.unlink(f"{root}/{directory}/{name}")
    return root


def chroot(root, script, log):
    """Runs a shell script in a root file system; all output goes to the log."""
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
        "PYTHONHASHSEED": "0",
    }
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "n", f"GIT_{who}_EMAIL": "n@localhost", f"GIT_{who}_DATE": "2024-01-01T00:00:00Z"}
    env |= {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    run("mount", "-t", "proc", "proc", f"{root}/proc")
    try:
        argv = ["chroot", str(root), "/bin/sh", "-eu", "-c", script]
        with open(log, "ab") as out:
            out.write(f"\n=== {script.strip()[:60]!r}\n".encode())
            out.flush()
            done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=1200)
        if done.returncode:
            with open(log, "rb") as f:
                tail = f.read()[-3000:].decode(errors="replace")
            raise RuntimeError(f"exit {done.returncode} in the chroot:\n{tail}")
    finally:
        run("umount", f"{root}/proc")


def build_layers(base):
    """Makes the three layers, each once."""
    log = f"{base}/build.log"
    if not os.path.exists(f"{base}/L1.done"):
        shutil.rmtree(f"{base}/L1", ignore_errors=True)
        uri, suite = apt_source()
        run("debootstrap", "--variant=minbase", f"--include={INCLUDE}", suite, f"{base}/L1", uri, timeout=1500)
        with open(f"{base}/L1/usr/sbin/policy-rc.d", "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nexit 101\n")
        os.chmod(f"{base}/L1/usr/sbin/policy-rc.d", 0o755)
        # The settings of this machine's apt that its mirror may need.
        dump = run("apt-config", "dump", "Acquire").stdout.decode().splitlines()
        wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
        with open(f"{base}/L1/etc/apt/apt.conf.d/99machine", "w", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in dump if line.startswith(wanted))
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", f"{base}/L1/etc/{name}")
        open(f"{base}/L1.done", "w", encoding="utf-8").close()
    for name, lowers, script in (("L2", ["L1"], BUILD_L2), ("L3", ["L2", "L1"], BUILD_L3)):
        if os.path.exists(f"{base}/{name}.done"):
            continue
        for directory in (name, f"{name}.work"):
            shutil.rmtree(f"{base}/{directory}", ignore_errors=True)
            os.mkdir(f"{base}/{directory}")
        stack = [f"{base}/{l}" for l in lowers]
        with Mount(None, f"{base}/mnt", stack, f"{base}/{name}", f"{base}/{name}.work") as mnt:
            chroot(mnt, script, log)
        shutil.rmtree(f"{base}/{name}.work", ignore_errors=True)
        open(f"{base}/{name}.done", "w", encoding="utf-8").close()
    return [f"{base}/{l}" for l in ("L3", "L2", "L1")]


def use(program, name, base, lowers, options):
    """Runs every step on a fresh upper directory; returns its tree and the seconds of each step."""
    upper, work, log = f"{base}/{name}.upper", f"{base}/{name}.work", f"{base}/{name}.log"
    for directory in (upper, work):
        shutil.rmtree(directory, ignore_errors=True)
        os.mkdir(directory)
    open(log, "w", encoding="utf-8").close()
    seconds, problems = {}, []
    with Mount(program, f"{base}/mnt", lowers, upper, work, options=options) as mnt:
        for step, script in STEPS.items():
            start = time.monotonic()
            chroot(mnt, script, log)
            seconds[step] = time.monotonic() - start
        tree = snapshot(mnt, problems=problems)
    if program:
        problems += identity_problems(tree)
    else:
        problems = []
    return tree, seconds, [f"{name}: {p}" for p in problems]


def ignore_since(start):
    """The rule that leaves out what IGNORED names; start is the time the first run began, in ns."""

    def ignore(path, key, x, y):
        name = os.fsdecode(path)
        if key == "mtime":
            return x["mtime"] >= start and y["mtime"] >= start
        return any(key in fields and fnmatch.fnmatch(name, pattern) for pattern, fields, _ in IGNORED)

    return ignore


def report(title, lines):
    """Prints the outcome of one comparison; True when it is clean."""
    print(f"{'ok  ' if not lines else 'FAIL'} {title}" + (f": {len(lines)} differences" if lines else ""))
    for line in lines[:40]:
        print(f"     {line}")
    return not lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--layers-only", action="store_true")
    parser.add_argument("--minimal", action="store_true")
    args = parser.parse_args()
    base = os.path.abspath(args.dir)
    if args.minimal:
        minimal(base)
        return 0
    os.makedirs(base, exist_ok=True)
    lowers = build_layers(base)
    print("layers:", ":".join(lowers), flush=True)
    if args.layers_only:
        return 0
    ours = shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found")
    start = time.time_ns() - 20_000_000  # file systems take their time from a coarser clock
    good = True
    tree_kernel, seconds_kernel, _ = use(None, "kernel", base, lowers, NATIVE)
    before = [snapshot(l, raw=True) for l in lowers]
    tree_ours, seconds_ours, problems = use(ours, "laminafs", base, lowers, "dev")
    after = [snapshot(l, raw=True) for l in lowers]
    print(f"{'step':22}{'kernel':>10}{'laminafs':>10}   seconds, one run each: no benchmark")
    for step in STEPS:
        print(f"{step:22}{seconds_kernel[step]:10.1f}{seconds_ours[step]:10.1f}")
    print("not compared:")
    for pattern, fields, why in IGNORED:
        print(f"     {pattern}: {', '.join(fields)}: {why}")
    print(f"names in the merged tree: {len(tree_ours)}")
    good &= report("inode numbers of laminafs agree", problems)
    good &= report("tree of laminafs equals that of the kernel", differences(tree_ours, tree_kernel, ignore_since(start)))
    for layer, x, y in zip(lowers, before, after):
        same = differences(x, y) + [f"inode of {p!r}" for p in x if p in y and x[p]["ino"] != y[p]["ino"]]
        good &= report(f"layer {os.path.basename(layer)} is as it was ({digest(x)}, {digest(y)})", same)
    def remounted(program, name, options):
        upper, work = f"{base}/{name}.upper", f"{base}/{name}.work"
        with Mount(program, f"{base}/mnt", lowers, upper, work, options=options) as mnt:
            return snapshot(mnt)

    native = remounted(None, "laminafs", NATIVE)
    good &= report("laminafs's upper mounted by the kernel", differences(tree_ours, native))
    foreign = remounted(ours, "kernel", "dev")
    good &= report("the kernel's upper mounted by laminafs", differences(tree_kernel, foreign))
    again = remounted(ours, "laminafs", "dev")
    moved = [f"{p!r}: inode {tree_ours[p]['ino'][1]} is now {again[p]['ino'][1]}" for p in again.keys() & tree_ours.keys()
             if tree_ours[p]["ino"][1] != again[p]["ino"][1]]
    good &= report("laminafs's upper mounted again", differences(tree_ours, again) + moved)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
