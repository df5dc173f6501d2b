"""Opening the one file so that an acknowledged commit outlives a power cut.

Order of creation: ``synchronous=EXTRA``, then WAL, the first transaction, fsync of the directory, then
FULL. Nothing here or elsewhere opens the file by plain ``open()``: closing such a handle would drop
SQLite's POSIX locks (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import functools
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from entgldb.messages.errors import ConfigError, CorruptError, EntglError, NotAllowedError, NotFoundError
from entgldb.storage.file.durable import sync
from entgldb.storage.file.faults import HINT_DAMAGED, closed_on_fault, translated, translating
from entgldb.storage.file.fingerprint import DATABASE
from entgldb.storage.file.schema import APPLICATION_ID, DEVELOPMENT_ID, FORMAT, keep_statistics, migrate

FILE: Final = DATABASE
CHECK_BYTES_MAX: Final = 64 * 1024 * 1024
"""A larger file is checked after an unclean stop only when the machine has booted since."""
START_CHECK_BYTES_MAX: Final = 1024 * 1024 * 1024
"""A larger file is not checked even then: its node would not serve for minutes."""
BUSY_MS: Final = 5_000
"""How long a writer waits for another process, such as an sqlite3 shell."""
_CACHE_KIB: Final = 6_144
_CHECK_CACHE_KIB: Final = 1_024
_PARTS_OF_FORMAT: Final = (
    "SELECT 1 FROM sqlite_master WHERE name = '_entgldb_heads' AND EXISTS"
    " (SELECT 1 FROM sqlite_master WHERE name = '_entgldb_runs')"
)
"""The newest parts of the newest format: files from before the release do not have them."""
_IDENTITY: Final = "SELECT count(*) FROM _entgldb_meta WHERE name IN ('origin', 'file_id')"
_IDENTITY_ROWS: Final = 2
_CHECKPOINT_PAGES: Final = 4_000
"""Pages of the WAL before a checkpoint: a page that is written often is copied back less often."""
STATEMENTS: Final = 256
"""Kept prepared for one connection, some 7 kB each."""


def open_file(
    directory: str | Path, *, any_thread: bool = False, statements: int = STATEMENTS
) -> sqlite3.Connection:
    """Create or open the file read-write; ``any_thread``: for any, one at a time.

    ``statements``: so many are kept prepared.

    Raises ConfigError, CorruptError or EntglError.
    """
    path = Path(directory) / FILE
    from entgldb.storage.file import swap

    swap.complete(Path(directory))
    fresh = not path.exists()
    connection = _connect(path, "rwc", any_thread=any_thread, statements=statements)
    with translating(path), closed_on_fault(connection):
        path.chmod(0o600)
        _prepare(connection, Path(directory), fresh)
    return connection


def open_memory() -> sqlite3.Connection:
    """A database for the simulation: same tables, nothing on disk."""
    # by URI, so that a staged snapshot can be attached by one
    connection = sqlite3.connect(
        "file::memory:", uri=True, isolation_level=None, cached_statements=STATEMENTS
    )
    connection.deserialize(_migrated())
    register(connection)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@functools.cache
def _migrated() -> bytes:
    """The file as it is after all migrations: they take ten times as long as a copy of what they make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        migrate(connection)
        keep_statistics(connection)
        return connection.serialize()


def open_reader(directory: str | Path) -> sqlite3.Connection:
    """Open the file read-only, as every process but the store does.

    Raises NotFoundError where there is none, or none that is made to the end; ConfigError, CorruptError.
    """
    path = Path(directory) / FILE
    if not path.exists():
        raise NotFoundError(f"there is no {FILE} in {directory}", hint="start the node there first")
    try:
        # a client may read from several threads, under a lock of its own
        connection = _connect(path, "ro", any_thread=True)
        with closed_on_fault(connection):
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            refuse_foreign(connection, FILE)
            _refuse_unmade(connection, path)
    except (sqlite3.Error, UnicodeDecodeError) as fault:
        raise _not_allowed(path) or translated(fault, str(path)) from fault
    return connection


def rest(connection: sqlite3.Connection) -> None:
    """Give back the pages that are in memory; the next reads have them from the system. Between groups."""
    connection.execute("PRAGMA shrink_memory")
    give_back()


def give_back() -> None:
    """Give freed memory back to the system. It lies between memory in use, and glibc gives back only the end
    by itself."""
    import ctypes  # a reader that never rests does not need it

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def open_damaged(directory: str | Path) -> sqlite3.Connection:
    """Open a file that fails its checks, to read what can be read. Nobody else has it open."""
    connection = _connect(Path(directory) / FILE, "ro", any_thread=True)
    with translating(directory), closed_on_fault(connection):
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def _not_allowed(path: Path) -> EntglError | None:
    """The error for a permission that this user lacks; SQLite writes beside a file even to read it."""
    if not os.access(path, os.R_OK):
        return NotAllowedError(f"this user may not read {path}", hint="run it as the user of the node")
    if not os.access(path.parent, os.W_OK):
        return NotAllowedError(
            f"this user may not write in {path.parent}, which reading a stopped node needs, too",
            hint="run it as the user of the node, or copy the directory",
        )
    return None


def is_unchecked(connection: sqlite3.Connection, directory: Path) -> bool:
    """Whether a power cut may have torn pages that nobody has looked at: asked before ``mark_running``."""
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'running'").fetchone()
    too_large = (directory / FILE).stat().st_size > START_CHECK_BYTES_MAX
    return row is not None and row[0] != _boot_id() and too_large


def mark_running(connection: sqlite3.Connection) -> None:
    """Note that the file is open, so that the next start knows whether the stop was clean."""
    connection.execute("INSERT OR REPLACE INTO _entgldb_meta VALUES ('running', ?)", (_boot_id(),))


def mark_stopped(connection: sqlite3.Connection) -> None:
    """Note a clean stop."""
    connection.execute("DELETE FROM _entgldb_meta WHERE name = 'running'")


def _connect(path: Path, mode: str, *, any_thread: bool, statements: int = STATEMENTS) -> sqlite3.Connection:
    name = str(path.absolute())
    for mark in "%?#":
        # SQLite reads these in a URI as more than a letter; urllib would take longer to import than to read
        name = name.replace(mark, f"%{ord(mark):02x}")
    connection = sqlite3.connect(
        f"file:{name}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=statements,
        timeout=BUSY_MS / 1000,
        check_same_thread=not any_thread,
    )
    register(connection)
    return connection


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the function by which triggers, and whoever checks them, know the entries of an
    index."""
    connection.create_function("entgldb_entries", 2, _entries, deterministic=True)


def _entries(plan: str, body: str) -> str:
    # a file without such an index loads none of it
    from entgldb.storage.rules.indexing.entries import entries_in_json

    return entries_in_json(plan, body)


def _prepare(connection: sqlite3.Connection, directory: Path, fresh: bool) -> None:
    # a reader does not need it
    from entgldb.storage.file.upgrade import keep_copy

    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA synchronous = EXTRA")
    _read_back(connection, "synchronous", 3)
    refuse_foreign(connection, FILE)
    if not fresh:
        _check_after_unclean_stop(connection, directory)
    # before the first page is written: later only VACUUM can bring it about
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    _read_back(connection, "journal_mode", "wal")
    keep_copy(connection, directory / FILE)
    migrate(connection)
    keep_statistics(connection)
    sync(directory)
    connection.execute("PRAGMA synchronous = FULL")
    _read_back(connection, "synchronous", 2)
    # some builds have it on: SQLite would write zeros over deleted rows, page after page
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")


def _read_back(connection: sqlite3.Connection, pragma: str, wanted: int | str) -> None:
    found = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    if found != wanted:
        raise EntglError(
            f"SQLite has {pragma} = {found} where {wanted} was asked for",
            hint="the file system may not support it; network file systems do not",
        )


def refuse_foreign(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a file that this release does not read: of another program, an unreleased one, a newer one."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    unfinished = (owner, found) == (APPLICATION_ID, FORMAT) and not connection.execute(
        _PARTS_OF_FORMAT
    ).fetchone()
    if owner == DEVELOPMENT_ID or unfinished:
        raise ConfigError(
            f"{name} was written before the first release, in a format that no release reads",
            hint="begin with an empty directory, which the other nodes fill",
        )
    if owner not in (0, APPLICATION_ID):
        raise ConfigError(f"{name} is a database of another program", hint="choose another directory")
    if found > FORMAT:
        raise ConfigError(
            f"{name} has format {found}, this release knows up to {FORMAT}",
            hint="use the newer release of entgldb that wrote it",
        )


def _refuse_unmade(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file without an identity: a node is making it just now, or was killed when it made it."""
    made = 0
    if connection.execute("PRAGMA user_version").fetchone()[0]:
        made = connection.execute(_IDENTITY).fetchone()[0]
    if not made:
        raise NotFoundError(
            f"{path} is not made to its end", hint="start the node there, or wait until it runs"
        )
    if made < _IDENTITY_ROWS:
        raise CorruptError(f"{path} does not say whose it is", hint=HINT_DAMAGED)


def _check_after_unclean_stop(connection: sqlite3.Connection, directory: Path) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_entgldb_meta'").fetchone():
        return
    row = connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'running'").fetchone()
    if row is None:
        return
    # a killed process cannot tear a page, a power cut can: large files are read only after the latter
    if (directory / FILE).stat().st_size > (
        CHECK_BYTES_MAX if row[0] == _boot_id() else START_CHECK_BYTES_MAX
    ):
        return
    # reading the whole file once shall not leave a full cache in a process that may then be idle
    connection.execute(f"PRAGMA cache_size = -{_CHECK_CACHE_KIB}")
    try:
        found = connection.execute("PRAGMA quick_check(10)").fetchall()
    except sqlite3.DatabaseError as fault:
        found = [(fault,)]
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if found != [("ok",)]:
        raise CorruptError(f"{directory / FILE} is damaged: {found[0][0]!s:.200}", hint=HINT_DAMAGED)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
