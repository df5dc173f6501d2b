"""The catalogue of tenants: a table of the cloud node's own file, which replicates nowhere.

It is made with the first tenant: files of other nodes stay as they are.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.schema import to_array
from entgldb.messages.tenants import Quotas, Tenant, TenantState

_TABLE: Final = """CREATE TABLE IF NOT EXISTS _entgldb_tenants (
    name TEXT PRIMARY KEY, issuer TEXT NOT NULL, state TEXT NOT NULL, since_ms INTEGER NOT NULL,
    documents INTEGER NOT NULL, bytes INTEGER NOT NULL, writes INTEGER NOT NULL, links INTEGER NOT NULL,
    origins INTEGER NOT NULL
) WITHOUT ROWID"""
"""The last five columns are its quotas."""
_SELECT: Final = (
    "SELECT name, issuer, state, since_ms, documents, bytes, writes, links, origins FROM _entgldb_tenants"
)


class Catalogue:
    """The tenants that a cloud node knows. A row is put within a group of the node's store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_entgldb_tenants'").fetchone():
            connection.execute(_TABLE)

    def get(self, name: str) -> Tenant | None:
        row = self._connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
        return None if row is None else as_tenant(row)

    def page(self, after: str) -> list[Tenant]:
        rows = self._connection.execute(
            f"{_SELECT} WHERE name > ? ORDER BY name LIMIT ?", (after, PAGE_ROWS_MAX)
        )
        return [as_tenant(row) for row in rows]

    def states(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT state, count(*) FROM _entgldb_tenants GROUP BY state"))

    def deleting(self) -> list[str]:
        rows = self._connection.execute(
            "SELECT name FROM _entgldb_tenants WHERE state = ? ORDER BY name", (TenantState.DELETING.value,)
        )
        return [name for (name,) in rows]

    def put(self, row: Tenant, before: Tenant | None) -> None:
        """Write a row anew; nobody else has written it since it was read as ``before``."""
        self._connection.execute(
            "INSERT OR REPLACE INTO _entgldb_tenants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.name, row.issuer, row.state, row.since_ms, *to_array(row.quotas)),
        )

    def forget_oldest(self) -> bool:
        return (
            self._connection.execute(
                "DELETE FROM _entgldb_tenants WHERE name = (SELECT name FROM _entgldb_tenants"
                " WHERE state = ? ORDER BY since_ms, name LIMIT 1)",
                (TenantState.DELETED.value,),
            ).rowcount
            > 0
        )


def as_tenant(row: tuple[Any, ...]) -> Tenant:
    """A row of the catalogue, here or on PostgreSQL."""
    name, issuer, state, since_ms, *quotas = row
    return Tenant(name, issuer, state, since_ms, Quotas(*quotas))
