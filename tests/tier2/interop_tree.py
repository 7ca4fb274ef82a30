"""The layers and the operations that interop.py compares: one example of each feature.

base_layer, kernel_layer, marker_layer and metacopy_layers make the lower directories; first and
second are the operations, each a name and a function of the mounted root. An operation may fail:
its errno is part of what is compared.
"""

import ctypes
import os
import socket
import stat
import struct

from trees import Mount, run

LONG = b"n" * 255
ODD = b"odd:na\\me,with\nall\xff\xfe"
NOREPLACE, EXCHANGE = 1, 2
# The length of sparse files, in bytes, and half of what one would take that is not sparse, in blocks.
SPARSE = 16 << 20
HALF_SPARSE = SPARSE // 512 // 2
OLD = -1_234_567_890_123_456_789 // 10 * 10
CAP_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *e) for e in ((1, 6, 0xFFFFFFFF), (2, 7, 1234), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
)
LIBC = ctypes.CDLL(None, use_errno=True)


def rename(m, a, b, flags=0):
    """renameat2 of two names below m."""
    a, b = (os.fsencode(os.path.join(m, x)) for x in (a, b))
    if LIBC.renameat2(-100, a, -100, b, flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def put(path, data, mode=0o644, owner=None, mtime=None):
    """Writes a new file."""
    with open(path, "xb") as f:
        f.write(data)
    os.chmod(path, mode)
    if owner:
        os.chown(path, *owner)
        os.chmod(path, mode)
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime))


def update(path, data, offset=0):
    """Overwrites a part of an existing file."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def pipe_in(path):
    """Makes a bound socket."""
    sock = socket.socket(socket.AF_UNIX)
    here = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        sock.bind(f"/proc/self/fd/{here}/{os.path.basename(path)}")
    finally:
        os.close(here)
        sock.close()


def family(root, name, depth=3):
    """A directory with files, an empty directory and nested directories."""
    path = f"{root}/{name}"
    os.mkdir(path)
    for level in range(depth):
        for i in range(3):
            put(f"{path}/f{i}", f"{name} {level} {i}".encode() * (i + 1), mtime=10**18 + level * 10**9 + i)
        os.mkdir(f"{path}/empty")
        path += "/sub"
        if level < depth - 1:
            os.mkdir(path)


FAMILIES = (
    "same across nest over back again swap1 swap2 into target chain deleted recreated opaque1 replaced "
    "k-ren k-nest k-del k-opq k-swap k-chain merged1 merged2 late1 late2 late3 whole"
).split()
LINKS = {
    "write": 3, "unlink": 3, "link": 2, "rename": 3, "gone": 2, "chmod": 4, "over": 2, "late": 4, "k-write": 3, "k-unlink": 3, "quiet": 3,
}


def base_layer(d):
    """L1: plain files of every kind."""
    os.mkdir(f"{d}/files")
    for i in range(24):
        put(f"{d}/files/f{i}", f"content {i}\n".encode() * (i * 50 + 1), 0o644, (1000 + i, 1000), 1_500_000_000_123_456_789 + i)
    for name in FAMILIES:
        family(d, name)
    os.mkdir(f"{d}/links")
    os.mkdir(f"{d}/links2")
    for name, count in LINKS.items():
        put(f"{d}/links/{name}1", f"links {name}".encode(), mtime=10**18)
        for i in range(2, count + 1):
            os.link(f"{d}/links/{name}1", f"{d}/links{'' if i % 2 else '2'}/{name}{i}")
    special = f"{d}/special"
    os.mkdir(special)
    for copy in "ab":
        os.mkfifo(f"{special}/fifo-{copy}", 0o640)
        pipe_in(f"{special}/sock-{copy}")
        os.mknod(f"{special}/char-{copy}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(f"{special}/block-{copy}", stat.S_IFBLK | 0o660, os.makedev(7, 99))
        os.symlink("../files/f1", f"{special}/symlink-{copy}")
        os.symlink("x" * 1000, f"{special}/long-{copy}")
        os.lchown(f"{special}/symlink-{copy}", 1000, 1001)
        os.utime(f"{special}/symlink-{copy}", ns=(OLD, OLD), follow_symlinks=False)
        put(f"{special}/suid-{copy}", b"#!", 0o4755, (1000, 1000))
        put(f"{special}/sgid-{copy}", b"#!", 0o2755, (1000, 1000))
        put(f"{special}/none-{copy}", b"secret", 0o000, (4_000_000_000, 4_000_000_001))
        put(f"{special}/old-{copy}", b"before 1970", mtime=OLD)
        put(f"{special}/future-{copy}", b"after 2038", mtime=4_500_000_000_987_654_321)
        put(f"{special}/cap-{copy}", b"#!", 0o755)
        os.setxattr(f"{special}/cap-{copy}", "security.capability", CAP_NET_RAW)
        put(f"{special}/acl-{copy}", b"acl")
        os.setxattr(f"{special}/acl-{copy}", "system.posix_acl_access", ACL)
        put(f"{special}/xattr-{copy}", b"x")
        os.setxattr(f"{special}/xattr-{copy}", "user.one", b"1" * 500)
        os.setxattr(f"{special}/xattr-{copy}", "user.empty", b"")
        os.setxattr(f"{special}/xattr-{copy}", "trusted.two", b"\0\1\2")
        os.mkdir(f"{special}/defacl-{copy}")
        os.setxattr(f"{special}/defacl-{copy}", "system.posix_acl_default", ACL)
        os.mkdir(f"{special}/sgid-dir-{copy}")
        os.chown(f"{special}/sgid-dir-{copy}", 0, 1000)
        os.chmod(f"{special}/sgid-dir-{copy}", 0o3775)
        with open(f"{special}/sparse-{copy}", "xb") as f:
            f.truncate(SPARSE)
            os.pwrite(f.fileno(), b"island", 4 << 20)
            os.pwrite(f.fileno(), b"end", SPARSE - 3)
    names = f"{d}/names"
    os.mkdir(names)
    for name in (LONG, ODD, b"%s", b"-rf", b" ", b"...", "ünï".encode()):
        put(os.path.join(os.fsencode(names), name), b"named " + name)
        os.mkdir(os.path.join(os.fsencode(names), name[:250] + b".d"))
        put(os.path.join(os.fsencode(names), name[:250] + b".d", name), b"inner")


def kernel_layer(d, below, work, mnt, options):
    """L2: an upper directory that kernel overlayfs wrote over L1, of every form it knows."""
    with Mount(None, mnt, [below], d, work, options=options) as m:
        rename(m, "k-ren", "k-ren-moved")
        rename(m, "k-nest", "files/k-nest")
        rename(m, "files/k-nest/sub", "k-nest-sub")
        rename(m, "k-nest-sub/sub", "k-ren-moved/far")
        run("rm", "-rf", f"{m}/k-del", f"{m}/k-opq")
        os.mkdir(f"{m}/k-opq")
        put(f"{m}/k-opq/new", b"over opaque")
        rename(m, "k-swap", "k-chain", EXCHANGE)
        os.chmod(f"{m}/files/f20", 0o600)  # becomes a metacopy file
        os.chmod(f"{m}/files/f21", 0o600)
        rename(m, "files/f21", "files/f21-moved")
        os.chmod(f"{m}/files/f22", 0o600)
        rename(m, "files/f22", "k-opq/f22-moved")
        os.unlink(f"{m}/files/f23")
        update(f"{m}/links/k-write1", b"KERNEL")
        os.unlink(f"{m}/links2/k-unlink2")
        for name in ("merged1", "merged2", "late1"):
            put(f"{m}/{name}/upper-of-L2", name.encode())
            os.unlink(f"{m}/{name}/f1")
            put(f"{m}/{name}/sub/f-L2", b"L2")


def marker_layer(d):
    """L3: the markers that tools write by hand: character devices, opaque, xattr whiteouts."""
    for name in ("merged1", "merged2", "late2", "marks"):
        os.mkdir(f"{d}/{name}")
        put(f"{d}/{name}/upper-of-L3", name.encode())
    os.mknod(f"{d}/merged1/f2", stat.S_IFCHR, 0)
    os.mkdir(f"{d}/merged1/sub")
    os.setxattr(f"{d}/merged1/sub", "trusted.overlay.opaque", b"y")
    put(f"{d}/merged1/sub/only", b"only this")
    os.mkdir(f"{d}/merged2/sub")
    put(f"{d}/merged2/sub/f0", b"")
    os.setxattr(f"{d}/merged2/sub/f0", "trusted.overlay.whiteout", b"y")
    os.setxattr(f"{d}/merged2/sub", "trusted.overlay.opaque", b"x")
    # Only in a merged directory: the kernel lists, but does not find, whiteouts of one that is not.
    os.mknod(f"{d}/merged1/nothing-below", stat.S_IFCHR, 0)


def metacopy_layers(meta, data, work, mnt, options):
    """M and D: what a kernel upper with metacopy files looks like over a data-only layer."""
    os.mkdir(f"{data}/objs")
    os.mkdir(f"{data}/objs/deep")
    for i in range(6):
        put(f"{data}/objs/o{i}", f"object {i}".encode() * 3000, mtime=10**18)
        put(f"{data}/objs/deep/o{i}", f"deep object {i}".encode() * 3000, mtime=10**18)
    with Mount(None, mnt, [data], meta, work, options=options) as m:
        os.mkdir(f"{m}/meta")
        for i in range(6):
            os.chmod(f"{m}/objs/o{i}", 0o640 + i % 2)
            rename(m, f"objs/o{i}", f"meta/m{i}")
            os.utime(f"{m}/objs/deep/o{i}", ns=(10**18 + i, 10**18 + i))
            rename(m, f"objs/deep/o{i}", f"meta/deep{i}")
        run("rm", "-rf", f"{m}/objs")


def _special(m, name):
    return f"{m}/special/{name}-a"


def _copy_up_names(m):
    for name in os.listdir(os.fsencode(f"{m}/names")):
        path = os.path.join(os.fsencode(f"{m}/names"), name)
        if os.path.isfile(path):
            update(path, b"NAMED")
        else:
            put(os.path.join(path, b"new"), b"")


def _read(path):
    with open(path, "rb") as f:
        return f.read()


def _scribble(fd):
    """Writes through a descriptor whose name is gone."""
    try:
        os.pwrite(fd, b"scribble", 3)
        if os.pread(fd, 8, 3) != b"scribble" or os.fstat(fd).st_nlink != 0:
            raise OSError(5, "the unlinked file is not what it was")
    finally:
        os.close(fd)


def _unlinked_open(m):
    fd = os.open(f"{m}/files/f15", os.O_RDWR)
    try:
        os.unlink(f"{m}/files/f15")
    finally:
        _scribble(fd)


def _renamed_over_open(m):
    fd = os.open(f"{m}/files/f16", os.O_RDWR)
    try:
        rename(m, "files/f17", "files/f16")
    finally:
        _scribble(fd)


FIRST = {
    # Creation.
    "create": lambda m: put(f"{m}/new-file", b"new", 0o640, (5, 6), OLD),
    "create in lower dir": lambda m: put(f"{m}/same/new-file", b"new"),
    "create deep": lambda m: put(f"{m}/whole/sub/sub/new-file", b"new"),
    "mkdir": lambda m: family(m, "new-dir"),
    "mkdir in lower": lambda m: family(f"{m}/whole", "new-dir"),
    "create exists": lambda m: put(f"{m}/files/f0", b""),
    "fifo": lambda m: os.mkfifo(f"{m}/new-fifo"),
    "socket": lambda m: pipe_in(f"{m}/new-sock"),
    "device": lambda m: os.mknod(f"{m}/new-dev", stat.S_IFCHR | 0o600, os.makedev(5, 1)),
    "symlink": lambda m: os.symlink("nowhere", f"{m}/files/new-symlink"),
    "new links": lambda m: (put(f"{m}/nl1", b"nl"), os.link(f"{m}/nl1", f"{m}/files/nl2"), os.link(f"{m}/nl1", f"{m}/same/nl3")),
    "default ACL file": lambda m: put(f"{m}/special/defacl-a/f", b"acl"),
    "default ACL dir": lambda m: os.mkdir(f"{m}/special/defacl-a/d"),
    "sgid dir": lambda m: (put(f"{m}/special/sgid-dir-a/f", b""), os.mkdir(f"{m}/special/sgid-dir-a/d")),
    # Removal.
    "unlink": lambda m: os.unlink(f"{m}/files/f1"),
    "unlink again": lambda m: os.unlink(f"{m}/files/f1"),
    "unlink, create": lambda m: (os.unlink(f"{m}/files/f2"), put(f"{m}/files/f2", b"second life")),
    "file becomes dir": lambda m: (os.unlink(f"{m}/files/f3"), family(f"{m}/files", "f3")),
    "dir becomes file": lambda m: (run("rm", "-rf", f"{m}/replaced"), put(f"{m}/replaced", b"file now")),
    "rmdir full": lambda m: os.rmdir(f"{m}/deleted"),
    "rm -rf": lambda m: run("rm", "-rf", f"{m}/deleted") and None,
    "rm, mkdir": lambda m: (run("rm", "-rf", f"{m}/recreated"), os.mkdir(f"{m}/recreated")),
    "rm, mkdir, fill": lambda m: (run("rm", "-rf", f"{m}/opaque1"), family(m, "opaque1"), os.unlink(f"{m}/opaque1/f0")),
    "rmdir empty": lambda m: os.rmdir(f"{m}/whole/empty"),
    "unlink in redirected": lambda m: os.unlink(f"{m}/k-ren-moved/f0"),
    "unlink open": _unlinked_open,
    "rename over open": _renamed_over_open,
    # Changes of data and attributes.
    "write": lambda m: update(f"{m}/files/f4", b"WRITTEN", 5),
    "truncate": lambda m: os.truncate(f"{m}/files/f5", 3),
    "extend": lambda m: os.truncate(f"{m}/files/f6", 100_000),
    "O_TRUNC": lambda m: open(f"{m}/files/f7", "wb").close(),
    "chmod": lambda m: os.chmod(f"{m}/files/f8", 0o4711),
    "chown": lambda m: os.chown(f"{m}/files/f9", 7, 8),
    "utime": lambda m: os.utime(f"{m}/files/f10", ns=(OLD, OLD - 1)),
    "chmod dir": lambda m: os.chmod(f"{m}/files", 0o1777),
    "setxattr": lambda m: os.setxattr(f"{m}/files/f11", "user.new", b"value"),
    "setxattr dir": lambda m: os.setxattr(f"{m}/whole", "trusted.new", b"value"),
    "escaped xattr": lambda m: os.setxattr(f"{m}/files/f11", "trusted.overlay.mine", b"nested"),
    "escaped opaque": lambda m: os.setxattr(f"{m}/whole/sub", "trusted.overlay.opaque", b"y"),
    "removexattr": lambda m: os.removexattr(f"{m}/special/xattr-a", "user.one"),
    "set ACL": lambda m: os.setxattr(f"{m}/files/f12", "system.posix_acl_access", ACL),
    "chmod with ACL": lambda m: os.chmod(f"{m}/special/acl-a", 0o600),
    "set capability": lambda m: os.setxattr(f"{m}/files/f13", "security.capability", CAP_NET_RAW),
    "write to capable": lambda m: update(_special(m, "cap"), b"##"),
    "chown capable": lambda m: os.chown(f"{m}/special/cap-b", 3, 3),
    "write to suid": lambda m: update(_special(m, "suid"), b"##"),
    "chown sgid": lambda m: os.chown(_special(m, "sgid"), 9, 9),
    "write mode 000": lambda m: update(_special(m, "none"), b"SEC"),
    "write sparse": lambda m: update(_special(m, "sparse"), b"second island", 9 << 20),
    "punch": lambda m: run("fallocate", "-p", "-o", "4M", "-l", "1M", f"{m}/special/sparse-b") and None,
    "old": lambda m: os.chmod(_special(m, "old"), 0o600),
    "future": lambda m: os.chmod(_special(m, "future"), 0o600),
    "fifo copy-up": lambda m: os.chmod(_special(m, "fifo"), 0o622),
    "socket copy-up": lambda m: os.chmod(_special(m, "sock"), 0o622),
    "char copy-up": lambda m: os.chown(_special(m, "char"), 3, 3),
    "block copy-up": lambda m: os.utime(_special(m, "block"), ns=(OLD, OLD)),
    "symlink copy-up": lambda m: os.lchown(_special(m, "symlink"), 3, 3),
    "long symlink rename": lambda m: rename(m, "special/long-a", "special/long-c"),
    "names": _copy_up_names,
    "too long": lambda m: put(os.path.join(os.fsencode(m), LONG + b"x"), b""),
    "metacopy chmod": lambda m: os.chmod(f"{m}/meta/m0", 0o600),
    "metacopy write": lambda m: update(f"{m}/meta/m1", b"OBJECT", 9000),
    "metacopy rename": lambda m: rename(m, "meta/m2", "same/m2"),
    "metacopy unlink": lambda m: os.unlink(f"{m}/meta/m3"),
    "metacopy link": lambda m: os.link(f"{m}/meta/m4", f"{m}/meta/m4-link"),
    "metacopy deep": lambda m: update(f"{m}/meta/deep1", b"DEEP"),
    "metacopy of L2": lambda m: (update(f"{m}/files/f20", b"TWENTY"), os.chmod(f"{m}/files/f21-moved", 0o640)),
    # Renames of files.
    "file rename": lambda m: rename(m, "files/f14", "files/f14-moved"),
    "file across": lambda m: rename(m, "files/f18", "same/f18"),
    "file over lower": lambda m: rename(m, "files/f19", "whole/f0"),
    "noreplace": lambda m: rename(m, "files/f0", "whole/f1", NOREPLACE),
    "noreplace over whiteout": lambda m: rename(m, "files/f0", "files/f1", NOREPLACE),
    "exchange files": lambda m: rename(m, "whole/f1", "whole/f2", EXCHANGE),
    "file over dir": lambda m: rename(m, "new-file", "whole"),
    "dir over file": lambda m: rename(m, "whole", "new-file"),
    # Renames of directories.
    "dir rename": lambda m: rename(m, "same", "same-moved"),
    "dir across": lambda m: rename(m, "across", "whole/across-moved"),
    "dir nested": lambda m: (rename(m, "nest", "nest-moved"), rename(m, "nest-moved/sub", "nest-sub"), rename(m, "nest-sub/sub", "whole/nest-sub-sub")),
    "dir over empty": lambda m: (run("rm", "-rf", f"{m}/target/sub"), os.mkdir(f"{m}/target/sub"), rename(m, "over", "target/sub")),
    "dir over lower empty": lambda m: rename(m, "whole/sub", "chain/empty"),
    "dir over full": lambda m: rename(m, "merged1", "merged2"),
    "dir and back": lambda m: (rename(m, "back", "back-moved"), put(f"{m}/back-moved/while-away", b""), rename(m, "back-moved", "back")),
    "dir, name reused": lambda m: (rename(m, "again", "again-moved"), family(m, "again")),
    "dir exchange": lambda m: rename(m, "swap1", "swap2", EXCHANGE),
    "dir exchange with file": lambda m: rename(m, "into/sub", "into/f0", EXCHANGE),
    "dir into renamed": lambda m: rename(m, "chain", "same-moved/chain"),
    "dir into itself": lambda m: rename(m, "into", "into/empty/x"),
    "merged dir rename": lambda m: rename(m, "merged1", "merged1-moved"),
    "redirected dir again": lambda m: rename(m, "k-ren-moved", "whole/k-ren"),
    "dir of three layers": lambda m: (rename(m, "merged2", "target/merged2"), os.unlink(f"{m}/target/merged2/upper-of-L2")),
    "new dir rename": lambda m: rename(m, "new-dir/sub", "new-dir-sub"),
    "special dir rename": lambda m: rename(m, "special/defacl-b", "special/defacl-moved"),
    "odd dir rename": lambda m: rename(os.fsencode(m), b"names/" + LONG[:250] + b".d", b"names/" + LONG[:251] + b".e"),
    "odd dir rename 2": lambda m: rename(os.fsencode(m), b"names/" + ODD + b".d", b"same-moved/" + ODD),
    # Hard links of lower layers.
    "link write": lambda m: update(f"{m}/links/write1", b"LINKS"),
    "link unlink": lambda m: os.unlink(f"{m}/links2/unlink2"),
    "link link": lambda m: os.link(f"{m}/links/link1", f"{m}/whole/link-new"),
    "link rename": lambda m: rename(m, "links2/rename2", "links2/rename-moved"),
    "link gone": lambda m: (os.unlink(f"{m}/links/gone1"), os.unlink(f"{m}/links2/gone2")),
    "link chmod": lambda m: (os.chmod(f"{m}/links/chmod1", 0o600), os.unlink(f"{m}/links/chmod3")),
    "link rename over link": lambda m: rename(m, "links/over1", "links2/over2"),
    "link of L2": lambda m: update(f"{m}/links2/k-write2", b"LAMINA"),
    "link of lower symlink": lambda m: os.link(f"{m}/special/symlink-b", f"{m}/special/symlink-link", follow_symlinks=False),
    "link of lower fifo": lambda m: os.link(f"{m}/special/fifo-b", f"{m}/special/fifo-link"),
    "link from deep": lambda m: os.link(f"{m}/whole/across-moved/f0", f"{m}/across-f0"),
}

SECOND = {
    "rename renamed": lambda m: rename(m, "same-moved", "same-twice"),
    "rename across again": lambda m: rename(m, "whole/across-moved", "nest-sub/across"),
    "write in renamed": lambda m: update(f"{m}/same-twice/f0", b"LATE"),
    "write in chain": lambda m: update(f"{m}/same-twice/chain/sub/f1", b"LATE"),
    "unlink in renamed": lambda m: os.unlink(f"{m}/same-twice/f2"),
    "create at old name": lambda m: family(m, "same"),
    "create at old file name": lambda m: put(f"{m}/files/f14", b"again"),
    "delete renamed": lambda m: run("rm", "-rf", f"{m}/nest-moved") and None,
    "delete exchanged": lambda m: run("rm", "-rf", f"{m}/swap1") and None,
    "delete opaque": lambda m: (run("rm", "-rf", f"{m}/opaque1", f"{m}/recreated"), os.mkdir(f"{m}/recreated")),
    "rename opaque": lambda m: rename(m, "again", "again-third"),
    "rename back": lambda m: rename(m, "again-moved", "again"),
    "exchange again": lambda m: rename(m, "swap2", "late3", EXCHANGE),
    "rename merged": lambda m: (rename(m, "late1", "late2/late1"), rename(m, "late2", "late")),
    "links write": lambda m: update(f"{m}/links/write3", b"AGAIN"),
    "links unlink": lambda m: os.unlink(f"{m}/links/unlink1"),
    "links unlink last": lambda m: os.unlink(f"{m}/links/unlink3"),
    "links link": lambda m: os.link(f"{m}/whole/link-new", f"{m}/links/link-newer"),
    "links unlink lower name": lambda m: os.unlink(f"{m}/links2/link2"),
    "links rename": lambda m: rename(m, "links/rename3", "same-twice/rename3"),
    "links chmod": lambda m: os.chmod(f"{m}/links2/chmod4", 0o640),
    "links late": lambda m: (update(f"{m}/links2/late4", b"LATE"), os.unlink(f"{m}/links2/late2"), os.link(f"{m}/links/late3", f"{m}/links/late5")),
    "links of new": lambda m: (os.unlink(f"{m}/nl1"), update(f"{m}/files/nl2", b"NL")),
    "write metacopy": lambda m: update(f"{m}/meta/m0", b"NOW FULL"),
    "write metacopy moved": lambda m: update(f"{m}/same-twice/m2", b"NOW FULL"),
    "write metacopy link": lambda m: update(f"{m}/meta/m4-link", b"NOW FULL"),
    "write chmodded": lambda m: update(f"{m}/files/f8", b"EIGHT"),
    "truncate chowned": lambda m: os.truncate(f"{m}/files/f9", 10),
    "unlink chmodded": lambda m: os.unlink(f"{m}/files/f21-moved"),
    "append utimed": lambda m: update(f"{m}/files/f10", b"TEN", 5000),
    "rename chmodded": lambda m: rename(m, "special/old-a", "special/old-moved"),
    "read all": lambda m: _read(f"{m}/special/sparse-a") and None,
    "escaped remove": lambda m: os.removexattr(f"{m}/files/f11", "trusted.overlay.mine"),
    "rmdir renamed full": lambda m: os.rmdir(f"{m}/again"),
    "rmdir cleared": lambda m: (run("rm", "-rf", f"{m}/nest-sub/f0", f"{m}/nest-sub/f1", f"{m}/nest-sub/f2", f"{m}/nest-sub/empty", f"{m}/nest-sub/across"), os.rmdir(f"{m}/nest-sub")),
    "mkdir cleared": lambda m: os.mkdir(f"{m}/nest-sub"),
}


def perform(steps, m):
    """Runs operations; returns the outcome of each: ok or the name of its error."""
    import errno

    outcome = {}
    for name, step in steps.items():
        try:
            step(m)
            outcome[name] = "ok"
        except OSError as e:
            outcome[name] = errno.errorcode.get(e.errno, str(e))
        except RuntimeError as e:
            outcome[name] = str(e).replace(m, "MNT")
    return outcome
