"""What images cost on disk, and what loading again costs."""

import json
import os
import time

from trees import run

LAYERS = "layers/sha256"
# Seconds; it takes milliseconds on an idle machine.
SOON = 1.0


def cost(this):
    """debian-2, which has two layers, and debian-3, which adds one to them."""
    tools, sizes, store = this.tools, [], this.images.store("debian-3")
    for tag in ("debian-2", "debian-3"):
        this.images.load(tag)
        sizes.append(_disk(tools.store(store)))
    layers = os.listdir(f"{tools.store(store)}/{LAYERS}")
    this.report("two images of two and three layers have three layers on disk", [] if len(layers) == 3 else layers)
    print(f"     du of the store after each of them: {', '.join(f'{size >> 20} MiB' for size in sizes)}")
    _adds_up(this, store)
    before = _layers(tools, store)
    start = time.monotonic()
    this.images.load("debian-3")
    seconds = time.monotonic() - start
    print(f"     loading debian-3 again takes {seconds * 1000:.0f} ms")
    slow = [f"it took {seconds:.1f} s"] if seconds > SOON else []
    changed = [] if _layers(tools, store) == before else ["a layer directory is another one"]
    this.report("loading again unpacks nothing", slow + changed)


def _disk(path):
    """What du(1) counts, in bytes."""
    return int(run("du", "-s", "--block-size=1", path).stdout.split()[0])


def _layers(tools, store):
    """The layer directories, by inode number and change time."""
    root = f"{tools.store(store)}/{LAYERS}"
    stats = {name: os.stat(f"{root}/{name}/diff") for name in os.listdir(root)}
    return {name: (stat.st_ino, stat.st_ctime_ns) for name, stat in stats.items()}


def _adds_up(this, store):
    """The sums of `df -v`, by themselves and against du(1)."""
    usage = json.loads(this.tools.lamina("df", "-v", "--json", store=store))
    images = usage["images"]
    lines = [f"{image['names']}: {image['disk_shared']} shared and {image['disk_unique']} unique are not {image['disk']}"
             for image in images if image["disk_shared"] + image["disk_unique"] != image["disk"]]
    unique = sum(image["disk_unique"] for image in images)
    total = usage["layers_disk"] + usage["blobs_disk"]
    if unique + usage["shared_once"] + usage["unreferenced"] != total:
        lines.append(f"{unique} unique, {usage['shared_once']} shared, {usage['unreferenced']} of nobody are not {total}")
    measured = _disk(this.tools.store(store))
    # What df does not count: records, directories of the store, and that files end in the middle of a block.
    if not total <= measured <= total + (1 << 20):
        lines.append(f"df says {total} bytes, du {measured}")
    this.report("df adds up", lines)
    print(f"     df: {total >> 20} MiB, of that shared {usage['shared_once'] >> 20} MiB; du: {measured >> 20} MiB")
