"""The tree of an image as each tool shows it."""

import contextlib
import shutil

from trees import identity_problems, run, snapshot


def umoci(tools, image):
    """What `umoci unpack` extracts of oci:DIR:TAG."""
    bundle = f"{tools.scratch}/unpacked"
    try:
        tools.umoci("unpack", "--image", image.removeprefix("oci:"), bundle)
        return snapshot(f"{bundle}/rootfs")
    finally:
        shutil.rmtree(bundle, ignore_errors=True)


def tar(tools, blob):
    """What GNU tar extracts of a single layer."""
    root = tools.dir("extracted")
    try:
        run("tar", "-C", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", blob)
        return snapshot(root)
    finally:
        shutil.rmtree(root)


def podman(tools, name):
    """What `podman image mount` shows of an image in its storage."""
    mounted_at = tools.podman("image", "mount", name)
    try:
        return snapshot(mounted_at)
    finally:
        tools.podman("image", "unmount", name)


def buildah(tools, name):
    """What `buildah mount` shows of a new container of an image in its storage."""
    container = tools.buildah("from", "--pull-never", name).splitlines()[-1]
    try:
        return snapshot(tools.buildah("mount", container))
    finally:
        tools.buildah("rm", container)


@contextlib.contextmanager
def mounted(tools, name, *options, store):
    """A laminafs mount of an image in a store; its writable layer, if any, goes at the end."""
    place = tools.dir("mnt")
    tools.lamina("mount", *options, name, place, store=store)
    try:
        yield place
    finally:
        tools.lamina("umount", place, store=store)


def laminafs(tools, name, problems, *options, store):
    """What a mount through FUSE shows; problems gets a line for each disagreement about inode numbers."""
    with mounted(tools, name, "-o", "dev", *(options or ("--rm",)), store=store) as place:
        tree = snapshot(place, problems=problems)
    problems += identity_problems(tree)
    return tree


def kernel(tools, name, store):
    """What `laminafs mount --kernel` shows."""
    with mounted(tools, name, "--kernel", "--rm", store=store) as place:
        return snapshot(place)
