"""podman build of a Dockerfile with two stages and ten steps, and the same by hand with buildah."""

import images

DOCKERFILE = f"""FROM {images.BUSYBOX} AS made
ENV WHERE=/made
RUN mkdir -p $WHERE/bin && echo one > $WHERE/one
RUN cp /bin/busybox /made/bin/tool && chmod 4755 /made/bin/tool
COPY file /made/copied
RUN rm -r /data/emptied && mkdir /data/emptied && echo fresh > /data/emptied/fresh
RUN mv /data/renamed /data/moved && ln /made/one /made/linked && ln -s one /made/symlink

FROM {images.BUSYBOX}
WORKDIR /work
COPY --from=made /made /made
COPY --from=made --chown=7:8 /data /data-of-made
RUN rm /data/deleted && echo more >> /data/appended && chown 5:6 /data/owned
ENTRYPOINT ["cat", "/made/copied"]
"""
WANTED = {
    b"made/one": {"kind": "file"}, b"made/copied": {"mode": "0o644"}, b"made/bin/tool": {"mode": "0o4755"},
    b"data-of-made/emptied/fresh": {"uid": 7, "gid": 8}, b"data-of-made/moved/e": {"uid": 7},
    b"data/owned": {"uid": 5, "gid": 6}, b"work": {"kind": "dir"},
}
ABSENT = (b"data/deleted", b"data-of-made/renamed", b"data-of-made/emptied/c")


def builds(this, engine):
    """Builds one image in both ways and looks at what is in it."""
    engine.podman("import", "-q", images.busybox(), images.BUSYBOX)
    _dockerfile(this, engine)
    _by_hand(this, engine)
    engine.podman("rmi", "-f", "-a")
    this.report(engine, "nothing is left of these builds", engine.leftovers())


def context(engine):
    """The directory that an image is built from."""
    directory = f"{engine.home}/context"
    engine.inside('mkdir -p "$1"; echo copied > "$1/file"; cat > "$1/Dockerfile" <<"E"\n' + DOCKERFILE + "E\n", directory)
    return directory


def _dockerfile(this, engine):
    engine.podman("build", "-q", "-t", "localhost/built", context(engine), timeout=300)
    tree = this.read(engine, "localhost/built")
    problems = [f"{path!r}: missing" for path in WANTED if path not in tree] + [f"{path!r}: there" for path in ABSENT if path in tree]
    for path, wanted in WANTED.items():
        problems += [f"{path!r}: {k} is {tree[path][k]}" for k, v in wanted.items() if path in tree and tree[path][k] != v]
    this.report(engine, "build of two stages: what is in the image", problems)
    this.expect(engine, "build: the image runs", engine.podman("run", "--rm", "localhost/built"), "copied")


def _by_hand(this, engine):
    """The script is one, since mounts of the ordinary user are seen in its user namespace only."""
    script = """
c=$(buildah from --pull-never localhost/busybox)
at=$(buildah mount "$c")
echo by-hand > "$at/by-hand"
rm "$at/data/deleted"
buildah run "$c" sh -c 'echo ran >> /by-hand; rm -r /data/old; chown 3:4 /data/owned'
buildah copy "$c" "$1/file" /copied >/dev/null
grep " $at " /proc/self/mounts | cut -d' ' -f3
buildah umount "$c" >/dev/null
buildah config --env A=b "$c"
buildah commit -q "$c" localhost/by-hand >/dev/null
buildah rm "$c" >/dev/null
"""
    kind = engine.inside(script, context(engine), by="buildah", timeout=300).decode().split()
    this.expect(engine, "buildah from, mount, run, copy, commit", kind, ["fuse.laminafs"])
    shown = engine.podman("run", "--rm", "localhost/by-hand", "sh", "-c", "cat /by-hand /copied; ls /data/deleted /data/old 2>&1 | wc -l; stat -c %u:%g /data/owned")
    this.expect(engine, "what buildah made", shown.split(), ["by-hand", "ran", "copied", "2", "3:4"])
