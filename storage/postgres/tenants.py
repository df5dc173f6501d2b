"""Whole tenants on PostgreSQL: their size, their removal in steps, a copy of one as the file of a node."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from entgldb.messages.errors import NotFoundError
from entgldb.storage.audit.trail import TABLES as AUDIT
from entgldb.storage.audit.trail import exists
from entgldb.storage.file import open as database
from entgldb.storage.file.faults import translating
from entgldb.storage.postgres import schema
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import PostgresFault, Server, server
from entgldb.storage.postgres.tables import Table, on_postgres, on_side, tables
from entgldb.storage.tenants.files import TenantFiles

STEP_ROWS: Final = 5_000
"""Rows at most that are removed in one transaction."""
STEP_MS: Final = 2_000
"""So long may that take, as other tenants wait. Rows may be large: where it takes longer, the next step has
an eighth as many; one row has as long as any statement."""
_SECRET: Final = "private_key"
"""A copy has none: who goes on with it writes as somebody new."""
_PATIENCE: Final = "SELECT set_config('statement_timeout', $1, true)"
_SIZE: Final = "SELECT log_bytes, entries, documents FROM _entgldb_now"


class TenantRows:
    """Implements ``ports.TenantFiles`` for tenants whose data is on PostgreSQL; their snapshots are files."""

    def __init__(self, dsn: str, files: TenantFiles) -> None:
        self._dsn, self._files = dsn, files
        self._removal = _Removal("")

    def size(self, tenant: str) -> int:
        """Bytes of the log and of its snapshots, and of the documents, which count as much as log rows do."""
        with translating("PostgreSQL"):
            row = Connection(server(self._dsn), tenant).execute(_SIZE).fetchone()
        log_bytes, entries, documents = (0, 0, 0) if row is None else row
        return self._files.size(tenant) + log_bytes + log_bytes * documents // max(entries, 1)

    def remove(self, tenant: str) -> bool:
        """One bounded step of removing all that is there; whether nothing is left. Raises EntglError."""
        if self._removal.tenant != tenant:
            self._removal = _Removal(tenant)
        with translating("PostgreSQL"):
            if not self._removal.step(server(self._dsn)) or not self._files.remove(tenant):
                return False
        self._removal = _Removal("")
        return True


class _Removal:
    """Of all tables with rows of a tenant, one after the other by its keys: what is gone is not passed again.

    It ends where no table has any: another process may remove the same tenant, and after a crash, or where
    the name was used once more meanwhile, nothing is known of what was done.
    """

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self._left = list[Table]()
        self._rows = STEP_ROWS
        self._after: tuple[object, ...] = ()
        """The last key that was removed from the first table that is left."""

    def step(self, on: Server) -> bool:
        """Take some rows out, by one statement; whether there are no more. Raises PostgresFault."""
        if not self._left:
            self._left = self._filled(on)
            return not self._left
        rows = self._rows
        try:
            gone = self._remove(on, self._left[0], rows)
        except PostgresFault as fault:
            if not fault.late or rows == 1:
                raise
            self._rows = max(1, rows // 8)
            return False
        if len(gone) >= rows:
            self._after = max(gone)
        else:
            self._left, self._after, self._rows = self._left[1:], (), STEP_ROWS
        return False

    def _filled(self, on: Server) -> list[Table]:
        """The tables that have rows of the tenant."""
        every = [*tables().values()]
        looks = (f"EXISTS (SELECT 1 FROM {on_side(one.name, 0)} WHERE tenant = $1)" for one in every)  # noqa: S608 -- of ours
        with on.changing(self.tenant) as held:
            found = held.execute(f"SELECT {', '.join(looks)}", [self.tenant]).fetchone()
        return [one for one, has in zip(every, found or (), strict=True) if has]

    def _remove(self, on: Server, table: Table, rows: int) -> list[tuple[Any, ...]]:
        """The keys that were removed."""
        # a table without a key has work of one transaction, and so no rows
        names = table.key or tuple(table.columns)[:1]
        key, marks = ", ".join(names), ", ".join(f"${place}" for place in range(2, len(names) + 2))
        mine = f"{on_side(table.name, 0)} WHERE tenant = $1"
        behind = f" AND ({key}) > ({marks})" if self._after else ""
        some = f"SELECT {key} FROM {mine}{behind} ORDER BY {key} LIMIT {rows}"  # noqa: S608 -- of ours
        with on.changing(self.tenant) as held:
            if rows > 1:
                held.execute(_PATIENCE, [f"{STEP_MS}ms"])
            return held.execute(
                f"DELETE FROM {mine} AND ({key}) IN ({some}) RETURNING {key}",  # noqa: S608 -- of ours
                [self.tenant, *self._after],
            ).fetchall()


def copy_out(dsn: str, tenant: str, directory: Path) -> None:
    """Write all data of a tenant into a new file ``entgldb.db`` in ``directory``, as of one moment.

    Raises NotFoundError where there is no such tenant; EntglError.
    """
    source = Connection(server(dsn), tenant)
    with translating("PostgreSQL"):
        schema.must_be_current(source.server)
    target = database.open_file(directory)
    with translating(f"the copy of tenant {tenant}"):
        source.execute("BEGIN")
        try:
            if source.execute("SELECT 1 FROM _entgldb_state").fetchone() is None:
                raise NotFoundError(f"there are no data of a tenant {tenant}", hint="entgldb tenant list")
            target.execute("BEGIN IMMEDIATE")
            target.execute("DELETE FROM _entgldb_state")
            if source.execute("SELECT 1 FROM _entgldb_audit LIMIT 1").fetchone() is not None:
                target.execute(AUDIT)
            for table in tables().values():
                if table.name not in _NOT_COPIED and (table.name != _AUDIT or exists(target)):
                    _copy_table(source, target, table)
            target.execute("DELETE FROM _entgldb_meta WHERE name = ?", (_SECRET,))
            # the views for people are a matter of the file: they are made with its next collection
            target.execute("UPDATE _entgldb_collections SET view = NULL")
            target.execute("COMMIT")
        finally:
            source.execute("ROLLBACK")
            target.close()


_AUDIT: Final = on_postgres("_entgldb_audit")
"""A file has it from its first row on."""
_NOT_COPIED: Final = {
    name
    for name in tables()
    if name.startswith((on_postgres("", "temp"), on_postgres("", "staged"), "entgldb_next_"))
}


def _copy_table(source: Connection, target: sqlite3.Connection, table: Table) -> None:
    name, columns = f"_{table.name}", ", ".join(table.columns)
    marks = ", ".join("?" * len(table.columns))
    rows = source.execute(f"SELECT {columns} FROM {name}")  # noqa: S608 -- of ours
    target.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", rows)  # noqa: S608 -- of ours
