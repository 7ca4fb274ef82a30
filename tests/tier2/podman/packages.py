"""A package installed by apt-get, and a database of SQLite, in a container of Debian."""

import images

SQLITE = """
PRAGMA journal_mode=WAL;
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, hex(randomblob(50)) FROM n;
UPDATE t SET b = b || 'x' WHERE a % 3 = 0;
DELETE FROM t WHERE a % 5 = 0;
"""
INSTALL = """
apt-get update -q -o Acquire::Languages=none
apt-get install -y -q --no-install-recommends sqlite3 less
dpkg -P less
dpkg --audit
"""


def packages(this, engine):
    """Both, and the container committed and used again."""
    engine.podman("import", "-q", images.debian(this.debian), images.DEBIAN, timeout=300)
    env = ("-e", "DEBIAN_FRONTEND=noninteractive", "-e", "LC_ALL=C")
    engine.podman("run", "--name", "installing", "--network", "host", *env, images.DEBIAN, "sh", "-euc", INSTALL, timeout=400)
    engine.podman("commit", "-q", "installing", "localhost/installed", timeout=300)
    engine.podman("rm", "installing")
    script = f'''dpkg --audit; test ! -e /usr/bin/less; sqlite3 /srv/db "{SQLITE}"; sqlite3 /srv/db "PRAGMA integrity_check; SELECT count(*) FROM t"'''
    engine.podman("run", "-d", "--name", "sqlite", "localhost/installed", "sleep", "1000")
    shown = engine.podman("exec", "sqlite", "sh", "-euc", script)
    this.expect(engine, "apt-get install, dpkg -P, SQLite", shown.split(), ["wal", "ok", "16000"])
    # A second process on a database that another container's layer now holds.
    engine.podman("commit", "-q", "sqlite", "localhost/with-database", timeout=300)
    engine.podman("rm", "-f", "-t", "0", "sqlite")
    shown = engine.podman("run", "--rm", "localhost/with-database", "sqlite3", "/srv/db", "UPDATE t SET b = ''; PRAGMA integrity_check; SELECT count(*) FROM t")
    this.expect(engine, "SQLite on a database of the image", shown.split(), ["ok", "16000"])
    engine.podman("rmi", "-f", "-a")
    this.report(engine, "nothing is left of these", engine.leftovers())
