"""A whole node in one file: consistent, checked, without private keys, and written whole or not at all.

The file is a database as it stands in a directory. Its table ``_entgldb_backup`` holds the manifest.
``FILE.json`` beside it holds the manifest with the file's SHA-256.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import ConfigError, CorruptError, NotAllowedError, NotFoundError
from entgldb.messages.model import node_of
from entgldb.messages.schema import Json
from entgldb.storage.file.durable import sync, write_whole
from entgldb.storage.file.faults import translated
from entgldb.storage.file.open import open_reader, refuse_foreign, register
from entgldb.storage.file.schema import FORMAT
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.recovery.check import Checkup

PagesCopied = Callable[[int, int], None]
"""Told pages done and pages in all."""
_PAGES: Final = 512
"""Copied in one go."""
_BESIDE: Final = "remove it to use the backup without it, or use another"
_STRIPPED: Final = ("private_key", "running", "mark")
"""The rows of ``_entgldb_meta`` that belong to one life of one directory."""


class Manifest(NamedTuple):
    """The contents of a backup."""

    node_id: str
    origin: str
    vector: dict[str, Json]
    hlc: int
    format: int
    version: str
    documents: int
    entries: int
    at_ms: int
    sha256: str = ""
    """The digest of the file, in hexadecimal digits; empty inside the file itself."""


def write(directory: Path, target: Path, version: str, now_ms: int, progress: PagesCopied) -> Manifest:
    """Back up the node in ``directory``, running or not. Raises EntglError; nothing is left then."""
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy(directory, part, progress)
        manifest = _finish(part, version, now_ms)
        _refuse_faults(part)
        with part.open("rb") as file:
            manifest = manifest._replace(sha256=file_digest(file, "sha256").hexdigest())
            os.fsync(file.fileno())
        # a manifest of another file would call this one damaged, should this be cut short
        _beside(target).unlink(missing_ok=True)
        sync(target.parent)
        part.replace(target)
        sync(target.parent)
        told = json.dumps({"schema_version": 1, **manifest._asdict()}, indent=2)
        write_whole(_beside(target), f"{told}\n".encode())
        return manifest
    except (sqlite3.Error, UnicodeDecodeError) as fault:
        raise translated(fault, str(target)) from fault
    except OSError as fault:
        kind = NotAllowedError if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ConfigError
        raise kind(f"{target}: {fault.strerror}", hint="choose another place") from fault
    finally:
        for name in (part.name, f"{part.name}-journal"):
            with contextlib.suppress(OSError):
                part.with_name(name).unlink()


def verify(file: Path) -> Manifest:
    """Read a whole backup against itself and its manifest. Raises CorruptError naming what is wrong."""
    manifest = read_manifest(file)
    beside = _beside(file)
    if beside.exists():
        try:
            told = _manifest(json.loads(beside.read_text("utf-8")))
        except (ValueError, TypeError, RecursionError) as fault:
            raise CorruptError(f"{beside}: {fault!s:.200}", hint=_BESIDE) from fault
        with file.open("rb") as opened:
            manifest = manifest._replace(sha256=file_digest(opened, "sha256").hexdigest())
        if told != manifest:
            raise CorruptError(f"{file} is not the file that {beside.name} tells of")
    _refuse_faults(file)
    return manifest


def read_manifest(file: Path) -> Manifest:
    """The manifest of a backup. Raises NotFoundError, ConfigError or CorruptError."""
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}")
    if not os.access(file, os.R_OK):
        raise NotAllowedError(f"this user may not read {file}", hint="run it as its owner")
    connection = _open(file)
    try:
        refuse_foreign(connection, file.name)
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_entgldb_backup'")
        if tables.fetchone() is None:
            raise ConfigError(f"{file} is no backup of a node", hint="make one by `entgldb backup FILE`")
        return _manifest(json.loads(connection.execute("SELECT manifest FROM _entgldb_backup").fetchone()[0]))
    except (sqlite3.Error, ValueError, TypeError, RecursionError) as fault:
        raise CorruptError(f"{file}: {fault!s:.200}", hint="use another backup") from fault
    finally:
        connection.close()


def _open(file: Path) -> sqlite3.Connection:
    # a backup is one file: nothing is looked for, or made, beside it
    name = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(name, uri=True, isolation_level=None)
    register(connection)
    return connection


def _copy(directory: Path, part: Path, progress: PagesCopied) -> None:
    """SQLite's online backup. One read transaction holds still what is copied, however much is written."""
    source, copy = open_reader(directory), sqlite3.connect(part, isolation_level=None)
    try:
        found = source.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT:
            raise ConfigError(f"{directory} has format {found}", hint="start the node once: it brings it up")
        source.execute("BEGIN")
        source.execute("SELECT lsn FROM _entgldb_last").fetchone()
        source.backup(copy, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
    finally:
        copy.close()
        source.close()


def _finish(part: Path, version: str, now_ms: int) -> Manifest:
    """Take out what is not for others, down to the last freed page, and write down what the rest is."""
    copy = sqlite3.connect(part, isolation_level=None)
    try:
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA secure_delete = ON")
        copy.execute("PRAGMA temp_store = MEMORY")
        copy.executemany("DELETE FROM _entgldb_meta WHERE name = ?", [(name,) for name in _STRIPPED])
        transaction = Transaction(copy, lambda: None)
        with transaction.group():
            transaction.state.loose = True
        # requests of this life: after a restore their outcome is not known
        copy.execute(
            "INSERT INTO _entgldb_clients SELECT client, max(counter), max(at_ms) FROM _entgldb_requests"
            " WHERE true GROUP BY client ON CONFLICT (client) DO UPDATE SET"
            " forgotten = max(forgotten, excluded.forgotten), at_ms = max(at_ms, excluded.at_ms)"
        )
        for table in ("_entgldb_requests", "_entgldb_members"):
            copy.execute(f"DELETE FROM {table}")  # noqa: S608 -- constants
        manifest = _described(copy, version, now_ms)
        copy.execute("CREATE TABLE _entgldb_backup (manifest TEXT NOT NULL)")
        copy.execute("INSERT INTO _entgldb_backup VALUES (?)", (json.dumps(manifest._asdict()),))
        copy.execute("VACUUM")
        return manifest
    finally:
        copy.close()


def _described(copy: sqlite3.Connection, version: str, now_ms: int) -> Manifest:
    (origin,) = copy.execute("SELECT value FROM _entgldb_meta WHERE name = 'origin'").fetchone()
    heads = copy.execute("SELECT name, seq, head FROM _entgldb_heads WHERE seq > 0 ORDER BY name")
    hlc, documents, entries = copy.execute("SELECT clock, documents, entries FROM _entgldb_now").fetchone()
    vector: dict[str, Json] = {name: [seq, head.hex()] for name, seq, head in heads}
    return Manifest(node_of(origin), origin, vector, hlc, FORMAT, version, documents, entries, now_ms)


def _refuse_faults(file: Path) -> None:
    connection = _open(file)
    try:
        found = Checkup(connection).run(still=True)
    finally:
        connection.close()
    if found:
        raise CorruptError(
            f"{file.name} is damaged: {'; '.join(f'{one.where}: {one.text}' for one in found[:3])}",
            hint="use another backup, or mend the node first",
        )


def _manifest(fields: Any) -> Manifest:
    """Raises TypeError for what is none."""
    if type(fields) is not dict:
        raise TypeError("no manifest")
    known = {name: value for name, value in fields.items() if name in Manifest._fields}
    return Manifest(**known)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")
