"""Workloads of many single calls, which no common tool makes: functions that run in the mount as working directory."""

import mmap
import os
import random

PAGE = 4096


def files(directory):
    """All regular files below a directory, sorted."""
    found = []
    for path, _, names in os.walk(directory):
        found += [f"{path}/{name}" for name in names if not os.path.islink(f"{path}/{name}")]
    return sorted(found)


def stat_missing(directories, count):
    """Asks for names that are not there, each once, in turns below these directories."""
    for n in range(count):
        if os.access(f"{directories[n % len(directories)]}/no-such-name-{n}", os.F_OK):
            raise FileExistsError(n)


def append_each(paths):
    """Appends a byte to each file."""
    for path in paths:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"x")
        os.close(fd)


def rename_each(paths):
    """Renames each file within its directory."""
    for path in paths:
        os.rename(path, path + ".renamed")


def offsets(path, count):
    """As many offsets of pages within a file, at random but the same in every run."""
    pages = os.stat(path).st_size // PAGE
    chosen = random.Random(5)
    return [chosen.randrange(pages) * PAGE for _ in range(count)]


def read_random(path, at):
    """Reads a page at each of these offsets."""
    fd = os.open(path, os.O_RDONLY)
    for offset in at:
        if len(os.pread(fd, PAGE, offset)) != PAGE:
            raise EOFError(offset)
    os.close(fd)


def write_random(path, at):
    """Writes a page at each of these offsets."""
    fd = os.open(path, os.O_WRONLY)
    page = b"y" * PAGE
    for offset in at:
        if os.pwrite(fd, page, offset) != PAGE:
            raise OSError(f"short write at {offset}")
    os.close(fd)


def touch_pages(path, times):
    """Maps a file and reads a byte of every page, over and over again with a new mapping."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(times):
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as pages:
            sum(pages[::PAGE])
    os.close(fd)
