"""The images that containers are made from: a tree of busybox, and a Debian root."""

import hashlib
import json
import os
import tarfile

import place
from trees import run

BUSYBOX = "localhost/busybox"
DEBIAN = "localhost/debian"


def busybox():
    """The archive of a root file system with busybox and some content to change, made once."""
    archive, root = f"{place.ROOT}/busybox.tar", f"{place.ROOT}/busybox"
    if os.path.exists(archive):
        return archive
    for directory in ("bin", "etc", "tmp", "data/old/deep", "data/emptied", "data/renamed"):
        os.makedirs(f"{root}/{directory}")
    run("cp", "/bin/busybox" if os.path.exists("/bin/busybox") else "/usr/bin/busybox", f"{root}/bin/busybox")
    for applet in run("busybox", "--list").stdout.decode().split():
        if applet != "busybox":
            os.symlink("busybox", f"{root}/bin/{applet}")
    for name in ("old/a", "old/deep/b", "emptied/c", "emptied/d", "renamed/e", "appended", "moded", "owned", "deleted", "linked"):
        place.write(f"{root}/data/{name}", f"{name} of the image\n" * 100)
    os.link(f"{root}/data/linked", f"{root}/data/linked-2")
    os.symlink("old/a", f"{root}/data/symlink")
    os.chmod(f"{root}/tmp", 0o1777)
    os.setxattr(f"{root}/data/moded", "user.kept", b"value")
    run("tar", "-C", root, "--format=pax", "--xattrs", "--owner=0", "--group=0", "--numeric-owner", "-cf", archive, ".")
    return archive


def debian(root):
    """The archive of a Debian root with this machine's settings of apt, made once."""
    archive, more = f"{place.ROOT}/debian.tar", f"{place.ROOT}/debian-settings"
    if os.path.exists(archive):
        return archive
    os.makedirs(f"{more}/etc/apt/apt.conf.d")
    dump = run("apt-config", "dump", "Acquire").stdout.decode().splitlines(True)
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    place.write(f"{more}/etc/apt/apt.conf.d/99machine", "".join(l for l in dump if l.startswith(wanted)))
    for name in ("resolv.conf", "hosts"):
        run("cp", "-L", f"/etc/{name}", f"{more}/etc/{name}")
    settings = [f"./etc/{name}" for name in ("apt/apt.conf.d/99machine", "resolv.conf", "hosts")]
    without = [f"--exclude={name}" for name in settings]
    run("tar", "-C", root, "--xattrs", "--numeric-owner", *without, "-cf", archive, ".", timeout=300)
    run("tar", "-C", more, "--owner=0", "--group=0", "-rf", archive, *settings)
    return archive


def top_layer(engine, image):
    """The members of an image's top layer: name to what the archive says of it."""
    directory = f"{engine.home}/saved"
    engine.podman("save", "-q", "--format", "oci-dir", "-o", directory, image)
    try:
        manifest = _json(directory, _json_file(f"{directory}/index.json")["manifests"][0]["digest"])
        blob = manifest["layers"][-1]["digest"].replace(":", "/")
        with tarfile.open(f"{directory}/blobs/{blob}") as tar:
            return {member.name.rstrip("/"): _described(tar, member) for member in tar}
    finally:
        engine.inside('rm -rf "$1"', directory)


def _json_file(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def _json(directory, digest):
    return _json_file(f"{directory}/blobs/{digest.replace(':', '/')}")


def _described(tar, member):
    """What is compared of a member: all but times."""
    content = hashlib.sha256(tar.extractfile(member).read()).hexdigest()[:16] if member.isreg() else None
    xattrs = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
    device = (member.devmajor, member.devminor) if member.isdev() else None
    return {"type": member.type.decode(), "mode": oct(member.mode), "uid": member.uid, "gid": member.gid, "size": member.size,
            "link": member.linkname, "content": content, "device": device, "xattrs": xattrs}
