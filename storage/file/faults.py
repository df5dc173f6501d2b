"""Refusals of SQLite and of the disk, as errors of ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from entgldb.messages.errors import CorruptError, EntglError, ErrorCode

HINT_DAMAGED: Final = "entgldb start --rebuild (refilled by the peers), or entgldb restore FILE"
FAULTS: Final = (sqlite3.Error, UnicodeDecodeError)
"""Raised by a connection."""


class DatabaseFault(sqlite3.OperationalError):
    """Of a database that is no file: it says itself which error of ours it is."""

    code = ErrorCode.INTERNAL
    hint = ""
    undone = False
    """Whether it is known that the transaction that met it is undone."""


def translated(fault: sqlite3.Error | UnicodeDecodeError, where: str) -> EntglError:
    """An SQLite error as one of ours; the schema of a damaged file may be no text at all."""
    if isinstance(fault, UnicodeDecodeError):
        return CorruptError(f"{where}: {fault}", hint="restore the file, or set it aside")
    if isinstance(fault, DatabaseFault):
        return EntglError(f"{where}: {fault}", code=fault.code, hint=fault.hint)
    name = getattr(fault, "sqlite_errorname", "") or type(fault).__name__
    if name.startswith("SQLITE_FULL"):
        return EntglError(f"{where}: the disk is full", code=ErrorCode.DISK_FULL, hint="make room, try again")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptError(f"{where}: {fault} ({name})", hint=HINT_DAMAGED)
    if name.startswith("SQLITE_BUSY"):
        return EntglError(f"{where}: another process is writing", code=ErrorCode.IN_USE)
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return EntglError(f"{where}: {fault} ({name})", code=ErrorCode.DISK_ERROR, hint="look at the disk")
    return EntglError(f"{where}: {fault} ({name})")


@contextmanager
def translating(where: object) -> Iterator[None]:
    """Raise SQLite's errors as errors of ours."""
    try:
        yield
    except FAULTS as fault:
        raise translated(fault, str(where)) from fault


@contextmanager
def closed_on_fault(connection: sqlite3.Connection) -> Iterator[None]:
    """Close the connection if anything fails meanwhile."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def told(fault: OSError, then: str) -> EntglError:
    """The disk's refusal as an error of ours; ``then`` names its consequence."""
    code = ErrorCode.DISK_FULL if fault.errno in (errno.ENOSPC, errno.EDQUOT) else ErrorCode.DISK_ERROR
    return EntglError(
        f"{fault.filename or 'the disk'}: {fault.strerror}; {then}", code=code, hint="make room, try again"
    )
