"""Which PostgreSQL it is: one that was restored, or to which was failed over, may lack what peers have.

The system identifier is made with the data directory; the time line changes with each recovery to an earlier
moment and each promotion of a standby
(https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES).
"""

from __future__ import annotations

from typing import Final

from entgldb.storage.postgres.connection import Connection

_NOTED: Final = "SELECT value FROM _entgldb_meta WHERE name = 'postgres'"
_NOTE: Final = "INSERT OR REPLACE INTO _entgldb_meta VALUES ('postgres', ?)"


def noted(connection: Connection) -> str:
    """The PostgreSQL on which the tenant was last opened; empty where that is not known."""
    row = connection.execute(_NOTED).fetchone()
    return "" if row is None else str(row[0])


def note(connection: Connection, identity: str) -> None:
    """The tenant is open there from now on."""
    connection.execute(_NOTE, (identity,))
