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
    # When the run began, in nanoseconds: what is younger in an older image was made by the tool.
    since: int
    # Whether it is a directory that the image has no entry for where it would count.
    implied: bool


@dataclasses.dataclass
class Rule:
    """One named difference."""

    name: str
    # The views that differ.
    views: tuple
    covers: typing.Callable[[Difference], bool]
    # The names it was needed for, by view and image.
    seen: dict = dataclasses.field(default_factory=dict)


def _lost(d, condition):
    """Whether attributes that meet a condition, and only those, are not there."""
    return d.key == "xattrs" and d.theirs["xattrs"] == {name: value for name, value in d.ours["xattrs"].items() if not condition(name, value)}


def _time_of_unpacking(d):
    return d.key == "mtime" and d.theirs["mtime"] > max(d.ours["mtime"], d.since)


def _root(d):
    return d.path == b"." and (_time_of_unpacking(d) or d.key == "mode" and d.theirs["mode"] == "0o555")


NOBODY = 65534
ENGINES = ("podman", "buildah")
RULES = [
    Rule("times before 1970", ENGINES, lambda d: d.key == "mtime" and d.ours["mtime"] < 0 and d.theirs["mtime"] == 0),
    Rule("entry of the root", ENGINES, _root),
    Rule("implied parents", ENGINES, lambda d: d.implied and _time_of_unpacking(d)),
    Rule("implied without a lower one", ("umoci",), lambda d: d.implied and _time_of_unpacking(d) and d.ours["mtime"] == 0),
    Rule("empty attributes", ("umoci", *ENGINES), lambda d: _lost(d, lambda name, value: not value)),
    Rule("attributes of overlayfs", ("umoci", "podman"), lambda d: _lost(d, lambda name, _: name.startswith("trusted.overlay."))),
    # What laminafs shows is compared with the kernel as well, which agrees.
    Rule("names in lower layers", ("umoci",), lambda d: d.key == "nlink" and d.ours["nlink"] > d.theirs["nlink"]),
    Rule("whiteouts below a link", ("umoci",), lambda d: (d.tag, d.path, d.key) == ("replaced", b"new/same", "exists")),
    Rule("links into lower layers", ("umoci",), lambda d: d.tag == "links" and d.key in ("links", "nlink")),
    Rule("owners of links", ("user",), lambda d: d.key in ("uid", "gid") and d.ours["kind"] == "symlink" and d.theirs[d.key] == NOBODY),
]

# Images that a tool refuses, and what it says.
REFUSED = {
    ("umoci", "gnu"): "unknown typeflag",
    ("podman", "gnu"): "unhandled tar header type 83",
    ("podman", "links"): "no such file or directory",
    ("podman", "replaced"): "no such file or directory",
    ("umoci", "zstd"): "not correct mediatype",
}


def ignore(view, tag, since, implied):
    """What trees.differences() leaves out for a view of an image, whose implied directories are given; notes what it is."""

    def known(path, key, ours, theirs):
        difference = Difference(tag, path, key, ours, theirs, since, path in implied)
        for rule in RULES:
            if view in rule.views and rule.covers(difference):
                rule.seen.setdefault((view, tag), set()).add(path)
                return True
        return False

    return known


def unused():
    """The names of rules that nothing needed."""
    return [rule.name for rule in RULES if not rule.seen]


def show():
    """Prints how many names each rule was needed for."""
    for rule in RULES:
        where = (f"{len(paths)} in {view}, {tag}: {sorted(paths)[:12]}" for (view, tag), paths in rule.seen.items())
        print(f"     known difference, {rule.name}: {'; '.join(where) or 'nowhere'}")
