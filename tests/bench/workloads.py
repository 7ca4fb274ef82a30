#!/usr/bin/env python3
"""What work of many kinds takes on laminafs, on kernel overlayfs and on other userspace unions.

  tests/bench/workloads.py --laminafs PROGRAM --debian DEBIAN --dir DIR [--rounds N] [--only WORKLOAD,...]
                           [--contenders NAME,...] [--awake] [--json FILE]

DEBIAN holds the layers that `tests/tier2/debian_root.py --layers-only --dir DEBIAN` makes. DIR, on a tmpfs or on a disk
file system, gets the upper and work directories, 1.5 GB of input, and on a disk file system 14 GB a round: there nothing
is deleted before the end, as ext4 can be slow to reuse inodes that were deleted a moment ago. Needs root, and the other
contenders where they are to be measured: `kernel` is always, `laminafs`, `passthrough` (laminafs with
data=passthrough), `writeback` (with writeback=1); `fo1`, `fo2` (fuse-overlayfs 1.x, 2.x; the second one may be called
fuse-overlayfs2) and `unionfs` (unionfs-fuse) where they are installed.

The workloads are in suite.py. In each round every contender does each, one right after the other, in a mount of its
own with an empty upper directory: the layers are in the page cache, nothing is in the caches of the mount but what the
workload's own preparation left there (`-again`: the same done once). Each runs in a process of its own. What writes
ends with syncfs(2) of the mount and of the upper directory's file system, within the time: kernel overlayfs and
laminafs make a copied-up file durable before it can be seen, others do not, so only the time until everything is on
disk compares. What exits with an error "fails", and says why on standard error.

Printed are the median seconds of kernel overlayfs, and for the others the median of the ratios to it in the same round.
Whoever first does what was not done for a while is slower, so that before each workload kernel overlayfs does it once
unmeasured, and each round begins with another contender.
--awake keeps idle processors from halting while this runs (/dev/cpu_dma_latency): in a virtual machine, waking a halted
processor is half of the price of a FUSE request.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tier2"))

import private
from contenders import adopt, find, mounted, ratio, some
from suite import PAIRS, prepare, warm, workloads
from trees import run

LIMIT = 600  # seconds that one workload may take


def become(act, directory, environment, errors):
    """In the child: does the work, and ends."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(LIMIT)
        nothing = os.open("/dev/null", os.O_RDWR)
        for source, target in ((nothing, 0), (nothing, 1), (errors, 2)):
            os.dup2(source, target)
        os.chdir(directory)
        if isinstance(act, str):
            os.execvpe("bash", ["bash", "-euo", "pipefail", "-c", act], environment)
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def do(act, directory, environment):
    """Has a process do the work; RuntimeError with its messages when it fails."""
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            become(act, directory, environment, errors.fileno())
        status = None
        try:
            status = os.waitpid(pid, 0)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # what it has left behind
            if status is None:
                os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            errors.seek(0)
            why = f"more than {LIMIT} s" if code == -signal.SIGALRM else f"exit {code}"
            raise RuntimeError(f"{why}: {errors.read()[-1000:].decode(errors='replace').strip()}")


def measure(workload, contender, stack, base, keep):
    """Seconds until the mount answered, and of the workload; None for what fails."""
    answered = seconds = None
    try:
        with mounted(contender, stack.lowers, base, keep=keep) as mount:
            answered, directory = mount.seconds, f"{mount.place}/m"
            sync = ("sync", "-f", directory, f"{mount.place}/u")
            if workload.before:
                do(workload.before, directory, stack.environment)
            run(*sync, timeout=LIMIT)
            start = time.monotonic()
            do(workload.act, directory, stack.environment)
            if workload.writes:
                run(*sync, timeout=LIMIT)
            seconds = time.monotonic() - start
    except (RuntimeError, subprocess.TimeoutExpired) as e:
        print(f"{workload.name}: {contender.title} fails: {e}", file=sys.stderr, flush=True)
    return answered, seconds


def measure_all(chosen, contenders, stack, base, rounds, keep):
    """Seconds by workload and contender, and seconds until the mount answered by contender."""
    seconds = {workload.name: {key: [] for key in contenders} for workload in chosen}
    answered = {key: [] for key in contenders}
    for number in range(rounds):
        warm(stack)
        order = list(contenders)
        order = order[number % len(order):] + order[:number % len(order)]
        for workload in chosen:
            measure(workload, contenders["kernel"], stack, base, keep)
            for key in order:
                first, second = measure(workload, contenders[key], stack, base, keep)
                answered[key].append(first)
                seconds[workload.name][key].append(second)
        print(f"round {number + 1} of {rounds}, load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return seconds, answered


def head(base, rounds, awake):
    """What has to be known about a machine and a run: lines of text."""
    kind, source = run("findmnt", "-no", "FSTYPE,SOURCE", "-T", base).stdout.decode().split()[:2]
    return [
        f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}; upper on {kind} ({source}); "
        f"idle processors {'kept awake' if awake else 'may halt'}; {rounds} round{'s' * (rounds > 1)}",
        f"load average at the beginning {os.getloadavg()[0]:.1f}",
    ]


def cell(value):
    """A ratio in the table."""
    return "fails" if value is None else f"×{value:.2f}"


def middle(values, form):
    """The median, or that one run failed."""
    return "fails" if None in values else form.format(statistics.median(values))


def table(seconds, answered, contenders):
    """The medians, as tables of docs/PERFORMANCE.md."""
    titles = [contender.title for contender in contenders.values()]
    others = list(contenders)[1:]
    print(f"| workload | {' | '.join([titles[0] + ', seconds'] + titles[1:])} |")
    print("|---|" + "---:|" * len(titles))
    for name, by in seconds.items():
        print(f"| {name} | {' | '.join([middle(by['kernel'], '{:.3f}')] + [cell(ratio(by[key], by['kernel'])) for key in others])} |")
    answers = [middle(answered[key], "{:.4f} s") for key in contenders]
    print(f"| until the mount answers | {' | '.join(answers)} |")
    pairs = [pair for pair in PAIRS if pair[1] in seconds and pair[2] in seconds]
    if pairs:
        print(f"\n| two processes against one, throughput | {' | '.join(titles)} |")
        print("|---|" + "---:|" * len(titles))
    for name, one, two, more in pairs:
        ratios = [ratio(seconds[one][key], seconds[two][key]) for key in contenders]
        print(f"| {name} | {' | '.join(cell(r and r * more) for r in ratios)} |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laminafs", default="laminafs")
    parser.add_argument("--debian", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--contenders", type=lambda text: text.split(","))
    parser.add_argument("--awake", action="store_true")
    parser.add_argument("--json", type=argparse.FileType("w"))
    return parser.parse_args()


def main():
    args = arguments()
    private.enter()
    adopt()
    program = os.path.abspath(shutil.which(args.laminafs) or sys.exit(f"{args.laminafs}: not found"))
    found = find(program)
    contenders = {"kernel": found["kernel"]} | some(args.contenders, found, "contender")
    disk = run("stat", "-f", "-c", "%T", args.dir).stdout.decode().strip() != "tmpfs"
    needed = 4 + 14 * args.rounds * disk
    if shutil.disk_usage(args.dir).free < needed << 30:
        sys.exit(f"{args.dir}: {needed} GB have to be free")
    with contextlib.ExitStack() as stays:
        if args.awake:
            latency = stays.enter_context(open("/dev/cpu_dma_latency", "wb", buffering=0))
            latency.write(struct.pack("i", 0))  # microseconds; holds while the file is open
        base = tempfile.mkdtemp(prefix="laminafs-workloads-", dir=os.path.abspath(args.dir))
        stays.callback(shutil.rmtree, base, ignore_errors=True)
        stack = prepare(os.path.abspath(args.debian), base, found["kernel"])
        chosen = some(args.only, {w.name: w for w in workloads(stack)}, "workload").values()
        lines = head(base, args.rounds, args.awake)
        seconds, answered = measure_all(chosen, contenders, stack, base, args.rounds, keep=disk)
        lines[-1] += f", at the end {os.getloadavg()[0]:.1f}"
    print("\n".join(lines), end="\n\n")
    table(seconds, answered, contenders)
    if args.json:
        json.dump({"head": lines, "seconds": seconds, "answered": answered}, args.json, indent=1)
        args.json.write("\n")


if __name__ == "__main__":
    main()
