"""The documents as they are to be, in tables of their own beside those that a tenant shows.

There are two tables of documents, and two of conflicts, for all tenants. A number in a tenant's row says
which of them it shows: it changes in the transaction that ends the merge, and each transaction of any process
asks for it. Triggers note of which keys anything changes, where the transaction has said so: each says it
that finds it in the tenant's row, which it has locked. Where tables have no triggers, a merge is one
transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from entgldb.messages.model import Place
from entgldb.storage.snapshot.shadow import CLEAN_ROWS, CONFLICT, FIELDS, MARK, TOUCHED, Shadow

if TYPE_CHECKING:
    import sqlite3

    from entgldb.storage.postgres.connection import Connection

ALIVE_MS: Final = 30_000
"""A merge of another process with which nothing was done for so long is given up."""
_NOW: Final = "(extract(epoch FROM now()) * 1000)::BIGINT"
"""By the clock of the database, which is the same for all."""
_KEEP: Final = f"UPDATE {MARK[1:]} SET mark = $2, process = $3, seen_ms = {_NOW} WHERE tenant = $1"  # noqa: S608 -- constants
_OF_ANOTHER: Final = (
    f"SELECT 1 FROM {MARK[1:]} WHERE tenant = $1 AND process <> $2 AND seen_ms > {_NOW} - {ALIVE_MS}"  # noqa: S608 -- constants
)
_NOTED: Final = "UPDATE entgldb_tenants SET noted = $2 WHERE tenant = $1"
_CHANGE: Final = "UPDATE entgldb_tenants SET side = 1 - side WHERE tenant = $1"
_GONE: Final = (
    "DELETE FROM {0} WHERE id <= (SELECT max(id) FROM (SELECT id FROM {0} ORDER BY id LIMIT {1}) AS few)"
)
_OURS, _NEXT = "_entgldb_", "_entgldb_next_"
_DOCUMENTS: Final = "_entgldb_documents"
_ROWS: Final = {_DOCUMENTS: FIELDS, "_entgldb_conflicts": CONFLICT}
_WRITES: Final = {
    table: f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * (columns.count(',') + 1))})"  # noqa: S608 -- constants
    for table, columns in _ROWS.items()
}
_TAKEN_OUT: Final = (
    "DELETE FROM {} WHERE tenant = $1 AND collection = $2 AND key = ANY($3) RETURNING CAST({} AS INT)"
)
_ASIDE: Final = "SELECT origin, seq FROM _entgldb_quarantine"
_SET_ASIDE: Final = (
    "INSERT INTO _entgldb_quarantine (origin, seq, hlc, collection, key, header, reason, text, at_ms)"
    " VALUES (?, ?, 0, '', '', x'', '', '', 0)"
)
_ORIGINS: Final = (
    "INSERT INTO _entgldb_origins (id, name, seq, head) SELECT number, name, 0, x'' FROM temp.origins"
)
_LIVE: Final = "SELECT count(*) FROM _entgldb_documents WHERE body IS NOT NULL"
_CONFLICTS: Final = "SELECT count(*) FROM _entgldb_conflicts"
_LEFT: Final = (
    _GONE.format("_entgldb_next_documents", CLEAN_ROWS),
    _GONE.format("_entgldb_next_conflicts", CLEAN_ROWS),
    f"DELETE FROM {TOUCHED} WHERE (collection, key) IN"  # noqa: S608 -- constants
    f" (SELECT collection, key FROM {TOUCHED} LIMIT {CLEAN_ROWS})",
)


class Sides(Shadow):
    """The other side of a tenant, within a group."""

    def __init__(self, on: Connection) -> None:
        super().__init__(cast("sqlite3.Connection", on))
        self._on = on
        self._places = dict[str, list[str]]()
        """Collection -> keys, of ``temp.scope``."""

    def exists(self) -> bool:
        return self._connection.execute(f"SELECT 1 FROM {MARK}").fetchone() is not None  # noqa: S608 -- a constant

    def is_allowed(self) -> bool:
        """Whether there are triggers."""
        return self._on.server.notes

    def is_anothers(self) -> bool:
        return bool(self._on.ask(_OF_ANOTHER, self._on.tenant, self._on.server.name))

    def create(self) -> None:
        self._connection.execute(f"INSERT INTO {MARK} VALUES (1, '', '', 0)")  # noqa: S608 -- a constant
        self._on.say(_NOTED, self._on.tenant, 1)
        self._on.enter(other=False)

    def keep(self, mark: str) -> None:
        self._on.say(_KEEP, self._on.tenant, mark, self._on.server.name)

    def form(self) -> str:
        """There are no indexes."""
        return ""

    def desk(self) -> sqlite3.Connection:
        assert self._on.staged is not None
        return self._on.staged.desk

    def fill(self, places: Collection[Place]) -> None:
        super().fill(places)
        self._places = {}
        for collection, key in places:
            self._places.setdefault(collection, []).append(key)

    def refill(self) -> int:
        """Take the rows that the tenant shows to the desk; those of the other side go."""
        desk, before = self.desk(), 0
        for table, columns in _ROWS.items():
            desk.execute(f"DELETE FROM {table}")  # noqa: S608 -- constants
            shown = f"SELECT {columns} FROM {table.replace(_OURS, _NEXT)} WHERE collection = ? AND key IN (?)"  # noqa: S608 -- constants
            gone = _TAKEN_OUT.format(table[1:], "body IS NOT NULL" if table == _DOCUMENTS else "false")
            for collection, keys in self._places.items():
                before += sum(live for (live,) in self._on.ask(gone, self._on.tenant, collection, keys))
                desk.executemany(_WRITES[table], self._on.execute_any(shown, (collection,), keys))
        desk.execute("DELETE FROM _entgldb_quarantine")
        desk.executemany(_SET_ASIDE, self._on.execute(_ASIDE))
        desk.execute("DELETE FROM _entgldb_origins")
        desk.execute(_ORIGINS)
        return before

    def settle(self) -> None:
        for table, columns in _ROWS.items():
            made = self.desk().execute(f"SELECT {columns} FROM {table} ORDER BY id")  # noqa: S608 -- constants
            self._connection.executemany(_WRITES[table], made)

    def live(self) -> int:
        return int(self.desk().execute(_LIVE).fetchone()[0])

    def conflicts(self) -> int:
        """Of the keys in ``temp.scope``: all are counted, and those beyond their cap go, in the end."""
        return int(self.desk().execute(_CONFLICTS).fetchone()[0])

    @contextmanager
    def entered(self) -> Iterator[None]:
        self.enter()
        yield
        self._on.enter(other=False)

    def enter(self) -> None:
        self._on.enter(other=True)

    def stay(self) -> None:
        self._on.say(_CHANGE, self._on.tenant)
        self._on.stay()
        self.forsake()

    def forsake(self) -> None:
        self._on.say(_NOTED, self._on.tenant, 0)

    def clean(self) -> None:
        for statement in _LEFT:
            if self._connection.execute(statement).rowcount:
                return
        self._connection.execute(f"DELETE FROM {MARK}")  # noqa: S608 -- a constant
