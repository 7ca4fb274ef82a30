"""Reads directory trees into comparable records; shared by the programs of the second tier.

A tree is a dict from path (bytes, relative, b"." for the root) to a Record. Nothing here writes
below the directories it reads, and files and directories are opened with O_NOATIME, so that a
snapshot can prove that a layer was not even read carelessly.
"""

import hashlib
import os
import stat
import subprocess
import time

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Record(dict):
    """What one name shows: kind, mode, uid, gid, nlink, size, mtime, rdev, content, xattrs, ino."""


def _open(path, flags):
    """Opens without touching the access time where that is allowed."""
    try:
        return os.open(path, flags | os.O_NOATIME | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _digest(fd):
    """SHA-256 of a whole file."""
    digest = hashlib.sha256()
    while chunk := os.read(fd, 1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _xattrs(path):
    """All extended attributes that the caller may see."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in sorted(names)}


def _record(path, content, raw, problems):
    """The record of one name."""
    st = os.lstat(path)
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    rec = Record(
        kind=kind,
        mode=oct(stat.S_IMODE(st.st_mode)),
        uid=st.st_uid,
        gid=st.st_gid,
        mtime=st.st_mtime_ns,
        ino=(st.st_dev, st.st_ino),
        xattrs=_xattrs(path),
    )
    if kind != "dir":
        # The link count and the size of a directory belong to the file system below it.
        rec.update(nlink=st.st_nlink, size=st.st_size)
    if kind in ("char", "block"):
        rec["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    if kind == "symlink":
        rec["content"] = os.readlink(path)
    if kind == "file" and content:
        fd = _open(path, os.O_RDONLY)
        try:
            if os.fstat(fd).st_ino != st.st_ino:
                problems.append(f"{path!r}: fstat and lstat differ in st_ino")
            rec["content"] = _digest(fd)
        finally:
            os.close(fd)
    if raw:
        rec["ctime"] = st.st_ctime_ns
        if kind != "symlink":
            rec["atime"] = st.st_atime_ns
    return rec


def snapshot(root, content=True, raw=False, problems=None, skip=()):
    """Reads the tree below root.

    raw adds change and access times: for proof that a directory was left alone. problems, a list,
    gets a line for each disagreement about inode numbers between readdir, lstat and fstat. skip
    names relative directories (bytes) that are not entered.
    """
    root = os.fsencode(root)
    problems = [] if problems is None else problems
    tree = {b".": _record(root, content, raw, problems)}
    stack = [b""]
    while stack:
        rel = stack.pop()
        fd = _open(os.path.join(root, rel), os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as listing:
                entries = [(os.fsencode(e.name), e.inode(), e.is_dir(follow_symlinks=False)) for e in listing]
        finally:
            os.close(fd)
        for name, ino, is_dir in entries:
            path = os.path.join(rel, name)
            rec = _record(os.path.join(root, path), content, raw, problems)
            if path in tree:
                problems.append(f"{path!r}: listed twice")
            if rec["ino"][1] != ino and not os.path.ismount(os.path.join(root, path)):
                problems.append(f"{path!r}: readdir says inode {ino}, lstat {rec['ino'][1]}")
            tree[path] = rec
            if is_dir and path not in skip:
                stack.append(path)
    return tree


def link_groups(tree):
    """The sets of names that are one file, found by inode number."""
    groups = {}
    for path, rec in tree.items():
        if rec["kind"] != "dir":
            groups.setdefault(rec["ino"], set()).add(path)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def identity_problems(tree):
    """Names that share an inode number without being links of one another."""
    seen, problems = {}, []
    for path, rec in tree.items():
        other = seen.setdefault(rec["ino"], path)
        if other != path and (rec["kind"] == "dir" or rec["nlink"] < 2):
            problems.append(f"{path!r} and {other!r} share inode {rec['ino']} but are not links")
    return problems


def differences(a, b, ignore=lambda path, key, x, y: False):
    """Lines that say how tree b differs from tree a; inode numbers are compared as link groups."""
    lines = []
    for path in sorted(a.keys() | b.keys()):
        if path not in a or path not in b:
            if not ignore(path, "exists", a.get(path), b.get(path)):
                lines.append(f"{path!r}: only in the {'first' if path in a else 'second'}")
            continue
        x, y = a[path], b[path]
        for key in sorted((x.keys() | y.keys()) - {"ino"}):
            if x.get(key) != y.get(key) and not ignore(path, key, x, y):
                lines.append(f"{path!r}: {key}: {x.get(key)!r} against {y.get(key)!r}")
    for group in link_groups(a) ^ link_groups(b):
        if not any(ignore(p, "links", a.get(p), b.get(p)) for p in group):
            lines.append(f"links: {sorted(group)!r} only in one of the two")
    return lines


def digest(tree):
    """One short name for a whole snapshot."""
    sha = hashlib.sha256()
    for path in sorted(tree):
        sha.update(repr((path, sorted(tree[path].items()))).encode())
    return sha.hexdigest()[:16]


def run(*argv, timeout=120, check=True, **more):
    """Runs a command without a shell; a command that hangs is an error, not a hang."""
    done = subprocess.run(argv, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, **more)
    if check and done.returncode:
        tail = (done.stderr + done.stdout)[-2000:].decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(map(str, argv))[:300]}: exit {done.returncode}: {tail}")
    return done


def escape(path):
    """A path as it is written inside a mount option string."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class Mount:
    """A mounted union, unmounted at the end of a with block."""

    def __init__(self, program, mountpoint, lowers, upper=None, work=None, data=(), options=""):
        """program is None for kernel overlayfs, else the path of laminafs."""
        self.program, self.mountpoint = program, str(mountpoint)
        text = "lowerdir=" + ":".join(map(escape, lowers)) + "".join("::" + escape(d) for d in data)
        if upper:
            text += f",upperdir={escape(upper)},workdir={escape(work)}"
        self.options = ",".join(filter(None, [text, options]))

    def __enter__(self):
        os.makedirs(self.mountpoint, exist_ok=True)
        if self.program:
            run(self.program, "mount", "-o", self.options, self.mountpoint)
        else:
            run("mount", "-t", "overlay", "overlay", "-o", self.options, self.mountpoint)
        return self.mountpoint

    def __exit__(self, *_):
        for _ in range(100):
            try:
                if self.program:
                    run(self.program, "umount", self.mountpoint, timeout=60)
                else:
                    run("umount", self.mountpoint, timeout=60)
                return
            except RuntimeError:
                time.sleep(0.1)
            except subprocess.TimeoutExpired:
                break
        run("umount", "-l", self.mountpoint, check=False)
        raise RuntimeError(f"{self.mountpoint} could not be unmounted")
