"""The stack of the workloads, and the workloads: each is a shell script or a function, run in a fresh mount."""

import os
from functools import partial
from typing import Callable, NamedTuple, Optional, Union

import calls
from contenders import Contender, mounted
from trees import run

MB = 1 << 20
BIG = 256  # MB of the file that is read, appended to and written
HUGE = 1024  # MB of the file for whatever takes too short with less

# What is unpacked, and unpacked over what is there: some 6,800 names.
UNPACKED = ("usr/lib/python3.11", "usr/lib/python3", "usr/lib/git-core", "usr/share/perl", "srv/repo")

SOURCE = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) { printf("%zu\\n", argc > 1 ? strlen(argv[1]) : 0); return EXIT_SUCCESS; }
"""


class Stack(NamedTuple):
    """The read-only layers, topmost first, and what the workloads need beside them."""

    lowers: list
    archive: str
    environment: dict


def prepare(debian, base, kernel: Contender):
    """Makes the layer on top of the Debian root, and a tar of parts of the merged tree, below `base`."""
    top, archive = f"{base}/top", f"{base}/tree.tar"
    os.mkdir(top)
    for name, size in (("big", BIG), ("huge", HUGE)):
        with open(f"{top}/{name}", "wb") as f:
            for _ in range(size):
                f.write(os.urandom(MB))
    lowers = [top] + [f"{debian}/{layer}" for layer in ("L3", "L2", "L1")]
    with mounted(kernel, lowers, base, writable=False) as mount:
        run("tar", "-C", f"{mount.place}/m", "-cf", archive, *UNPACKED)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C", "TREE": archive, "SOURCE": SOURCE}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "n", f"GIT_{who}_EMAIL": "n@localhost"}
    return Stack(lowers, archive, environment)


def read_all(directory):
    """Reads every file below a directory."""
    run("bash", "-euo", "pipefail", "-c", 'tar -C "$1" -cf - . | cat > /dev/null', "-", directory, timeout=600)


def warm(stack):
    """Reads all layers and the tar once, so that they are in the page cache."""
    for lower in stack.lowers:
        read_all(lower)
    run("cp", stack.archive, "/dev/null")


class Workload(NamedTuple):
    """What is measured (`act`), what is done before it in the same mount, and whether `act` writes."""

    name: str
    act: Union[str, Callable]
    before: Optional[str] = None
    writes: bool = False


WALK = r"find . -printf '%s\n'"
READ = "tar -cf - usr | cat"
GREP = "grep -rc NOSUCHSTRING usr/share usr/lib/python3* usr/include srv/repo || test $? = 1"
# Two parts of the tree with about 5,000 names each.
HALVES = (r"find usr/lib usr/bin -printf '%s\n'", r"find usr/share usr/include -printf '%s\n'")
UNTAR = "mkdir {0} && tar -C {0} -xf $TREE"
TWO = "{0} & first=$!\n{1} & wait $!\nwait $first"


def workloads(stack):
    """All workloads, in the order of the table."""
    include = calls.files(f"{stack.lowers[-1]}/usr/include")
    include = [os.path.relpath(path, stack.lowers[-1]) for path in include]
    big = f"{stack.lowers[0]}/big"
    writing = partial(Workload, writes=True)
    return (
        Workload("walk-first", WALK),
        Workload("walk-again", "\n".join([WALK] * 3), before=WALK),
        Workload("read-first", READ),
        Workload("read-again", READ, before=READ),
        Workload("grep-again", GREP, before=GREP),
        Workload("stat-miss", partial(calls.stat_missing, ("usr/bin", "usr/lib", "usr/share", "etc"), 20_000)),
        writing("untar", UNTAR.format("a")),
        writing("untar-par", TWO.format(UNTAR.format("a"), UNTAR.format("b"))),
        writing("overwrite", "tar -xf $TREE"),
        writing("copyup-meta", "chmod -R g+w srv/repo"),
        writing("copyup-data", partial(calls.append_each, include)),
        writing("copyup-big", partial(calls.append_each, ["big"])),
        writing("delete-lower", "rm -rf usr/share/perl usr/include srv/repo"),
        writing("delete-upper", "rm -rf a", before=UNTAR.format("a")),
        writing("rename-files", partial(calls.rename_each, include)),
        Workload("seqread", "dd if=huge of=/dev/null bs=1M"),
        Workload("seqread-again", "dd if=huge of=/dev/null bs=1M", before="cat huge"),
        writing("seqwrite", f"dd if=/dev/zero of=new bs=1M count={BIG}"),
        writing("write-4k", f"dd if=/dev/zero of=new bs=4k count={BIG * MB // 4096}"),
        Workload("randread", partial(calls.read_random, "big", calls.offsets(big, 100_000)), before="cat big"),
        writing("randwrite", partial(calls.write_random, "new", calls.offsets(big, 50_000)), before="cp big new"),
        Workload("mmap-read", partial(calls.touch_pages, "huge", 4), before="cat huge"),
        Workload("python-start", "for i in $(seq 10); do chroot . python3 -c 'import json, asyncio, email.mime.text'; done"),
        writing("gcc", "for i in $(seq 5); do chroot . gcc -O1 -o /tmp/prog /tmp/x.c; done", before='echo "$SOURCE" > tmp/x.c'),
        writing("compileall", "chroot . python3 -m compileall -q -f $(echo /usr/lib/python3.11/{json,email,asyncio,http})"),
        writing("git-add", "chroot . sh -euc 'cd /usr/share/perl; git init -q; git add -A; git commit -q -m first'"),
        Workload("walk-halves", "\n".join(HALVES)),
        Workload("walk-halves-par", TWO.format(*HALVES)),
    )


# What two processes achieve against one: name, the workload of one, of two at once, and how much more the latter does.
PAIRS = (("untar", "untar", "untar-par", 2), ("first walk", "walk-halves", "walk-halves-par", 1))
