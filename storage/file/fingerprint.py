"""``node.fingerprint``: it tells a directory from its copy, and a database from an older copy of itself.

The file stands beside the database and holds a nonce that the database holds too, made anew at each start;
the machine and the inodes; and the last lsn that was noted. A directory that was copied has other inodes or
another machine; a database that was put back has an old nonce or a smaller lsn. A rollback of both together,
as by a virtual machine's snapshot, shows in the entries that the peers have.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from entgldb.storage.file.durable import write_whole
from entgldb.storage.rules.incarnations import Why

FINGERPRINT_FILE: Final = "node.fingerprint"
DATABASE: Final = "entgldb.db"


class Fingerprint(NamedTuple):
    """The contents of the file. Device numbers are left out: many change with each boot."""

    machine: str
    directory: int
    """Inode."""
    database: int
    """Inode."""
    nonce: str
    coming: str
    """The nonce that is about to replace ``nonce``; empty once it has."""
    lsn: int


def examine(connection: sqlite3.Connection, directory: Path) -> Why | None:
    """Why the database in ``directory`` must not continue its own log, or None."""
    inside, lsn = _mark(connection), _lsn(connection)
    outside = _read(directory)
    if outside is None:
        return None if inside is None else Why.CLONED
    if inside is None:
        # an empty database has just been made: the first of all, unless a start before came to its end
        return Why.ROLLED_BACK if lsn else Why.LOST if outside.nonce else None
    if inside not in (outside.nonce, outside.coming) or lsn < outside.lsn:
        return Why.ROLLED_BACK
    return None if _place(directory) == (outside.machine, outside.directory, outside.database) else Why.CLONED


def renew(connection: sqlite3.Connection, directory: Path) -> None:
    """A new nonce in both places; whenever this is cut short, the next start takes it for what it is.

    A disk that has no room keeps the old one: then only a roll-back within this run goes unnoticed here.
    """
    before, coming = _mark(connection) or "", os.urandom(16).hex()
    made = Fingerprint(*_place(directory), before, coming, _lsn(connection))
    with contextlib.suppress(OSError, sqlite3.OperationalError):
        _write(directory, made)
        connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES ('mark', ?)", (coming,))
        _write(directory, made._replace(nonce=coming, coming=""))


def note_progress(connection: sqlite3.Connection, directory: Path) -> None:
    """Remember outside how far the database has come."""
    found, lsn = _read(directory), _lsn(connection)
    if found is not None and found.lsn < lsn:
        with contextlib.suppress(OSError):
            _write(directory, found._replace(lsn=lsn))


def _mark(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'mark'").fetchone()
    return None if row is None else str(row[0])


def _lsn(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT lsn FROM _entgldb_last").fetchone()[0])


def _place(directory: Path) -> tuple[str, int, int]:
    try:
        machine = Path("/etc/machine-id").read_text("ascii").strip()
    except OSError:
        machine = ""
    return machine, directory.stat().st_ino, (directory / DATABASE).stat().st_ino


def _read(directory: Path) -> Fingerprint | None:
    """None where there is none, or what no release has written."""
    try:
        return Fingerprint(**json.loads((directory / FINGERPRINT_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(directory: Path, fingerprint: Fingerprint) -> None:
    write_whole(directory / FINGERPRINT_FILE, json.dumps(fingerprint._asdict()).encode())
