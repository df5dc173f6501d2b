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


def was_replaced(connection: Connection) -> bool:
    """Whether the tenant was written to by another PostgreSQL than the one that has it now."""
    noted = connection.execute(_NOTED).fetchone()
    return noted is not None and connection.server.identity not in ("", noted[0])


def note(connection: Connection) -> None:
    """The tenant has a writer of this PostgreSQL from now on."""
    noted = connection.execute(_NOTED).fetchone()
    if connection.server.identity and (noted is None or noted[0] != connection.server.identity):
        connection.execute(_NOTE, (connection.server.identity,))
