"""Where tools are known to show another tree than laminafs; docs/CONFORMANCE.md says who is right.

A rule that nothing in a whole run needs any more is an error: the table would name a difference that is none.
"""

import dataclasses
import typing


@dataclasses.dataclass
class Difference:
    """One field of one name that is not the same in two trees."""

    # The image.
    tag: str
    path: bytes
    # A field of a record; "exists", or "links" for the set of names that are one file.
    key: str
    # The record that laminafs shows, and the other's; None where that has no such name.
    ours: dict
    theirs: dict
    # When the run began, in nanoseconds: a directory without a time of its own that is younger was made by the tool.
    since: int


@dataclasses.dataclass
class Rule:
    """One named difference."""

    name: str
    # The views that differ.
    views: tuple
    covers: typing.Callable[[Difference], bool]
    seen: int = 0



def _without_empty(record):
    return {name: value for name, value in record["xattrs"].items() if value}



def _made_by_tool(d):
    return d.key == "mtime" and d.ours["kind"] == "dir" and d.theirs["mtime"] > max(d.ours["mtime"], d.since)


ENGINES = ("podman", "buildah")
RULES = [
    Rule("times before 1970", ENGINES, lambda d: d.key == "mtime" and d.ours["mtime"] < 0 and d.theirs["mtime"] == 0),
    Rule("entry of the root", ENGINES, lambda d: d.path == b"." and d.key in ("mode", "mtime")),
    Rule("implied parents", ENGINES, _made_by_tool),
    Rule("implied without a lower one", ("umoci",), lambda d: _made_by_tool(d) and d.ours["mtime"] == 0),
    Rule("empty attributes", ("umoci", *ENGINES), lambda d: d.key == "xattrs" and _without_empty(d.ours) == d.theirs["xattrs"]),
    Rule("names in lower layers", ("umoci",), lambda d: d.key == "nlink" and d.ours["nlink"] > d.theirs["nlink"]),
    Rule("whiteouts below a link", ("umoci",), lambda d: d.tag == "replaced" and (d.path, d.key) == (b"new/same", "exists")),
    Rule("owners of links", ("user",), lambda d: d.ours["kind"] == "symlink" and d.key in ("uid", "gid")),
    Rule("links into lower layers", ("umoci",), lambda d: d.tag == "links" and d.key in ("links", "nlink")),
]

# Images that a tool refuses, and what it says.
REFUSED = {
    ("umoci", "gnu"): "unknown typeflag",
    ("podman", "gnu"): "unhandled tar header type 83",
    ("podman", "links"): "no such file or directory",
    ("podman", "replaced"): "no such file or directory",
    ("umoci", "zstd"): "not correct mediatype",
}


def ignore(view, tag, since):
    """What trees.differences() leaves out for a view of an image; counts what it is asked about."""

    def known(path, key, ours, theirs):
        difference = Difference(tag, path, key, ours, theirs, since)
        for rule in RULES:
            if view in rule.views and rule.covers(difference):
                rule.seen += 1
                return True
        return False

    return known


def unused():
    """The names of rules that nothing needed."""
    return [rule.name for rule in RULES if not rule.seen]
