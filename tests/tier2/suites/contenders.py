"""The file systems that the suites run on: a stack with content below, mounted by one program or another.

Every contender shows the same tree: a directory `merged` that all three lower layers have, with files, a whiteout, an
opaque directory and the files that fsx changes. The suites run in `merged`, and in the root of the mount.
"""

import ctypes
import os

from trees import differences, escape, run, snapshot

LAYERS = ("top", "middle", "base")


def leave_namespace():
    """Goes into a mount namespace of its own.

    A namespace that somebody else makes meanwhile holds a copy of every mount, and an unmount that waits for the
    daemon would wait for that too. For the same reason the copies of other laminafs mounts are dropped here.
    """
    new_namespace = 0x00020000  # CLONE_NEWNS; os.unshare needs Python 3.12
    if ctypes.CDLL(None, use_errno=True).unshare(new_namespace):
        raise OSError(ctypes.get_errno(), "unshare")
    run("mount", "--make-rslave", "/")
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        ours = [fields[1] for fields in map(str.split, mounts) if fields[2] == "fuse.laminafs"]
    for mountpoint in reversed(ours):
        run("umount", "-l", mountpoint.encode().decode("unicode_escape"), check=False)


def write(path, data=b"content\n"):
    """Makes a file and the directories on the way to it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def make_layers(base):
    """Makes the lower layers, topmost first: names that merge, are hidden, and end the merging."""
    top, middle, bottom = layers = [f"{base}/{name}" for name in LAYERS]
    for number, layer in enumerate(layers):
        write(f"{layer}/merged/of-{LAYERS[number]}")
        write(f"{layer}/merged/everywhere", f"layer {number}\n".encode())
        write(f"{layer}/merged/deep/er/file-{number}")
        write(f"{layer}/outside/file-{number}")
    write(f"{middle}/merged/hidden")
    os.mknod(f"{top}/merged/hidden", 0o20000, 0)
    write(f"{bottom}/merged/opaque/below")
    write(f"{middle}/merged/opaque/above")
    os.setxattr(f"{middle}/merged/opaque", "trusted.overlay.opaque", b"y")
    return layers


class Bare:
    """The file system below, without a union: what the others are measured against."""

    name = "bare"

    def __init__(self, base):
        self.base, self.root = base, f"{base}/bare"
        self.shared = f"{self.root}/merged"
        os.makedirs(self.shared)

    def below(self):
        """Where to put files that shall be there before the suites run."""
        return self.shared

    def stored(self, name):
        """The file on disk behind a name in `merged`."""
        return f"{self.shared}/{name}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def problems(self):
        """What must not be there after the unmount."""
        return []


class Stack(Bare):
    """Three lower layers and an upper one, through a program that mounts them."""

    def __init__(self, base, name, mount, unmount):
        self.name, self.mount, self.unmount = name, mount, unmount
        self.base, self.root = f"{base}/{name}".replace(" ", "-"), None
        self.layers = make_layers(self.base)
        self.upper, self.work, self.root = (f"{self.base}/{part}" for part in ("upper", "work", "mnt"))
        for path in (self.upper, self.work, self.root):
            os.mkdir(path)
        self.shared = f"{self.root}/merged"

    def below(self):
        return f"{self.layers[-1]}/merged"

    def stored(self, name):
        return f"{self.upper}/merged/{name}"

    def __enter__(self):
        self.before = [snapshot(layer, raw=True) for layer in self.layers]
        lowers = ":".join(map(escape, self.layers))
        options = f"lowerdir={lowers},upperdir={escape(self.upper)},workdir={escape(self.work)}"
        run(*[part.format(options=options, mnt=self.root) for part in self.mount])
        return self

    def __exit__(self, *_):
        try:
            run(*[part.format(mnt=self.root) for part in self.unmount])
        except Exception:
            run("umount", "-l", self.root, check=False)
            raise


class Laminafs(Stack):
    """The mount under test; what it leaves behind is looked at as well."""

    def __init__(self, base, program, name="laminafs", options="dev"):
        super().__init__(
            base, name, (program, "mount", "-o", "{options}," + options, "{mnt}"), (program, "umount", "{mnt}")
        )

    def problems(self):
        found = []
        for layer, before in zip(self.layers, self.before):
            found += [f"lower layer changed: {line}" for line in differences(before, snapshot(layer, raw=True))]
        left = [entry for entry in os.listdir(f"{self.work}/work") if not entry.startswith("#whiteout")]
        return found + [f"left in the work directory: {entry}" for entry in left]


def overlayfs(base):
    """Kernel overlayfs with the features that laminafs has by default."""
    mount = ("mount", "-t", "overlay", "overlay", "-o", "{options},redirect_dir=on,index=on", "{mnt}")
    return Stack(base, "overlayfs", mount, ("umount", "{mnt}"))


def fuse_overlayfs(base, program):
    """The program that is replaced most often."""
    mount = (program, "-o", "{options},dev,suid,allow_other", "{mnt}")
    return Stack(base, "fuse-overlayfs", mount, ("umount", "{mnt}"))
