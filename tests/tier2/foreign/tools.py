"""The tools that images are made and looked at with, each with its storage in the scratch directory.

They run in a mount namespace of the caller's (see __main__.py), in which /run, /dev/shm and /var/lib are not the
machine's own, because podman and buildah write there whatever storage they are given.
"""

import json
import os

from trees import run

POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class Tools:
    """skopeo, umoci, podman and buildah, and the laminafs that is tested."""

    def __init__(self, scratch, laminafs):
        """scratch is a directory on a disk file system; laminafs is the path of the program."""
        self.scratch, self.laminafs = scratch, laminafs
        self.policy, config = f"{scratch}/policy.json", f"{scratch}/containers.conf"
        with open(self.policy, "w", encoding="utf-8") as f:
            json.dump(POLICY, f)
        # Without it they make a lock in /etc/cni.
        with open(config, "w", encoding="utf-8") as f:
            f.write(f'[network]\nnetwork_config_dir = "{self.dir("network")}"\n[engine]\ncgroup_manager = "cgroupfs"\n')
        self.env = {**os.environ, "TMPDIR": self.dir("tmp"), "LC_ALL": "C", "CONTAINERS_CONF": config}
        self.storage = ["--root", f"{scratch}/storage", "--runroot", "/run/storage", "--storage-driver", "overlay"]

    def dir(self, name):
        """A directory of the scratch directory, made when it is missing."""
        os.makedirs(f"{self.scratch}/{name}", exist_ok=True)
        return f"{self.scratch}/{name}"

    def _text(self, *argv, timeout=300):
        return run(*argv, timeout=timeout, env=self.env).stdout.decode(errors="surrogateescape").strip()

    def skopeo(self, *argv):
        """Runs skopeo; returns what it prints."""
        return self._text("skopeo", "--policy", self.policy, *argv)

    def umoci(self, *argv):
        """Runs umoci; returns what it prints."""
        return self._text("umoci", *argv)

    def podman(self, *argv):
        """Runs podman; returns what it prints."""
        return self._text("podman", *self.storage, *argv)

    def buildah(self, *argv):
        """Runs buildah; returns what it prints."""
        return self._text("buildah", *self.storage, *argv)

    def inspect(self, reference):
        """What skopeo says of an image, with its layers."""
        return json.loads(self.skopeo("inspect", reference))

    def store(self, name):
        """The directory of a store of laminafs."""
        return f"{self.dir('stores')}/{name}"

    def lamina(self, *argv, store, timeout=300):
        """Runs laminafs on one of its stores; returns what it prints."""
        return self._text(self.laminafs, "--root", self.store(store), *argv, timeout=timeout)
