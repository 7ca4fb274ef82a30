"""One script of changes, committed under laminafs, fuse-overlayfs and the kernel's overlay: the layers and the trees."""

import re

import images
from engine import Engine
from trees import differences

OTHERS = ("native", "fuse-overlayfs")
OPAQUE = "a directory that was removed and made again is opaque"
# What differs and why: the other mount, what is compared, the whole line, the reason. podman reads changes from the upper
# directory of the kernel's overlay, and with any mount_program by comparing the trees.
KNOWN = (
    ("fuse-overlayfs", "diff", "only here: D /data/emptied/[cd]", OPAQUE + ", and fuse-overlayfs shows podman what it hid"),
    ("fuse-overlayfs", "layer", r"data/emptied/\.wh\.[cd]: only here", "the same"),
    ("fuse-overlayfs", "tree", "b'data/emptied/[cd]': only in the second", "the same: deleted files are in the image again"),
    ("native", "diff", "only (here: [CD]|there: D) /data/emptied(/[cd])?", OPAQUE + ": said of it, or of each name in it"),
    ("native", "layer", r"data/emptied/\.wh\.([cd]: only here|\.wh\.\.opq: only there)", "the same"),
    ("native", "diff", "only here: C /bin", "the directory of a changed file"),
    ("native", "diff", "only there: C (/tmp|/data/linked)", "copied up, and then the same as before"),
    ("native", "layer", "(tmp|data/linked): only there", "the same"),
    ("native", "layer", r"data/\.wh\.(old|renamed): link: '' against 'data/deleted'", "whiteouts that are one file there"),
    ("native", "layer", "data/linked-3: (type|size|link|content): .*", "a new link of an old file: the other name is in the layer only there"),
    ("native", "tree", "b'data/linked-3': nlink: 1 against 2", "the same"),
    ("native", "tree", r"links: \[b'data/linked', b'data/linked-[23]'\] only in one of the two", "the same; the old link is lost there"),
    ("native", "layer", r".*: xattrs: .* against .*'SCHILY\.xattr\.user\.overlay\..*", "podman packs the kernel's own attributes (rootless)"),
)

# A symbolic link that becomes a directory is not among the changes: podman 4.3.1 fails there on the kernel's overlay.
IMAGE = "localhost/changed"
SCRIPT = """
echo new > /new; mkdir -p /data/deep/er/est; echo x > /data/deep/er/est/f
rm /data/deleted; rm -r /data/old; rm -r /data/emptied; mkdir /data/emptied; echo fresh > /data/emptied/fresh
mv /data/renamed /data/moved
echo more >> /data/appended; chmod 640 /data/moded; chown 5:6 /data/owned
ln /data/linked /data/linked-3; ln /new /linked-new; ln -s nowhere /dangling; mkfifo /data/fifo
rm /data/symlink; echo s > /data/symlink
chmod 4711 /bin/busybox; chmod 1777 /data/deep; mkdir -m 2750 /data/sgid; chown 0:9 /data/sgid; chmod 2750 /data/sgid
touch /tmp/gone; rm /tmp/gone; mkdir /data/gone; rmdir /data/gone
dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=1000000 2>/dev/null
mv /data/appended /data/appended-moved; cp -p /data/moded /data/moded-copy
"""
# busybox has no program for it.
FROM_OUTSIDE = """
at=$(podman mount changing)
setfattr -n user.added -v 1 "$at/data/owned"
setfattr -n user.added -v 1 "$at/data/deep"
setfattr -x user.kept "$at/data/moded"
podman umount changing
"""


def layers(this, engine):
    """Commits under each kind of mount; engine is the one with laminafs."""
    found = {engine.kind: _commit(engine)}
    for kind in OTHERS:
        with Engine(engine.user, kind) as other:
            found[kind] = _commit(other)
    ours = found.pop(engine.kind)
    for kind, theirs in found.items():
        known = set(KNOWN)
        for number, what in enumerate(("diff", "layer", "tree")):
            lines = (_lines, _entries, _trees)[number](ours[number], theirs[number])
            known -= {k for k in known if any(_is(k, kind, what, line) for line in lines)}
            this.report(engine, f"committed as with {kind}: {what}",
                        [line for line in lines if not any(_is(k, kind, what, line) for k in KNOWN)])
        unmet = [f"{what}: {pattern}" for of, what, pattern, _ in known if of == kind and (engine.uid or "xattrs" not in pattern)]
        this.report(engine, f"committed as with {kind}: every known difference is met", unmet)


def _is(known, kind, what, line):
    return known[:2] == (kind, what) and re.fullmatch(known[2], line)


def _commit(engine):
    """What `podman diff` says, the members of the committed layer, and the tree of the image."""
    engine.podman("import", "-q", images.busybox(), images.BUSYBOX)
    engine.podman("run", "--name", "changing", images.BUSYBOX, "sh", "-euc", SCRIPT)
    engine.inside(FROM_OUTSIDE)
    diff = engine.podman("diff", "changing").splitlines()
    engine.podman("commit", "-q", "changing", IMAGE)
    engine.podman("rm", "changing")
    layer = images.top_layer(engine, IMAGE)
    tree, _ = engine.tree(IMAGE)
    engine.podman("rmi", "-f", "-a")
    return diff, layer, tree


def _lines(ours, theirs):
    return [f"only here: {l}" for l in sorted(set(ours) - set(theirs))] + [f"only there: {l}" for l in sorted(set(theirs) - set(ours))]


def _entries(ours, theirs):
    """How the members of two layers differ."""
    lines = [f"{n}: only here" for n in sorted(ours.keys() - theirs.keys())] + [f"{n}: only there" for n in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        lines += [f"{name}: {k}: {v!r} against {theirs[name][k]!r}" for k, v in ours[name].items() if v != theirs[name][k]]
    return lines


def _trees(ours, theirs):
    return differences(ours, theirs, lambda path, key, x, y: key == "mtime")
