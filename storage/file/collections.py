"""Collections as people see them: a view each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from entgldb.storage.file.state import State

VIEWS_MAX: Final = 1000
"""Views there are at most: every view slows down opening the file."""


def ensure_collection(connection: sqlite3.Connection, state: State, name: str) -> None:
    """Note a collection at its first entry, and have the views be what the names of all of them say."""
    connection.execute("INSERT OR IGNORE INTO _entgldb_collections VALUES (?, NULL)", (name,))
    state.collections.add(name)
    had = dict(connection.execute("SELECT name, view FROM _entgldb_collections"))
    wanted = view_names(had)
    changed = [name for name in had if had[name] != wanted.get(name)]
    for one in changed:
        if had[one] is not None:
            connection.execute(f'DROP VIEW "{had[one]}"')
    for one in changed:
        view = wanted.get(one)
        connection.execute("UPDATE _entgldb_collections SET view = ? WHERE name = ?", (view, one))
        if view is not None:
            # names are checked: letters, digits, '_', '.', '-' only
            connection.execute(
                f'CREATE VIEW "{view}" AS SELECT key, body FROM _entgldb_documents'  # noqa: S608 -- checked name
                f" WHERE collection = '{one}' AND body IS NOT NULL"
            )


def view_names(collections: Iterable[str]) -> dict[str, str]:
    """Collection to view, from the names alone, so that it is the same on every node.

    SQLite knows no case: of names that differ by case alone the one in small letters, or else the first,
    keeps its name; the others get ``_2``, ``_3``. Beyond VIEWS_MAX the last by name have none.
    """
    names = sorted(
        sorted(collections)[:VIEWS_MAX], key=lambda name: (name.lower(), name != name.lower(), name)
    )
    taken = {name.lower() for name in names}
    views: dict[str, str] = {}
    before = ""
    for name in names:
        view, number = name, 2
        while name.lower() == before and view.lower() in taken:
            view, number = f"{name}_{number}", number + 1
        taken.add(view.lower())
        views[name] = view
        before = name.lower()
    return views
