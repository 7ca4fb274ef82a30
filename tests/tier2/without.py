#!/usr/bin/env python3
"""Runs a program that may not make some system calls, as in containers and on some file systems.

  LAMINAFS_WITHOUT=WHAT[,WHAT] without.py PROGRAM ARGUMENT...

devices: the character device 0:0 cannot be made (EPERM). attributes: no extended attribute can be set
(EOPNOTSUPP). rename: no rename leaves a whiteout (EINVAL). The filter (seccomp(2)) holds for all
processes that the program starts. With LAMINAFS_PROGRAM set that is what is run, with all arguments:
so this file can stand where the name of a program is expected, such as LAMINAFS= of the differential
test. Needs root (no_new_privs is not set) and x86-64 or AArch64.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# audit(7) names of the machine; numbers of mknodat, renameat2, the three setxattr and setxattrat.
MACHINES = {
    "x86_64": (0xC000003E, 259, 316, (188, 189, 190, 463)),
    "aarch64": (0xC00000B7, 33, 276, (5, 6, 7, 463)),
}
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


def argument(number):
    """Where struct seccomp_data has the lower half of an argument."""
    return 16 + 8 * number


def if_call(number, *rules):
    """Rules for one system call; they end with a return."""
    return [(EQUAL, 0, len(rules), number), *rules]


def rules(without):
    """The filter as (code, jump if true, jump if false, value)."""
    audit, mknodat, renameat2, setxattr = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 0)]
    if "devices" in without:
        program += if_call(
            mknodat,
            (LOAD, 0, 0, argument(2)),
            (AND, 0, 0, 0o170000),
            (EQUAL, 0, 3, 0o020000),
            (LOAD, 0, 0, argument(3)),
            (EQUAL, 0, 1, 0),
            (RETURN, 0, 0, FAIL | errno.EPERM),
            (RETURN, 0, 0, ALLOW),
        )
    if "rename" in without:
        program += if_call(
            renameat2,
            (LOAD, 0, 0, argument(4)),
            (AND, 0, 0, 4),
            (EQUAL, 1, 0, 0),
            (RETURN, 0, 0, FAIL | errno.EINVAL),
            (RETURN, 0, 0, ALLOW),
        )
    if "attributes" in without:
        for number in setxattr:
            program += if_call(number, (RETURN, 0, 0, FAIL | errno.EOPNOTSUPP))
    return program + [(RETURN, 0, 0, ALLOW)]


def main():
    without = os.environ.get("LAMINAFS_WITHOUT", "").split(",")
    if not set(without) <= {"devices", "attributes", "rename"}:
        sys.exit(f"without.py: LAMINAFS_WITHOUT={','.join(without)}: use devices, attributes, rename")
    program = rules(without)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in program))
    # struct sock_fprog
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters) != 0:
        sys.exit(f"without.py: seccomp: {os.strerror(ctypes.get_errno())}")
    named = os.environ.get("LAMINAFS_PROGRAM")
    words = [named, *sys.argv[1:]] if named else sys.argv[1:]
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
