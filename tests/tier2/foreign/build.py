"""Builds the images that are compared, from real content and with several tools.

All are in one OCI layout (but for the zstd copy), under these tags:

  debian-1..3   a Debian root: umoci insert; then buildah (packages purged, an opaque directory); then umoci repack
                (directories and files removed, links, a directory becomes a link)
  odd-1..3      every kind of file, name and attribute (interop_tree.py): GNU tar in its pax format; then a round of
                changes repacked by umoci; then one committed by buildah
  sparse        the same first layer with sparse files stored as such, which buildah could not commit again
  gnu           as sparse, in the older format of GNU tar: no extended attributes
  links         a second layer that holds nothing but hard links to files of the first: GNU tar
  replaced      a directory becomes a link to another one that has the same names: umoci repack
  zstd          debian-3, its layers compressed with zstd by skopeo
"""

import functools
import os
import shutil
import stat
import tarfile

import interop_tree as model
from trees import run

# Changes that no image can hold or that tools refuse: sockets; attributes of overlayfs itself.
LEFT_OUT = ("socket", "socket copy-up", "escaped xattr", "escaped opaque", "escaped remove")
PAX = ("--format=pax", "--xattrs", "--xattrs-include=*", "--pax-option=delete=atime,delete=ctime")
ZSTD = b"\x28\xb5\x2f\xfd"


def first_changes(root):
    """The first round of changes of interop_tree.py."""
    model.perform({name: step for name, step in model.FIRST.items() if name not in LEFT_OUT}, root)


def second_changes(root):
    """The second round, which goes on from the first."""
    model.perform({name: step for name, step in model.SECOND.items() if name not in LEFT_OUT}, root)


class Images:
    """The images, in layouts below the scratch directory."""

    def __init__(self, tools):
        self.tools = tools
        tools.umoci("init", "--layout", self._layout("odd-1"))

    def _layout(self, tag):
        return f"{self.tools.scratch}/{'zstd' if tag == 'zstd' else 'images'}"

    def at(self, tag):
        """The name of an image as skopeo, podman and laminafs take it."""
        return f"oci:{self._layout(tag)}:{tag}"

    def name(self, tag):
        """The name it has in the store of laminafs."""
        return f"localhost/{os.path.basename(self._layout(tag))}:{tag}"

    @staticmethod
    def store(tag):
        """The store of laminafs that it goes into: images of which one would hide that another is read have different ones."""
        return tag.partition("-")[0]

    def load(self, tag):
        """Loads an image into its store; returns its name there."""
        self.tools.lamina("load", "-q", self.at(tag), store=self.store(tag))
        return self.name(tag)

    def layers(self, tag):
        """The digests of its layers, the lowest first."""
        return self.tools.inspect(self.at(tag))["Layers"]

    @functools.cache
    def implied(self, tag):
        """The directories for which the topmost layer that has anything in them has no entry."""
        found, explicit = set(), set()
        same = "debian-3" if tag == "zstd" else tag
        for number in reversed(range(len(self.layers(same)))):
            names = {os.path.normpath(os.fsencode(name)) for name in self._names(same, number)}
            parents = {parent for name in names for parent in _parents(name)}
            found |= parents - names - explicit
            explicit |= names
        return found

    def blob(self, tag, number):
        """The file of one of its layers."""
        return f"{self._layout(tag)}/blobs/sha256/{self.layers(tag)[number].removeprefix('sha256:')}"

    def odd(self):
        """All but debian-1 to debian-3 and zstd."""
        content = self.tools.dir("content")
        model.base_layer(content)
        for name in os.listdir(f"{content}/special"):
            if stat.S_ISSOCK(os.lstat(f"{content}/special/{name}").st_mode):
                os.unlink(f"{content}/special/{name}")
        for tag, form in (("odd-1", PAX), ("sparse", (*PAX, "--sparse")), ("gnu", ("--format=gnu", "--sparse"))):
            self._from_tar(tag, lambda archive, form=form: run("tar", "-C", content, *form, "-cf", archive, "."))
        shutil.rmtree(content)
        self._repacked("odd-1", "odd-2", first_changes)
        self._committed("odd-2", "odd-3", second_changes)
        self._links()
        self._repacked("replaced-1", "replaced", _replace)

    def _links(self):
        """One layer with three files, and one with links to two of them and no other entry."""
        content = self.tools.dir("content")
        for name in ("one", "two", "three"):
            model.put(f"{content}/{name}", name.encode() * 1000, mtime=10**18)
        for name in ("old", "new"):
            os.mkdir(f"{content}/{name}")
            model.put(f"{content}/{name}/same", name.encode(), mtime=10**18)
        self._from_tar("links-1", lambda archive: run("tar", "-C", content, "-cf", archive, "one", "two", "three"))
        self._from_tar("replaced-1", lambda archive: run("tar", "-C", content, "-cf", archive, "old", "new"))
        os.mkdir(f"{content}/below")
        for old, new in (("one", "below/uno"), ("one", "below/ein"), ("two", "dos")):
            os.link(f"{content}/{old}", f"{content}/{new}")

        def links_only(archive):
            run("tar", "-C", content, "-cf", archive, "one", "two", "below/uno", "below/ein", "dos")
            run("tar", "-f", archive, "--delete", "one", "two")

        self._from_tar("links", links_only, upon="links-1")
        shutil.rmtree(content)

    def debian(self, root):
        """debian-1 to debian-3 and zstd; root is a Debian root directory, which is not changed."""
        self.tools.umoci("new", "--image", self._image("debian-1"))
        self.tools.umoci("insert", "--image", self._image("debian-1"), root, "/")
        self._committed("debian-1", "debian-2", _purge)
        self._repacked("debian-2", "debian-3", _remove)
        options = ("--dest-compress", "--dest-compress-format", "zstd")
        self.tools.skopeo("copy", *options, self.at("debian-3"), self.at("zstd"))

    def _image(self, tag):
        return self.at(tag).removeprefix("oci:")

    def _from_tar(self, tag, make, upon=None):
        """A layer that is a tar as it stands, upon another image or none."""
        archive = f"{self.tools.scratch}/layer.tar"
        make(archive)
        if upon:
            self.tools.umoci("tag", "--image", self._image(upon), tag)
        else:
            self.tools.umoci("new", "--image", self._image(tag))
        self.tools.umoci("raw", "add-layer", "--image", self._image(tag), archive)
        os.unlink(archive)

    def _repacked(self, old, new, change):
        """A layer that umoci makes of changes in an unpacked image."""
        bundle = f"{self.tools.scratch}/bundle"
        self.tools.umoci("unpack", "--image", self._image(old), bundle)
        change(f"{bundle}/rootfs")
        self.tools.umoci("repack", "--image", self._image(new), bundle)
        shutil.rmtree(bundle)

    def _committed(self, old, new, change):
        """A layer that buildah makes of changes in a mount of kernel overlayfs."""
        container = self.tools.buildah("from", self.at(old)).splitlines()[-1]
        change(self.tools.buildah("mount", container))
        self.tools.buildah("commit", "--format", "oci", container, self.at(new))
        self.tools.buildah("rm", container)

    def check(self, report):
        """Reports when a layer lacks what it was made for, so that nothing is compared in vain."""
        names = {tag: self._names(tag, number) for tag, number in (("debian-2", 1), ("debian-3", 2), ("replaced", 1), ("links", 1))}
        odd = self._members("odd-1", 0)
        attributes = "\n".join(key for member in odd for key in member.pax_headers)
        wanted = {
            "an opaque directory": "usr/share/doc/.wh..wh..opq" in names["debian-2"],
            "a whiteout of a file": "etc/.wh.motd" in names["debian-3"],
            "a whiteout of a directory": "usr/share/.wh.locale" in names["debian-3"],
            "a whiteout below a link": "old/.wh.same" in names["replaced"],
            "links and no files": names["links"] == {"below/uno", "below/ein", "dos"},
            "capabilities": "SCHILY.xattr.security.capability" in attributes,
            "access lists": "system.posix_acl_access" in attributes and "system.posix_acl_default" in attributes,
            "devices": {member.type for member in odd} >= {tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE},
            "hard links": any(member.islnk() for member in odd),
            "an owner beyond 2^21": any(member.uid > 1 << 21 for member in odd),
            "a time before 1970": any(member.mtime < 0 for member in odd),
            "names that are not UTF-8": any("\udcff" in member.name for member in odd),
            "zstd": _start(self.blob("zstd", 0)) == ZSTD,
            "a layer that is not compressed": _start(self.blob("debian-2", 1))[:2] != b"\x1f\x8b",
        }
        report("the images hold what they were made for", [f"missing: {what}" for what, there in wanted.items() if not there])

    def _members(self, tag, number):
        with tarfile.open(self.blob(tag, number), errors="surrogateescape") as archive:
            return archive.getmembers()

    def _names(self, tag, number):
        return {member.name for member in self._members(tag, number)}


def _parents(name):
    """The directories that a relative path goes through, and the root."""
    while name != b".":
        name = os.path.dirname(name) or b"."
        yield name


def _start(path):
    with open(path, "rb") as f:
        return f.read(4)


def _purge(root):
    """Packages purged as dpkg does it, documentation replaced by another directory: an opaque one."""
    run("chroot", root, "dpkg", "--purge", "--force-all", "e2fsprogs", "libss2", "logsave")
    shutil.rmtree(f"{root}/usr/share/doc")
    os.mkdir(f"{root}/usr/share/doc")
    model.put(f"{root}/usr/share/doc/README", b"No documentation is kept.\n")
    for name in os.listdir(f"{root}/etc/cron.daily"):
        os.unlink(f"{root}/etc/cron.daily/{name}")


def _remove(root):
    """Directories and files removed, a directory that becomes a symbolic link, links to files of lower layers."""
    shutil.rmtree(f"{root}/usr/share/man")
    os.symlink("doc", f"{root}/usr/share/man")
    shutil.rmtree(f"{root}/usr/share/locale")
    os.unlink(f"{root}/etc/motd")
    os.link(f"{root}/usr/bin/perl", f"{root}/usr/bin/another-perl")
    os.chmod(f"{root}/usr/lib", 0o711)
    model.put(f"{root}/usr/share/doc/more", b"more\n")


def _replace(root):
    """A directory becomes a link to one with the same names."""
    shutil.rmtree(f"{root}/old")
    os.symlink("new", f"{root}/old")
