"""Collections as people see them: a view each, and indexes on field paths."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Final

from entgldb.messages.model import check_collection
from entgldb.storage.filter import extract, parse_path
from entgldb.storage.state import State

VIEWS_MAX: Final = 1000
"""Collections beyond this many get no view: every view slows down opening the file."""


def ensure_collection(connection: sqlite3.Connection, state: State, name: str) -> None:
    """Note a collection at its first entry and give it a view."""
    view = _free_view_name(connection, name) if len(state.collections) < VIEWS_MAX else None
    connection.execute("INSERT OR IGNORE INTO _entgldb_collections VALUES (?, ?)", (name, view))
    state.collections.add(name)
    if view is not None:
        # names are checked: letters, digits, '_', '.', '-' only
        connection.execute(
            f'CREATE VIEW "{view}" AS SELECT key, body FROM _entgldb_documents'  # noqa: S608 -- checked name
            f" WHERE collection = '{name}' AND body IS NOT NULL"
        )


def create_index(connection: sqlite3.Connection, collection: str, path: str) -> None:
    """Index a field path of a collection. Idempotent. Raises InvalidError for a bad name or path."""
    check_collection(collection)
    expression = extract(parse_path(path))
    name = "_entgldb_ix_" + sha256(f"{collection}\0{path}".encode()).hexdigest()[:16]
    fresh = connection.execute(
        "INSERT OR IGNORE INTO _entgldb_indexes VALUES (?, ?, ?)", (collection, path, name)
    ).rowcount
    if not fresh:
        return
    connection.execute(
        f"CREATE INDEX {name} ON _entgldb_documents ({expression}, key)"
        f" WHERE collection = '{collection}' AND body IS NOT NULL"
    )
    connection.execute("INSERT INTO sqlite_stat1 VALUES ('_entgldb_documents', ?, '1000 10 1')", (name,))


def _free_view_name(connection: sqlite3.Connection, name: str) -> str:
    view, number = name, 1
    while connection.execute("SELECT 1 FROM sqlite_master WHERE name = ? COLLATE NOCASE", (view,)).fetchone():
        number += 1
        view = f"{name}_{number}"
    return view
