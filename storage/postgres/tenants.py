"""Whole tenants on PostgreSQL: their size, their removal in steps, a copy of one as the file of a node."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from entgldb.messages.errors import NotFoundError
from entgldb.storage.audit.trail import TABLES as AUDIT
from entgldb.storage.audit.trail import exists
from entgldb.storage.file import open as database
from entgldb.storage.file.faults import translating
from entgldb.storage.postgres import schema
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import server
from entgldb.storage.postgres.tables import Table, on_postgres, tables
from entgldb.storage.tenants.files import TenantFiles

STEP_ROWS: Final = 5_000
"""Rows that are removed in one transaction."""
_SECRET: Final = "private_key"
"""A copy has none: who goes on with it writes as somebody new."""
_SIZE: Final = "SELECT log_bytes, entries, documents FROM _entgldb_now"


class TenantRows:
    """Implements ``ports.TenantFiles`` for tenants whose data is on PostgreSQL; their snapshots are files."""

    def __init__(self, dsn: str, files: TenantFiles) -> None:
        self._dsn, self._files = dsn, files

    def size(self, tenant: str) -> int:
        """Bytes of the log and of its snapshots, and of the documents, which count as much as log rows do."""
        with translating("PostgreSQL"):
            row = Connection(server(self._dsn), tenant).execute(_SIZE).fetchone()
        log_bytes, entries, documents = (0, 0, 0) if row is None else row
        return self._files.size(tenant) + log_bytes + log_bytes * documents // max(entries, 1)

    def remove(self, tenant: str) -> bool:
        """One bounded step of removing all that is there; whether nothing is left."""
        with translating("PostgreSQL"):
            if not all(self._shortened(tenant, table) for table in tables().values()):
                return False
        return self._files.remove(tenant)

    def _shortened(self, tenant: str, table: Table) -> bool:
        """Take so many rows out of a table; whether it has no more."""
        on = server(self._dsn)
        if not table.key:
            on.carry_out(tenant, f"DELETE FROM {table.name} WHERE tenant = $1")  # noqa: S608 -- of ours
            return True
        key = ", ".join(table.key)
        some = f"SELECT {key} FROM {table.name} WHERE tenant = $1 LIMIT {STEP_ROWS}"  # noqa: S608 -- of ours
        sql = f"DELETE FROM {table.name} WHERE tenant = $1 AND ({key}) IN ({some})"  # noqa: S608 -- of ours
        return on.carry_out(tenant, sql) < STEP_ROWS


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
    name for name in tables() if name.startswith((on_postgres("", "temp"), on_postgres("", "staged")))
}


def _copy_table(source: Connection, target: sqlite3.Connection, table: Table) -> None:
    name, columns = f"_{table.name}", ", ".join(table.columns)
    marks = ", ".join("?" * len(table.columns))
    rows = source.execute(f"SELECT {columns} FROM {name}")  # noqa: S608 -- of ours
    target.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", rows)  # noqa: S608 -- of ours
