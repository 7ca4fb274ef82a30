#!/usr/bin/env python3
"""Writes what the fuzz targets begin with: corpus/layer, corpus/image and corpus/inventory. Runs from any directory."""

import gzip
import io
import json
import pathlib
import tarfile

HERE = pathlib.Path(__file__).resolve().parent


def layer(kind, entries):
    """A layer tar; every entry is (name, type, keyword arguments for its header)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, entry_type, fields in entries:
            data = fields.pop("data", b"")
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime, info.mode = entry_type, len(data), 1_700_000_000, 0o755
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layers():
    """Archives of all kinds, each with the byte that says how it is unpacked."""
    long = "d" * 120 + "/" + "f" * 200
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        entries = [
            ("a", tarfile.DIRTYPE, {}),
            ("a/b", tarfile.REGTYPE, {"data": b"content\n" * 80}),
            ("l", tarfile.SYMTYPE, {"linkname": "a"}),
            ("h", tarfile.LNKTYPE, {"linkname": "a/b"}),
            ("e", tarfile.LNKTYPE, {"linkname": "d/f"}),
            ("c", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3}),
            ("p", tarfile.FIFOTYPE, {}),
            ("l/.wh.x", tarfile.REGTYPE, {}),
            ("d/.wh..wh..opq", tarfile.REGTYPE, {}),
        ]
        if kind != tarfile.USTAR_FORMAT:
            entries.append((long, tarfile.REGTYPE, {"uid": 3_000_000, "data": b"x"}))
        if kind == tarfile.PAX_FORMAT:
            headers = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y", "mtime": "-1.5"}
            entries.append(("x", tarfile.DIRTYPE, {"pax_headers": headers}))
            sparse = {"GNU.sparse.size": "100", "GNU.sparse.map": "0,2,50,3", "GNU.sparse.name": "s"}
            entries.append(("GNUSparseFile/s", tarfile.REGTYPE, {"pax_headers": sparse, "data": b"aabbb"}))
        yield layer(kind, entries)
    pax = layer(tarfile.PAX_FORMAT, [("a", tarfile.REGTYPE, {"data": b"x" * 600})])
    yield gzip.compress(pax[:512], mtime=0) + gzip.compress(pax[512:], mtime=0)
    yield bytes.fromhex("28b52ffd") + pax[:40]
    yield b""


DIGEST = "sha256:" + "0123456789abcdef" * 4
OCI = "application/vnd.oci.image."


def images():
    """Inputs of all kinds that image.rs tells apart by their first byte."""
    config = {
        "created": "2024-02-29T12:34:56.789Z", "architecture": "amd64", "os": "linux", "author": "\u001b[1m",
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ["@2d", DIGEST]},
        "history": [{"created_by": "one"}, {"created_by": "two", "empty_layer": True}, {"created": "2024-01-01T00:00:00+01:00"}],
    }
    part = lambda n, kind: {"mediaType": OCI + kind, "digest": f"@{n}d", "size": "@%ds" % n}
    text = lambda value: json.dumps(value).replace('"@1s"', "@1s").replace('"@2s"', "@2s").replace('"@3s"', "@3s").encode()
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": part(2, "config.v1+json"),
                "layers": [part(3, "layer.v1.tar+gzip"), part(3, "layer.v1.tar")]}
    index = {"schemaVersion": 2, "manifests": [part(1, "manifest.v1+json") | {
        "platform": {"os": "linux", "architecture": "amd64"}, "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}
    nested = {"schemaVersion": 2, "manifests": [part(1, "index.v1+json")]}
    image = config | {"rootfs": {"type": "layers", "diff_ids": ["@3d", "@3d"]}}
    yield b"O" + b"\0".join([text(index), text(manifest), text(image), b"layer"])
    yield b"O" + b"\0".join([text(nested), text(index).replace(b"@1", b"@2"), text(manifest).replace(b"@3", b"@4").replace(b"@2", b"@3"),
                            text(image).replace(b"@3", b"@4"), b"layer"])
    archive = [{"Config": "@1h.json", "RepoTags": ["a/b:c", "d:e"], "Layers": ["2/layer.tar"]}]
    yield b"D" + b"\0".join([text(archive), text(config | {"rootfs": {"type": "layers", "diff_ids": ["@2d"]}}), b"layer"])
    plain = lambda value: json.dumps(value).replace("@2d", DIGEST).replace("@3d", DIGEST).replace("@1d", DIGEST)
    numbers = lambda value: plain(value).replace('"@1s"', "1").replace('"@2s"', "2").replace('"@3s"', "3").encode()
    yield b"m" + numbers(manifest)
    yield b"m" + numbers(index)
    yield b"c" + numbers(config)
    yield b"d" + numbers(archive)
    for argument in ("alpine", "oci:dir:tag", "docker-archive:/a.tar:b", "alpine@3", "a@" + DIGEST, "containers-storage:x"):
        yield b"a" + argument.encode()
    for name in ("localhost:5000/a/b-c__d.e:tag", "alpine@" + DIGEST, "linux/arm/v7", "2024-02-29T23:59:60.5+05:30", DIGEST,
                 "docker.io/library/a"):
        yield b"t" + name.encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("manifest.json", numbers(archive)), ("repositories", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    yield b"A" + out.getvalue()
    yield b"A" + gzip.compress(out.getvalue(), mtime=0)


def inventories():
    """What is in the files `inventory` of layers behind their checksums."""
    piece = lambda text: bytes([len(text)]) + text
    entry = lambda name, mode, more=b"", marks=b"\0": piece(name) + mode + b"\0\0\x80\x01\0\0" + more + marks
    directory, file, link, device = b"\xed\x83\x01", b"\xa4\x83\x02", b"\xff\xc3\x02", b"\x80\xc0\0"
    names = b"\x02" + piece(b"trusted.overlay.opaque") + piece(b"user.overlay.redirect")
    blocks = b"\x01" + entry(b"", directory)
    blocks += b"\x04" + entry(b"a", directory, marks=b"\x02\x00\x01y\x01\x02/b") + entry(b"b", file, b"\x05")
    blocks += entry(b"c", link, piece(b"a/b")) + entry(b"d", device, b"\0\0")
    blocks += b"\x01" + entry(b".wh.x", file, b"\0")
    yield bytes(64) + names + blocks
    yield bytes(64) + b"\0" + b"\x01" + entry(b"", directory) + b"\0"


def main():
    """Writes each input under its number."""
    all_layers = [blob + bytes([mode]) for blob in layers() for mode in (2, 7)]
    for target, inputs in (("layer", all_layers), ("image", list(images())), ("inventory", list(inventories()))):
        corpus = HERE / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (corpus / f"seed-{number:02}").write_bytes(data)
        print(f"{target}: {len(inputs)} inputs")


if __name__ == "__main__":
    main()
