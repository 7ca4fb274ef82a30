"""Several containers on one image: two that write at once, thirty one after another."""

import images

ROUNDS = 30
# Each writes its own content everywhere, and would see the other's.
WRITER = """
i=0
while [ $i -lt 200 ]; do
    echo $0 $i > /data/f$i
    echo $0 >> /data/appended
    mkdir -p /data/d$((i % 7)); mv /data/f$i /data/d$((i % 7))/
    i=$((i + 1))
done
grep -rvl "^$0 " /data/d? || true
sort -u /data/appended | grep -v image
"""


def many(this, engine):
    """Both, and what is left of them."""
    engine.podman("import", "-q", images.busybox(), images.BUSYBOX)
    names = ("first", "second")
    for name in names:
        engine.podman("run", "-d", "--name", name, images.BUSYBOX, "sh", "-c", WRITER, name)
    for name in names:
        engine.podman("wait", name)
        this.expect(engine, f"two at once: {name} sees its own", engine.podman("logs", name), name)
        this.expect(engine, f"two at once: changes of {name}", sum(l.startswith("A /data/d") for l in engine.podman("diff", name).splitlines()), 207)
    engine.podman("rm", *names)
    for number in range(ROUNDS):
        name = f"round-{number}"
        engine.podman("run", "-d", "--name", name, images.BUSYBOX, "sh", "-c", "echo x > /data/moded; sleep 1000")
        engine.podman("rm", "-f", "-t", "0", name)
    this.report(engine, f"{ROUNDS} started and stopped: no mount, process or lock is left", engine.leftovers())
    this.expect(engine, "nor a container", engine.podman("ps", "-aq"), "")
