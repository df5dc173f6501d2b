"""The tables on PostgreSQL: those of a node's file, of a staged snapshot and of scratch work, with a tenant.

They follow from the tables of SQLite, which stand in one place.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from typing import Final, NamedTuple

from entgldb.storage.audit.trail import TABLES as AUDIT
from entgldb.storage.file import schema
from entgldb.storage.file.scratch import TABLES as SCRATCH
from entgldb.storage.snapshot.staging import KEYS
from entgldb.storage.snapshot.staging import TABLES as STAGED

TENANT: Final = "tenant"
_TYPES: Final = {"INTEGER": "BIGINT", "TEXT": "TEXT", "BLOB": "BYTEA"}
HEADS: Final = """
SELECT o.id, o.name, coalesce(t.seq, o.seq) AS seq, coalesce(t.hash, o.head) AS head, o.quarantined, o.floor,
    o.floor_hlc, coalesce(t.hlc, o.hlc) AS hlc, o.public_key, o.attestation
FROM _entgldb_origins o LEFT JOIN (
    SELECT l.origin, l.seq, l.hash, l.hlc FROM _entgldb_oplog l JOIN (
        SELECT origin, max(seq) AS seq FROM _entgldb_oplog
        WHERE lsn > (SELECT lsn FROM _entgldb_state) GROUP BY origin
    ) m ON m.origin = l.origin AND m.seq = l.seq
) t ON t.origin = o.id
"""
"""``_entgldb_heads``: that of SQLite has bare columns beside a maximum, which only SQLite can read."""


STAGED_READ: Final = ("head", "documents", "conflicts")
"""The tables of a staged snapshot that are read."""
SIDED: Final = ("documents", "conflicts")
"""There are two of each: a tenant shows one, and the other is empty but for a merge in steps."""
_SIDES: Final = "ab"
_ON_SIDE: Final = re.compile(rf"\bentgldb_(next_)?({'|'.join(SIDED)})\b")
_NEXT: Final = """
CREATE TABLE _entgldb_next_mark (
    id INTEGER PRIMARY KEY, mark TEXT NOT NULL, process TEXT NOT NULL, seen_ms INTEGER NOT NULL
);
CREATE TABLE _entgldb_next_touched (
    collection TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (collection, key)
) WITHOUT ROWID;
"""
"""Beside the documents of a merge in steps: see ``merging/sides.py``."""


class Table(NamedTuple):
    """A table as the code of ``storage`` knows it."""

    name: str
    """On PostgreSQL."""
    columns: dict[str, str]
    """Name -> type of PostgreSQL, without the tenant."""
    key: tuple[str, ...]
    numbered: str
    """The column that SQLite numbers by itself; empty where there is none."""
    ddl: tuple[str, ...]
    """The statements that make it, without policies."""


def on_side(text: str, side: int) -> str:
    """A statement with the tables of a tenant that shows this side, 0 or 1."""
    return _ON_SIDE.sub(lambda found: f"entgldb_{found[2]}_{_SIDES[side ^ bool(found[1])]}", text)


def on_postgres(name: str, schema: str = "") -> str:
    """The name of a table of SQLite's, or of one in the schemas ``temp`` and ``staged``."""
    return f"entgldb_{schema}_{name}" if schema in ("temp", "staged") else name.lstrip("_")


@cache
def tables() -> dict[str, Table]:
    """Name on PostgreSQL, of a tenant that shows ``on_side`` 0 -> table."""
    found = {}
    for script, space in (
        (schema.TABLES, ""),
        (f"{_NEXT}{_beside()}", ""),
        (AUDIT, ""),
        (";".join(f"CREATE TABLE {name} {columns}" for name, columns in SCRATCH.items()), "temp"),
        (f"{STAGED};{KEYS}", "staged"),
    ):
        with closing(sqlite3.connect(":memory:")) as connection:
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                if space == "staged" and name not in STAGED_READ:
                    continue
                table = _table(connection, name, space)
                found[table.name] = table
    return found


def _beside() -> str:
    """The statements that make the tables of the other side, as the code of ``storage`` calls them."""
    mine = [f"_entgldb_{name}" for name in SIDED]
    made = schema.TABLES.split("CREATE VIEW")[0].split(";")
    wanted = (one for one in made if any(f"{name} (" in one for name in mine))
    return ";".join(one.replace("_entgldb_", "_entgldb_next_") for one in wanted)


@cache
def views() -> dict[str, str]:
    """Name in SQLite -> the SELECT that a view stands for."""
    found = re.findall(r"CREATE VIEW (\w+) AS(.*?);", schema.TABLES, re.DOTALL)
    return dict(found) | {"_entgldb_heads": HEADS}


def _table(connection: sqlite3.Connection, name: str, space: str) -> Table:
    named = on_postgres(name, space)
    rows = connection.execute(f'PRAGMA table_info("{name}")').fetchall()
    columns = {column: _TYPES[declared or "TEXT"] for _, column, declared, *_ in rows}
    key = tuple(row[1] for row in sorted((row for row in rows if row[5]), key=lambda row: row[5]))
    plain = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    one = len(key) == 1 and columns[key[0]] == "BIGINT" and "WITHOUT ROWID" not in plain
    parts = [f"{TENANT} TEXT NOT NULL"]
    for _, column, _, not_null, default, _ in rows:
        extra = " NOT NULL" * (not_null or column in key) + f" DEFAULT {default}" * (default is not None)
        parts.append(f"{column} {columns[column]}{extra}")
    if key:
        parts.append(f"PRIMARY KEY ({', '.join((TENANT, *key))})")
    ddl = []
    for _, index, unique, origin, partial in connection.execute(f'PRAGMA index_list("{name}")').fetchall():
        on = [row[2] for row in connection.execute(f'PRAGMA index_info("{index}")').fetchall()]
        if origin == "u":
            parts.append(f"UNIQUE ({', '.join((TENANT, *on))})")
        elif origin == "c":
            (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
            where = f" WHERE {sql.split(' WHERE ')[1]}" if partial else ""
            kind = "UNIQUE INDEX" if unique else "INDEX"
            ddl.append(f"CREATE {kind} {on_postgres(index)} ON {named} ({', '.join((TENANT, *on))}){where}")
    ddl.insert(0, f"CREATE TABLE {named} ({', '.join(parts)})")
    return Table(named, columns, key, key[0] if one else "", tuple(ddl))
