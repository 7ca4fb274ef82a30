"""What a suite found on one contender."""

import dataclasses
import shutil


@dataclasses.dataclass
class Result:
    """Cases by outcome; failed and skipped ones with the reason that the suite gives."""

    passed: set = dataclasses.field(default_factory=set)
    failed: dict = dataclasses.field(default_factory=dict)
    skipped: dict = dataclasses.field(default_factory=dict)

    def add(self, other):
        """Takes over the cases of another run; what ran there is no longer skipped here."""
        self.passed |= other.passed
        self.failed |= other.failed
        ran = self.passed | self.failed.keys()
        self.skipped = {case: why for case, why in (self.skipped | other.skipped).items() if case not in ran}

    def cell(self):
        """The entry in the table."""
        text = f"{len(self.passed)} of {len(self.passed) + len(self.failed)}"
        return text + (f", {len(self.skipped)} skipped" if self.skipped else "")


def need(program, how):
    """The path of a program, or an error that says how to get it."""
    found = shutil.which(program)
    if not found:
        raise SystemExit(f"suites: {program} is not installed: {how}")
    return found
