"""A prepared database takes the place of the one that is there, which is set aside and never deleted.

It is prepared in a folder of its own. The step that decides is the note, which names the file that is set
aside: before it nothing has happened, from then on whoever opens the directory completes what it says. The
directory is synced between the steps, so that a power cut at any of them leaves a state that is known here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import CorruptError, EntglError, ErrorCode
from entgldb.storage.file.durable import sync, write_whole
from entgldb.storage.file.faults import told, translated
from entgldb.storage.file.fingerprint import DATABASE, FINGERPRINT_FILE

PART: Final = f"{DATABASE}.part"
"""The folder in which a database is prepared: nothing, until it has left it."""
_NEW: Final = f"{DATABASE}.new"
_NOTE: Final = f"{DATABASE}.swap"
_LATER: Final = "it is completed by the next start, or when it is run again"
_ENDINGS: Final = ("", "-wal", "-shm")


class Swap(NamedTuple):
    """The result of putting one database in the place of another."""

    aside: str
    """Name of the database that was there before, if there was one."""
    facts: dict[str, Any]
    """The report of the verb that began the swap."""


@contextlib.contextmanager
def preparing(directory: Path, size: int) -> Iterator[Path]:
    """A new, empty folder to prepare a database in, which ``install`` then takes. Raises EntglError.

    ``size``: bytes that it is going to have at least.
    """
    part = directory / PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        free = shutil.disk_usage(directory).free
        if free < size:
            raise EntglError(
                f"{directory}: {size} bytes are needed beside what is there, the disk has {free};"
                " nothing was changed",
                code=ErrorCode.DISK_FULL,
                hint="make room, try again",
            )
        part.mkdir(mode=0o700)
        yield part
    except sqlite3.Error as fault:
        raise translated(fault, str(part)) from fault
    except OSError as fault:
        raise told(fault, "nothing was changed") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)


def free_name(directory: Path, why: str, now_ms: int) -> str:
    """A name for what is to be set aside that nothing has."""
    while (directory / f"{DATABASE}.{why}-{now_ms}").exists():
        now_ms += 1
    return f"{DATABASE}.{why}-{now_ms}"


def install(directory: Path, swap: Swap) -> None:
    """Put the closed database in ``PART`` in its place. Raises EntglError.

    The old database stays where the error says so; else the next start or the same verb completes the swap.
    """
    try:
        _refuse_unfolded(directory / PART)
        _fold(directory)
        (directory / PART / DATABASE).replace(directory / _NEW)
        sync(directory / _NEW)
        sync(directory)
        write_whole(directory / _NOTE, json.dumps(swap._asdict()).encode())
    except OSError as fault:
        raise told(fault, _LATER if (directory / _NOTE).exists() else "nothing was changed") from fault
    complete(directory)


def complete(directory: Path) -> Swap | None:
    """Complete a swap that was cut short; which, or None. The caller holds the directory's lock.

    Raises EntglError where the disk refuses a step, CorruptError for a note that is none.
    """
    try:
        return _complete(directory)
    except OSError as fault:
        raise told(fault, _LATER) from fault
    except (ValueError, TypeError) as fault:
        raise CorruptError(
            f"{directory / _NOTE} is damaged: {fault}",
            hint=f"remove it; what was there is {DATABASE} still, or the newest file set aside",
        ) from fault


def _complete(directory: Path) -> Swap | None:
    try:
        swap = Swap(**json.loads((directory / _NOTE).read_text("utf-8")))
        if type(swap.aside) is not str or type(swap.facts) is not dict:
            raise TypeError("it names no file, or tells no facts")
    except FileNotFoundError:
        # a database that was only prepared counts for nothing
        shutil.rmtree(directory / PART, ignore_errors=True)
        (directory / _NEW).unlink(missing_ok=True)
        return None
    if (directory / _NEW).exists():
        # one that was put in place before, and never started, is not kept
        never_started = (directory / DATABASE).exists() and (directory / swap.aside).exists()
        for ending in _ENDINGS:
            present, aside = directory / f"{DATABASE}{ending}", directory / f"{swap.aside}{ending}"
            if present.exists() and not aside.exists() and not never_started:
                present.replace(aside)
            elif ending:
                # SQLite would take it for the WAL of the new one
                present.unlink(missing_ok=True)
        (directory / FINGERPRINT_FILE).unlink(missing_ok=True)
        sync(directory)
        (directory / _NEW).replace(directory / DATABASE)
        sync(directory)
    (directory / _NOTE).unlink()
    sync(directory)
    shutil.rmtree(directory / PART, ignore_errors=True)
    return swap


def _refuse_unfolded(part: Path) -> None:
    """Only the file is taken: what is in its WAL still, because another process reads it, would be lost."""
    wal = part / f"{DATABASE}-wal"
    if wal.exists() and wal.stat().st_size:
        raise EntglError(
            f"another process reads {part / DATABASE}; nothing was changed",
            code=ErrorCode.IN_USE,
            hint="end it, try again",
        )


def _fold(directory: Path) -> None:
    """Bring what is acknowledged and only in the WAL into its file, as far as damage and room allow."""
    present = directory / DATABASE
    # beside an empty file SQLite takes a WAL for a stale one, and removes it
    if not present.exists() or not present.stat().st_size:
        return
    with (
        contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
        contextlib.closing(sqlite3.connect(present, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
