"""The tables, made and changed by sqlite-utils migrations. A released migration is never edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Migrations
    from sqlite_utils.db import Database

FORMAT: Final = 1
"""``PRAGMA user_version``, the number of migrations: a program refuses files with a higher one."""
APPLICATION_ID: Final = 0x456E7444
"""``PRAGMA application_id``: "EntD"."""
DEVELOPMENT_ID: Final = 0x456E744C
"""That of files from before the first release."""

MOVED: Final = "moved"
"""In ``_entgldb_meta``: how often all documents have got other ids."""

TABLES: Final = """
CREATE TABLE _entgldb_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _entgldb_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    clock INTEGER NOT NULL, lsn INTEGER NOT NULL,
    documents INTEGER NOT NULL, entries INTEGER NOT NULL, conflicts INTEGER NOT NULL,
    pruned_lsn INTEGER NOT NULL DEFAULT 0, collected_lsn INTEGER NOT NULL DEFAULT 0,
    collected_hlc INTEGER NOT NULL DEFAULT 0, log_bytes INTEGER NOT NULL DEFAULT 0,
    lived_ms INTEGER NOT NULL DEFAULT 0, shown_ms INTEGER NOT NULL DEFAULT 0,
    time_ms INTEGER NOT NULL DEFAULT 0, saves INTEGER NOT NULL DEFAULT 0
);
INSERT INTO _entgldb_state (id, clock, lsn, documents, entries, conflicts) VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE _entgldb_origins (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL, head BLOB NOT NULL, quarantined INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0, floor_hlc INTEGER NOT NULL DEFAULT 0, hlc INTEGER NOT NULL DEFAULT 0,
    public_key BLOB, attestation BLOB
);
CREATE TABLE _entgldb_oplog (
    lsn INTEGER PRIMARY KEY, origin INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    collection TEXT NOT NULL, key TEXT NOT NULL, header BLOB NOT NULL, body TEXT,
    applied INTEGER NOT NULL, signature BLOB, hlc INTEGER NOT NULL DEFAULT 0,
    grew INTEGER NOT NULL DEFAULT 0, request BLOB
);
CREATE UNIQUE INDEX _entgldb_oplog_origin ON _entgldb_oplog (origin, seq);
CREATE INDEX _entgldb_oplog_unapplied ON _entgldb_oplog (lsn) WHERE applied = 0;
CREATE INDEX _entgldb_oplog_unfit ON _entgldb_oplog (lsn) WHERE applied = 2;
CREATE TABLE _entgldb_documents (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT,
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL, lsn INTEGER NOT NULL,
    sha256 BLOB, stamps BLOB, expires INTEGER, UNIQUE (collection, key)
);
CREATE INDEX _entgldb_feed ON _entgldb_documents (lsn);
CREATE INDEX _entgldb_tombstones ON _entgldb_documents (lsn) WHERE body IS NULL;
CREATE INDEX _entgldb_expiring ON _entgldb_documents (expires) WHERE expires IS NOT NULL AND body IS NOT NULL;
CREATE TABLE _entgldb_conflicts (
    id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL,
    collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, found_ms INTEGER NOT NULL,
    rule TEXT NOT NULL DEFAULT 'lww', expires INTEGER, UNIQUE (origin, seq)
);
CREATE INDEX _entgldb_conflicts_hlc ON _entgldb_conflicts (hlc);
CREATE INDEX _entgldb_conflicts_expiring ON _entgldb_conflicts (expires) WHERE expires IS NOT NULL;
CREATE INDEX _entgldb_conflicts_key ON _entgldb_conflicts (collection, key);
CREATE TABLE _entgldb_successors (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL, seq INTEGER NOT NULL, UNIQUE (origin, seq)
);
CREATE TABLE _entgldb_held (
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, header BLOB NOT NULL, body BLOB,
    cloud INTEGER NOT NULL, signature BLOB, PRIMARY KEY (origin, seq)
) WITHOUT ROWID;
CREATE TABLE _entgldb_forks (
    id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, seq INTEGER NOT NULL,
    ours BLOB NOT NULL, theirs BLOB NOT NULL, at_ms INTEGER NOT NULL
);
CREATE TABLE _entgldb_runs (
    origin INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (origin, seq)
) WITHOUT ROWID;
CREATE TABLE _entgldb_requests (
    id INTEGER PRIMARY KEY, client BLOB NOT NULL, counter INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, answer BLOB NOT NULL, UNIQUE (client, counter)
);
CREATE TABLE _entgldb_clients (
    client BLOB PRIMARY KEY, forgotten INTEGER NOT NULL, at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE _entgldb_collections (name TEXT PRIMARY KEY, view TEXT) WITHOUT ROWID;
CREATE TABLE _entgldb_indexes (
    number INTEGER PRIMARY KEY, collection TEXT NOT NULL, name TEXT NOT NULL, definition TEXT NOT NULL,
    everywhere INTEGER NOT NULL DEFAULT 0, reached TEXT, walked INTEGER NOT NULL DEFAULT 0,
    UNIQUE (collection, name)
);
CREATE TABLE _entgldb_peers (
    node_id TEXT PRIMARY KEY, address TEXT NOT NULL, seen_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE _entgldb_salvaged (
    origin TEXT NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL,
    header BLOB NOT NULL, body BLOB, PRIMARY KEY (origin, seq)
) WITHOUT ROWID;
CREATE TABLE _entgldb_incarnations (
    origin TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE _entgldb_marks (at_ms INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE _entgldb_members (
    name TEXT PRIMARY KEY, origin TEXT NOT NULL, counter INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL, heard_ms INTEGER NOT NULL, vector BLOB NOT NULL, lived_ms INTEGER NOT NULL,
    shown_ms INTEGER NOT NULL, cluster TEXT NOT NULL, unsettled BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE _entgldb_ended (origin TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE _entgldb_quarantine (
    id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL,
    collection TEXT NOT NULL, key TEXT NOT NULL, header BLOB NOT NULL, body BLOB,
    reason TEXT NOT NULL, text TEXT NOT NULL, at_ms INTEGER NOT NULL, UNIQUE (origin, seq)
);
CREATE TABLE _entgldb_arrivals (
    first_lsn INTEGER PRIMARY KEY, last_lsn INTEGER NOT NULL, peer TEXT NOT NULL, at_ms INTEGER NOT NULL
);
CREATE VIEW _entgldb_last AS
    SELECT max(lsn, ifnull((SELECT max(lsn) FROM _entgldb_oplog), 0)) AS lsn FROM _entgldb_state;
CREATE VIEW _entgldb_heads AS
    SELECT o.id, o.name, ifnull(t.seq, o.seq) AS seq, ifnull(t.hash, o.head) AS head, o.quarantined, o.floor,
        o.floor_hlc, ifnull(t.hlc, o.hlc) AS hlc, o.public_key, o.attestation
    FROM _entgldb_origins o LEFT JOIN (
        SELECT origin, max(seq) AS seq, hash, hlc FROM _entgldb_oplog NOT INDEXED
        WHERE lsn > (SELECT lsn FROM _entgldb_state) GROUP BY origin
    ) t ON t.origin = o.id;
CREATE VIEW _entgldb_now AS
    SELECT max(s.clock, ifnull(t.clock, 0)) AS clock, ifnull(t.lsn, s.lsn) AS lsn,
        s.documents + t.grew AS documents, s.entries + t.entries AS entries, s.conflicts, s.pruned_lsn,
        s.collected_lsn, s.collected_hlc, s.log_bytes + t.log_bytes AS log_bytes, s.lived_ms, s.shown_ms,
        s.time_ms
    FROM _entgldb_state s CROSS JOIN (
        SELECT max(hlc) AS clock, max(lsn) AS lsn, ifnull(sum(grew), 0) AS grew, count(*) AS entries,
            ifnull(sum(length(header) + ifnull(length(body), 0)), 0) AS log_bytes
        FROM _entgldb_oplog NOT INDEXED WHERE lsn > (SELECT lsn FROM _entgldb_state)
    ) t;
"""
"""``floor``: newest seq whose log rows are pruned; ``floor_hlc``: its stamp. ``pruned_lsn``,
``collected_lsn``: the highest lsn of a log row that was pruned, of a tombstone that was collected.
``log_bytes``: headers and bodies in the log.
``shown_ms``: the latest time that the wall clock has shown, ``time_ms``: by which documents have expired.
``lived_ms``: how long a store has had the file open; ``at_ms`` of requests, clients and marks and
``found_ms`` of conflicts are moments of it. Other times are of the wall clock, for people to read.
``sha256``: of the body. ``stamps``: versions of fields, in collections that merge. ``expires``: the moment,
by the wall clock, from which on nobody shows the row's version, NULL where there is none. A row that has one
and no body has expired.
``_entgldb_feed``: what change feeds walk, whether a row's last change was an entry of the log or not.
``_entgldb_runs``: entries that were the first which their writer wrote since it had opened its file.
``_entgldb_ended``: logs that their own node has ended. ``_entgldb_incarnations``: all but the file's first.
``_entgldb_marks``: the vector at past times, so that the
age of a log row is known. ``_entgldb_members``: the last word of every member.
``rule``: ``lww``, or ``merge`` where the body is a change.
``signature``: of the origin, over its log up to this row; not every row has one. ``attestation``: by which
the cluster's CA says that the origin's node has ``public_key``.
The row of ``_entgldb_state`` and the heads in ``_entgldb_origins`` are of the last save; rows of the log with
a greater lsn are its tail, and the views put both together. Of a log row ``hlc`` stands in its header, too;
``grew`` says by how many it changed the number of documents; ``request`` is the id (client, then counter) of
the request whose first row it is. ``saves`` counts the saves, so that a reader knows that nothing but rows
has come since it looked."""


STATISTICS: Final = (
    "_entgldb_documents",
    "sqlite_autoindex__entgldb_documents_1",
    "1000000000000 500000000000 1",
)
"""Fixed, in place of ANALYZE: a collection is many documents. And so many that nothing else is thought to be
more: else SQLite walks all documents before it looks up a few, for a Bloom filter of their keys."""


def keep_statistics(connection: sqlite3.Connection) -> None:
    """Have the planner of every reader count on ``STATISTICS`` alone, whoever has said ANALYZE meanwhile."""
    if connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall() == [STATISTICS]:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.execute("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", STATISTICS)
    connection.execute("COMMIT")
    # it reads them with the schema, and then no more
    connection.execute("ANALYZE sqlite_master")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this release's form, each step in a transaction of its own."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
        return
    # sqlite_utils takes 70 ms and megabytes to import: only a file that needs it pays for it
    with without_libraries():
        from sqlite_utils import Database

        all_migrations().apply(Database(connection))
    # last the number: with it the file counts as whole
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def without_libraries() -> Iterator[None]:
    """sqlite_utils imports numpy and pandas where it can, for types that no migration has: 40 MB, threads."""
    absent = [name for name in ("numpy", "pandas") if name not in sys.modules]
    # so they count as not installed
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is what says so
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def all_migrations() -> Migrations:
    """Every step from an empty file to FORMAT, in order."""
    from sqlite_utils import Migrations

    migrations = Migrations("entgldb")

    @migrations()
    def m001_tables(db: Database) -> None:
        execute_all(db, TABLES)
        db.execute("ANALYZE _entgldb_documents")

    return migrations


def execute_all(db: Database, script: str) -> None:
    """Carry out the statements of a step.

    The last of each step but the first sets ``user_version``: no earlier release opens what it has not known.
    """
    for statement in script.split(";"):
        if statement.strip():
            db.execute(statement)
