"""Which PostgreSQL it is: one that was restored, or to which was failed over, may lack what peers have.

The system identifier is made with the data directory; the time line changes with each recovery to an earlier
moment and each promotion of a standby
(https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES). Where a service hides
both, its operator says so: ``mark``.
"""

from __future__ import annotations

from typing import Final

from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import Server

RESTORED: Final = "restored"
"""In the place of a PostgreSQL: who opens the tenant next goes on as a new writer."""
_NOTED: Final = "SELECT value FROM _entgldb_meta WHERE name = 'postgres'"
_MARK: Final = (
    "INSERT INTO entgldb_meta (tenant, name, value)"  # noqa: S608 -- a constant
    f" SELECT tenant, 'postgres', '{RESTORED}' FROM entgldb_state WHERE tenant = $1"
    " ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value"
)
_MOVE: Final = "UPDATE entgldb_tenants SET version = version + 1 WHERE tenant = $1"
"""So each process that has the tenant open hears of the mark before it writes."""
_NOTE: Final = "INSERT OR REPLACE INTO _entgldb_meta VALUES ('postgres', ?)"


def noted(connection: Connection) -> str:
    """The PostgreSQL on which the tenant was last opened; empty where that is not known."""
    row = connection.execute(_NOTED).fetchone()
    return "" if row is None else str(row[0])


def note(connection: Connection, identity: str) -> None:
    """The tenant is open there from now on."""
    connection.execute(_NOTE, (identity,))


def mark(server: Server, tenant: str) -> None:
    """The database of a tenant has lost commits, by the word of its operator. Raises PostgresFault."""
    with server.changing(tenant) as held:
        # first the row that a group locks first
        held.execute(_MOVE, [tenant])
        held.execute(_MARK, [tenant])
