"""The generated part of docs/CONFORMANCE.md."""

import collections
import json
import os
import platform

import pjdfstest
from result import Result

CONTENDERS = ("bare", "laminafs", "laminafs writeback=1", "overlayfs", "fuse-overlayfs")  # columns
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def merge(path, results, versions):
    """Adds what earlier runs left in a file, where this run has nothing of its own, and keeps all of it there."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        for suite, who, passed, failed, skipped in kept["results"]:
            results.setdefault((suite, who), Result(set(passed), failed, skipped))
        for name, version in kept["versions"].items():
            versions.setdefault(name, version)
    rows = [(*key, sorted(one.passed), one.failed, one.skipped) for key, one in results.items()]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"results": rows, "versions": versions}, file, indent=1)


def table(results):
    """The result of each suite (rows) on each contender (columns)."""
    suites = sorted({suite for suite, _ in results})
    contenders = [who for who in CONTENDERS if any(who == other for _, other in results)]
    lines = ["| suite | " + " | ".join(contenders) + " |", "|---" * (len(contenders) + 1) + "|"]
    for suite in suites:
        cells = [results[suite, who].cell() if (suite, who) in results else "" for who in contenders]
        lines.append(f"| {suite} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _short(suite, names):
    """Names of cases; those of pjdfstest by system call, as there may be many."""
    if not suite.startswith("pjdfstest") or len(names) < 8:
        return ", ".join(f"`{name}`" for name in sorted(names))
    calls = collections.Counter(name.split("::")[0] for name in names)
    return ", ".join(f"`{call}` {count}" for call, count in sorted(calls.items()))


def failing(results):
    """What fails or is skipped, with where."""
    where = collections.defaultdict(list)
    for (suite, who), result in sorted(results.items(), key=lambda item: (CONTENDERS.index(item[0][1]), item[0][0])):
        if result.failed:
            where[f"{len(result.failed)} fail: {_short(suite, result.failed)}"].append(f"{who} ({suite})")
        reasons = collections.defaultdict(list)
        for case, reason in result.skipped.items():
            reasons[pjdfstest.KNOWN.get(case, reason).removeprefix("skipped: ")].append(case)
        for reason, cases in reasons.items():
            where[f"{_short(suite, cases)} skipped: {reason}"].append(f"{who} ({suite})")
    lines = [f"- {', '.join(places)}: {text}" for text, places in where.items()]
    return "\n".join(lines or ["Nothing."]) + "\n"


def write(path, results, versions, disk):
    """Puts the results between the two marks of a document."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    kernel = platform.release().split("-")[0]
    body = (
        f"Linux {kernel}, {disk} and tmpfs, {os.cpu_count()} cores; {', '.join(versions.values())}.\n\n"
        f"{table(results)}\nWhat fails or is skipped:\n\n{failing(results)}"
    )
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{head}{BEGIN}{body}{END}{tail}")
