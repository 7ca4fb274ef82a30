"""Looking into the images of other tools: what the inspecting commands say, beside the trees that mounts show."""

import calendar
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time

import views

# One where buildah committed the top layer, and those with links, a replaced directory, and real content.
TAGS = ("odd-3", "links", "replaced", "debian-3")
# So many files of an image are read.
FILES = 300


def look(this):
    """Compares every command on every form of an image."""
    for tag in TAGS:
        _image(this, tag)
    _container(this)
    # A store that no other check has put images into.
    for tag in ("debian-1", "debian-2", "debian-3"):
        this.tools.lamina("load", "-q", this.images.at(tag), store="shared")
    shared = _json(this.tools, "share", (), "shared")["layers"]
    _expect(this, "share: layers of debian-3 that others have", len(shared), len(this.images.layers("debian-3")) - 1)


def _image(this, tag):
    """An image in the store, in its layout, and in podman's storage, where podman has unpacked it."""
    tools, store, layout = this.tools, this.images.store(tag), this.images.at(tag)
    mounted = this.tree(tag)
    trees = {"the store": mounted, "the layout": mounted}
    targets = {"the store": this.images.name(tag), "the layout": layout}
    pulled = this.refused(f"{tag}: pulled by podman", "podman", tag, lambda: tools.podman("pull", "-q", layout))
    if pulled:
        trees["podman's storage"], targets["podman's storage"] = views.podman(tools, pulled), f"containers-storage:{pulled}"
    for place, target in targets.items():
        tree, title = trees[place], f"{tag} in {place}"
        this.report(f"{title}: ls -R", _differences(tree, _listing(tools, target, store)))
        this.report(f"{title}: contents", _contents(tools, tree, target, store))
        waste = _json(tools, "waste", (target,), store)
        seen = {record["ino"]: record["size"] for record in tree.values() if record["kind"] == "file"}
        _expect(this, f"{title}: waste leaves what is seen", waste["total_bytes"] - waste["wasted_bytes"], sum(seen.values()))
        _expect(this, f"{title}: layers", len(_json(tools, "layers", (target,), store)["layers"]), len(this.images.layers(tag)))
        _page(this, title, target, store)
    for place in list(targets)[1:]:
        said = _json(tools, "diff", (targets["the store"], targets[place]), store)["changes"]
        said = {change["path"]: set(change["differs"]) for change in said}
        this.report(f"{tag}: diff of the store and {place}", _between(said, _expected(mounted, trees[place])))


def _container(this):
    """A container of buildah that changed something, while it is mounted and later."""
    tools = this.tools
    pulled = tools.podman("pull", "-q", this.images.at("debian-3"))
    name = tools.buildah("from", "--pull-never", pulled).splitlines()[-1]
    target = f"containers-storage:{name}"
    try:
        place = tools.buildah("mount", name)
        os.remove(f"{place}/etc/debian_version")
        os.rename(f"{place}/etc/os-release", f"{place}/moved")
        os.makedirs(f"{place}/made/here")
        with open(f"{place}/made/here/file", "w", encoding="utf-8") as f:
            f.write("changed\n")
        os.link(f"{place}/made/here/file", f"{place}/made/link")
        tree = views.snapshot(place)
        for state in ("mounted", "not mounted"):
            this.report(f"a container, {state}: ls -R", _differences(tree, _listing(tools, target, "debian")))
            _expect(this, f"a container, {state}: cat", tools.lamina("cat", *_words(tools, target), "/made/link", store="debian"), "changed")
            whence = _json(tools, "whence", (target, "/etc/debian_version"), "debian")["paths"][0]
            _expect(this, f"a container, {state}: whence", (whence["layer"], whence["layers"][0]["action"]), (None, "deletes"))
            if state == "mounted":
                tools.buildah("umount", name)
        _page(this, "a container", target, "debian")
    finally:
        tools.buildah("rm", name)


def _words(tools, *targets):
    """Targets as arguments, with the place of podman's storage."""
    return ("--storage-root", f"{tools.scratch}/storage", *targets)


def _json(tools, command, words, store):
    place = _words(tools) if words else ()
    return json.loads(tools.lamina(command, "--json", *place, *words, store=store))


def _listing(tools, target, store):
    """What `ls -R` says, by path."""
    command = [tools.laminafs, "--root", tools.store(store), "ls", "-R", "--json", *_words(tools, target)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=300, env=tools.env)
    return {entry["path"]: entry for entry in json.loads(done.stdout)["entries"]}


def _shown(path):
    """A path of a tree as JSON has it: bytes that are no text are replaced."""
    return "/" if path == b"." else "/" + path.decode(errors="replace")


def _nanoseconds(text):
    """A time of a JSON document."""
    whole, _, part = text.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(part.ljust(9, "0") or 0)


def _differences(tree, entries):
    """Lines that say how a listing differs from a tree."""
    names = {_shown(path): record for path, record in tree.items()}
    lines = [f"{path!r}: only in the {'tree' if path in names else 'listing'}" for path in sorted(names.keys() ^ entries.keys())]
    for path in sorted(names.keys() & entries.keys()):
        record, entry = names[path], entries[path]
        has = {"kind": record["kind"].replace("dir", "directory"), "mode": int(record["mode"], 8), "mtime": record["mtime"],
               "owner": (record["uid"], record["gid"])}
        says = {"kind": entry["kind"], "mode": int(entry["mode"], 8), "mtime": _nanoseconds(entry["mtime"]),
                "owner": (entry["uid"], entry["gid"])}
        if record["kind"] in ("file", "symlink"):
            has["size"], says["size"] = record["size"], entry["size"]
        if record["kind"] == "symlink":
            has["target"], says["target"] = os.fsencode(record["content"]).decode(errors="replace"), entry["target"]
        if "rdev" in record:
            has["device"], says["device"] = list(record["rdev"]), entry["device"]
        lines += [f"{path!r}: {key} is {says[key]!r}, not {has[key]!r}" for key in has if has[key] != says[key]]
    return lines


def _contents(tools, tree, target, store):
    """Lines about digests of files that are not those of the tree."""
    files = sorted(path for path, record in tree.items() if record["kind"] == "file")
    files = files[:: max(1, len(files) // FILES)]
    if not files:
        return []
    told = _json(tools, "stat", (target, *(os.fsdecode(b"/" + path) for path in files)), store)["entries"]
    return [f"{path!r}: {entry['digest']}" for path, entry in zip(files, told)
            # Files that are nearly all holes have none.
            if entry["digest"] not in (f"sha256:{tree[path]['content']}", None)]


def _expected(before, after):
    """In what two trees differ, as `diff` says it, by path."""
    found = {}
    for path in before.keys() | after.keys():
        one, other = before.get(path), after.get(path)
        words = set()
        if one and other:
            is_dir = one["kind"] == other["kind"] == "dir"
            keys = {"mode": ("mode",), "owner": ("uid", "gid"), "mtime": () if is_dir else ("mtime",), "xattrs": ("xattrs",),
                    "content": () if is_dir else ("content", "rdev")}
            words = {word for word, fields in keys.items() if any(one.get(key) != other.get(key) for key in fields)}
            if one["kind"] != other["kind"]:
                words = {"type"}
        if words or not one or not other:
            found[_shown(path)] = words
    return found


def _between(said, wanted):
    """Lines about what is said and not so, or the other way round. Directories above a change are said without a word."""
    lines = [f"{path!r}: {sorted(said[path])}, not {sorted(wanted.get(path, ()))}" for path in said if said[path] != wanted.get(path, set())]
    return lines + [f"{path!r}: nothing is said of {sorted(wanted[path])}" for path in wanted if path not in said]


def _expect(this, title, got, wanted):
    this.report(title, [] if got == wanted else [f"{got!r}, not {wanted!r}"])


def _page(this, title, target, store):
    """The page of report, and the terminal browser."""
    page = f"{this.tools.scratch}/page.html"
    this.tools.lamina("report", "-o", page, *_words(this.tools, target), store=store)
    with open(page, encoding="utf-8") as f:
        text = f.read().rstrip()
    os.remove(page)
    this.report(f"{title}: report", [] if text.startswith("<!") and text.endswith("</html>") else [f"ends with {text[-100:]!r}"])
    code, shown = _browse([this.tools.laminafs, "--root", this.tools.store(store), "ui", *_words(this.tools, target)])
    this.report(f"{title}: ui", [] if code == 0 and b"Layers" in shown else [f"exit code {code}: {shown[-300:]!r}"])


def _browse(command):
    """Starts the browser on a terminal, quits it when it has drawn, and returns its exit code and what it showed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"}) as child:
        os.close(slave)
        shown, asked = b"", False
        try:
            while select.select([master], [], [], 60)[0]:
                shown += os.read(master, 1 << 16)
                if b"Layers" in shown and not asked:
                    os.write(master, b"q")
                    asked = True
        except OSError:
            # The other side is closed.
            pass
        if child.poll() is None and not asked:
            child.terminate()
        os.close(master)
    return child.returncode, shown
