"""Images of other tools, as laminafs and as those tools show them."""

import os

import interop_tree as model
import views

# Those with the most layers: what lies below is in them.
TAGS = ("sparse", "gnu", "odd-3", "links", "replaced", "debian-3", "zstd")
# One is enough to see that buildah shows what podman shows.
WITH_BUILDAH = "odd-3"


def forward(this):
    """Loads every image and compares all views of it."""
    for tag in TAGS:
        ours = this.tree(tag)
        theirs = views.kernel(this.tools, this.images.name(tag), this.images.store(tag))
        this.compare(f"{tag}: laminafs and --kernel", "kernel", tag, ours, theirs)
        _beside(this, tag, this.images.at(tag), ours)


def _beside(this, tag, image, ours):
    """Compares with the tools that read this image."""
    title = f"{tag}: laminafs and"
    theirs = this.refused(f"{title} umoci", "umoci", tag, lambda: views.umoci(this.tools, image))
    if theirs:
        this.compare(f"{title} umoci", "umoci", tag, ours, theirs)
    pulled = this.refused(f"{title} podman", "podman", tag, lambda: this.tools.podman("pull", "-q", image))
    if pulled:
        this.compare(f"{title} podman", "podman", tag, ours, views.podman(this.tools, pulled))
    if tag == WITH_BUILDAH:
        this.compare(f"{title} buildah", "buildah", tag, ours, views.buildah(this.tools, pulled))
    if tag in ("sparse", "gnu"):
        this.compare(f"{title} GNU tar", "tar", tag, ours, views.tar(this.tools, this.images.blob(tag, 0)))
        _holes(this, tag)


def _holes(this, tag):
    """Files that are sparse in the archive are sparse in the layer."""
    with views.mounted(this.tools, this.images.name(tag), "--read-only", store=this.images.store(tag)) as place:
        blocks = {copy: os.stat(f"{place}/special/sparse-{copy}").st_blocks for copy in "ab"}
    this.report(f"{tag}: holes", [f"sparse-{copy} takes {n} blocks" for copy, n in blocks.items() if n > model.HALF_SPARSE])
