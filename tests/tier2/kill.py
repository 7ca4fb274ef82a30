#!/usr/bin/env python3
"""Commands that change the store are killed at random moments; nothing that was reported done is lost.

  kill.py --laminafs PROGRAM [--scratch DIR] [--rounds N] [--seed N] [--keep]

Each round begins one command, or two at once, of load, import, tag, rmi, prune, and (where the program
has them) commit, rm and the making of writable layers, and kills most of them with SIGKILL somewhere
between their first instruction and a little after their usual end. After each round:

  - `laminafs verify` finds the store sound, and the directory tmp is empty again;
  - a name that a command with exit code 0 gave is there, for that image; one that it took is gone;
  - a name that only killed commands were about is either as it was or as it would have become;
  - what was written into a writable layer is there as long as no rm of it was begun.

Exit 1 on the first round where that is not so, with what happened before. Without --keep the store
goes in the end.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import images

ABSENT = None


class Names:
    """What each name may be: a set of ids, ABSENT among them."""

    def __init__(self):
        self.may = {}

    def of(self, name):
        """The possibilities of one name."""
        return self.may.get(name, {ABSENT})

    def maybe(self, name, outcome):
        """A command began that gives the name this outcome."""
        self.may[name] = self.of(name) | {outcome}

    def surely(self, name, outcome):
        """A command alone reported this outcome done."""
        self.may[name] = {outcome}

    def check(self, seen):
        """Fails on a name that is what it cannot be; what is seen is then known."""
        wrong = []
        for name in set(self.may) | set(seen):
            is_now = seen.get(name, ABSENT)
            if is_now not in self.of(name) and "any" not in self.of(name):
                wrong.append(f"{name} is {is_now}, but may be {sorted(map(str, self.of(name)))}")
            self.may[name] = {is_now}
        return wrong


class Test:
    """The store, what is in it, and the commands."""

    def __init__(self, program, scratch, seed):
        self.rng = random.Random(seed)
        self.dir = tempfile.mkdtemp(prefix="laminafs-kill-", dir=scratch)
        self.store = images.Store(program, os.path.join(self.dir, "store"))
        self.names, self.writable, self.log = Names(), Names(), []
        # How long each command usually takes, and what is supposed before that is known.
        self.usual, self.first = {}, 0.05
        self.counts = {"rounds": 0, "killed": 0, "done": 0, "refused": 0, "two at once": 0}
        base, tops = images.layer("base", 260, 6000), [images.layer(f"top{n}", 200, 6000) for n in range(3)]
        self.archives, self.tars = {}, {}
        for number, top in enumerate(tops):
            path = os.path.join(self.dir, f"{number}.tar")
            self.archives[path] = (f"image{number}:1", images.archive(path, f"image{number}:1", [base, top]))
            self.tars[number] = os.path.join(self.dir, f"root{number}.tar")
            with open(self.tars[number], "wb") as tar:
                tar.write(top)
        self.has_writable = self.store.has("mount", "--name") and self.store.has("rm")
        self.has_commit = self.has_writable and self.store.has("commit")

    def commands(self):
        """The commands that can be begun now: words, and what they do to which names."""
        rng, known = self.rng, [n for n, may in self.names.may.items() if ABSENT not in may]
        path = rng.choice(list(self.archives))
        number = rng.randrange(3)
        found = [
            (["load", "-q", "-i", path], {self.archives[path][0]: self.archives[path][1]}, {}),
            (["load", "-q", "-i", path], {self.archives[path][0]: self.archives[path][1]}, {}),
            (["import", self.tars[number], f"imported:{number}"], {f"imported:{number}": "any"}, {}),
            (["prune", "-f"], {}, {}),
        ]
        if known:
            name = rng.choice(known)
            (image,) = self.names.of(name)
            further = f"further:{rng.randrange(4)}"
            found.append((["tag", name, further], {further: image}, {}))
            found.append((["rmi", rng.choice(known)], None, {}))
            if rng.randrange(4) == 0:
                found.append((["prune", "-a", "-f"], {name: ABSENT for name in known}, {}))
        layers = [n for n, may in self.writable.may.items() if ABSENT not in may]
        if layers:
            name = rng.choice(layers)
            found.append((["rm", name], {}, {name: ABSENT}))
            if self.has_commit:
                found.append((["commit", name, f"committed:{rng.randrange(2)}"], None, {}))
                found.append((["commit", name, f"committed:{rng.randrange(2)}"], None, {}))
        words, names, writable = rng.choice(found)
        if names is None:
            names = {words[-1]: ABSENT if words[0] == "rmi" else "any"}
        return words, names, writable

    def begin(self):
        """Begins a command and plans its end."""
        words, names, writable = self.commands()
        usual = self.usual.get(words[0], self.first)
        end = None if self.rng.randrange(6) == 0 else self.rng.uniform(0, usual * 1.3)
        process = subprocess.Popen(self.store.command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        return {"words": words, "names": names, "writable": writable, "at": time.monotonic(), "end": end,
                "process": process}

    def finish(self, run):
        """Kills a command when its time has come, unless it was faster."""
        process = run["process"]
        try:
            left = None if run["end"] is None else max(0, run["at"] + run["end"] - time.monotonic())
            run["out"], run["err"] = process.communicate(timeout=left)
            took = time.monotonic() - run["at"]
            self.usual[run["words"][0]] = 0.8 * self.usual.get(run["words"][0], took) + 0.2 * took
        except subprocess.TimeoutExpired:
            process.kill()
            run["out"], run["err"] = process.communicate()
            # What never ends in time is given more of it.
            self.usual[run["words"][0]] = 1.1 * self.usual.get(run["words"][0], self.first)
        run["code"] = process.returncode

    def round(self):
        """One round; what is wrong afterwards."""
        runs = [self.begin()]
        if self.rng.randrange(3) == 0:
            runs.append(self.begin())
            self.counts["two at once"] += 1
        for run in sorted(runs, key=lambda run: run["end"] or 99):
            self.finish(run)
        for run in runs:
            self.log.append(f"{' '.join(run['words'])}: {run['code']}")
            state = "killed" if run["code"] == -9 else "done" if run["code"] == 0 else "refused"
            self.counts[state] += 1
            if state == "refused" and run["code"] != 1:
                return [f"exit code {run['code']}: {run['err']}"]
            if state == "refused":
                self.log[-1] += " " + run["err"].decode(errors="replace").strip()
            for group, outcomes in ((self.names, run["names"]), (self.writable, run["writable"])):
                for name, outcome in outcomes.items():
                    # Beside another command, or of all images, not even success says what is there afterwards.
                    sure = state == "done" and len(runs) == 1 and run["words"][0] != "prune"
                    if sure:
                        group.surely(name, outcome)
                    elif state != "refused" or len(runs) > 1:
                        group.maybe(name, outcome)
        self.counts["rounds"] += 1
        return self.look()

    def look(self):
        """Compares the store with what may be in it."""
        done = self.store.run("verify")
        if done.returncode != 0:
            return [f"verify: {done.stdout}{done.stderr}"]
        if self.store.leftovers():
            return [f"tmp holds {self.store.leftovers()}"]
        wrong = self.names.check(self.store.names())
        if self.has_writable:
            seen = {name: "there" for name in self.store.must("ps", "-a", "-q").split()}
            wrong += self.writable.check(seen)
            for name in seen:
                if not os.path.exists(os.path.join(self.store.root, "writable", name, "upper", "precious")):
                    wrong.append(f"what was written into {name} is gone")
        return wrong

    def make_writable(self):
        """Makes a writable layer with something in it, undisturbed: mounts are killed elsewhere."""
        known = [n for n, may in self.names.may.items() if ABSENT not in may]
        if not self.has_writable or not known or sum(ABSENT not in may for may in self.writable.may.values()) > 3:
            return
        name, mountpoint = f"w{self.counts['rounds']}", os.path.join(self.dir, "mnt")
        os.makedirs(mountpoint, exist_ok=True)
        self.store.must("mount", "--name", name, self.rng.choice(known), mountpoint)
        with open(os.path.join(mountpoint, "precious"), "w", encoding="ascii") as file:
            file.write(name)
        self.store.must("umount", mountpoint)
        self.writable.surely(name, "there")


def main():
    """Runs the rounds."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--laminafs", required=True)
    options.add_argument("--scratch", default=tempfile.gettempdir())
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options.add_argument("--keep", action="store_true")
    args = options.parse_args()
    test = Test(os.path.abspath(args.laminafs), args.scratch, args.seed)
    print(f"kill: seed {args.seed}, in {test.dir}")
    failed = 0
    try:
        for _ in range(args.rounds):
            if test.rng.randrange(5) == 0:
                test.make_writable()
            wrong = test.round()
            if wrong:
                failed = 1
                print("FAIL", *wrong, "after:", *test.log[-12:], sep="\n     ")
                break
        counts = ", ".join(f"{count} {what}" for what, count in test.counts.items())
        kinds = sorted({line.split()[0] for line in test.log})
        print(f"{'FAIL' if failed else 'ok  '} {counts}; of {' '.join(kinds)}")
    finally:
        if not args.keep and not failed:
            shutil.rmtree(test.dir)
    return failed


if __name__ == "__main__":
    sys.exit(main())
