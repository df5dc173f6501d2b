"""Looking a file over, read-only, beside a running node or without one: chains, bodies, rows, counts.

Nothing is kept open between two pages, and what a running node does meanwhile is no finding. SQLite keeps no
checksums of its pages: a flipped bit in a header shows in its hash, in a body or a document in its digest,
anywhere else in SQLite's own checks or in the counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import CorruptError, ProtocolError
from entgldb.messages.limits import PAGE_ROWS_MAX
from entgldb.messages.model import Origin
from entgldb.storage.file.open import open_reader
from entgldb.storage.rules.header import decode, digest

FINDINGS_MAX: Final = 1000
"""More are not told: the file is broken, not a row of it."""
MEND: Final = "entgldb verify --repair"
RECOUNT: Final = "a number in status alone; entgldb verify --repair counts anew where it mends a row"
RESTORE: Final = (
    "restore a backup with entgldb restore, or move the file away: it is made anew from the peers"
)


class Finding(NamedTuple):
    """Something that is not as it should be."""

    kind: str
    """``chain``, ``body``, ``document``, ``count`` or ``file``."""
    where: str
    text: str
    hint: str


Progress = Callable[[str, int, int], None]
"""Called with the name of the part at hand, its rows done, its rows in all."""


class _Chain(NamedTuple):
    """One origin as it stood at the beginning, and how far the walk has come."""

    name: Origin
    seq: int
    head: bytes
    floor: int


class Checkup:
    """One look at a file."""

    def __init__(
        self, connection: sqlite3.Connection, progress: Progress = lambda what, done, total: None
    ) -> None:
        self._connection = connection
        self._progress = progress
        self.rows = 0
        """Rows of log and documents that were read."""

    @classmethod
    def open(cls, directory: str | Path, progress: Progress = lambda what, done, total: None) -> Checkup:
        """Raises NotFoundError where there is no file, ConfigError for a newer format, CorruptError."""
        return cls(open_reader(directory), progress)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def run(self, *, deep: bool = False, still: bool = False) -> list[Finding]:
        """All findings, FINDINGS_MAX at most.

        ``deep`` has SQLite read every page of the file, too. ``still`` says that nobody has the file open:
        every page is read, and every index is compared with its table.
        """
        found: list[Finding] = []
        parts = [self._chains(), self._documents(), self._counts()]
        if deep or still:
            parts.append(self._pages("integrity_check" if still else "quick_check"))
        try:
            for part in parts:
                for finding in part:
                    found.append(finding)
                    if len(found) >= FINDINGS_MAX:
                        return found
        except (sqlite3.Error, TypeError, ValueError, CorruptError) as fault:
            # a flipped bit may make a text of a number, or bytes of a text
            found.append(Finding("file", "entgldb.db", f"SQLite cannot read it: {fault}", RESTORE))
        return found

    def _chains(self) -> Iterator[Finding]:
        """Each origin's log: no number missing above its floor, every entry linked to the one before."""
        chains, total = self._heads(), self._one("SELECT entries FROM _entgldb_now")
        reached: dict[int, tuple[int, bytes]] = {}
        after = done = 0
        while page := self._page(
            "SELECT lsn, origin, seq, hash, collection, key, header, CAST(body AS BLOB) FROM _entgldb_oplog"
            " WHERE lsn > ? ORDER BY lsn LIMIT ?",
            after,
        ):
            for _, number, *row in page:
                name = chains[number].name if number in chains else ""
                yield from self._entry(number, name, reached.get(number), *row)
                reached[number] = (row[0], row[1])
            after = page[-1][0]
            done += len(page)
            self._progress("log", done, total)
        now = self._heads()
        for number, chain in chains.items():
            seq, head = reached.get(number, (0, b""))
            floor, last = (now[number].floor, now[number].seq) if number in now else (chain.seq, 0)
            if seq > chain.seq == last:
                yield Finding("chain", f"{chain.name} {seq}", "the log goes on behind its head", RESTORE)
            if chain.seq > max(seq, floor) or (seq == chain.seq and head != chain.head):
                yield Finding(
                    "chain", f"{chain.name} {chain.seq}", "the log does not end in its head", RESTORE
                )

    def _entry(
        self,
        number: int,
        name: Origin,
        before: tuple[int, bytes] | None,
        seq: int,
        stored: bytes,
        collection: str,
        key: str,
        raw: bytes,
        body: bytes | None,
    ) -> Iterator[Finding]:
        """``name``: of the origin, empty for one that was not there at the beginning. ``before``: its entry
        before this one."""
        where = f"{name or f'origin {number}'} {seq}"
        at, link = before or (0, b"")
        if digest(raw) != stored:
            yield Finding("chain", where, "the header is not the one its hash was made of", RESTORE)
        try:
            header = decode(raw)
        except ProtocolError as fault:
            yield Finding("chain", where, f"the header cannot be read: {fault.text}", RESTORE)
            return
        if header.seq != seq or header.origin != (name or header.origin):
            yield Finding("chain", where, f"the header says {header.origin} {header.seq}", RESTORE)
        if (header.collection, header.key) != (collection, key):
            text = f"the header says {header.collection} {header.key}, not {collection} {key}"
            yield Finding("chain", where, text, RESTORE)
        if seq == at + 1 and header.prev_hash != link:
            yield Finding("chain", where, "it does not link to the entry before", RESTORE)
        if seq != at + 1 and seq - 1 > self._floor(number):
            yield Finding("chain", where, f"it follows {at}: entries are missing", RESTORE)
        if body is not None and digest(body) != header.body_sha256:
            yield Finding(
                "body", where, f"{header.collection} {header.key}: not the body it was written with", MEND
            )

    def _documents(self) -> Iterator[Finding]:
        """Each row: the body that its digest was made of, JSON, a version that the vector covers."""
        total = self._one("SELECT documents FROM _entgldb_now")
        heads, after, done = self._heads(), 0, 0
        while page := self._page(
            "SELECT id, collection, key, CAST(body AS BLOB), sha256, origin, seq FROM _entgldb_documents"
            " WHERE id > ? ORDER BY id LIMIT ?",
            after,
        ):
            if any(number not in heads or seq > heads[number].seq for *_, number, seq in page):
                # written since they were read
                heads = self._heads()
            for _, collection, key, body, sha256, number, seq in page:
                for text in _faults(body, sha256, seq, heads.get(number)):
                    yield Finding("document", f"{collection} {key}", text, MEND)
            after = page[-1][0]
            done += len(page)
            self._progress("documents", done, max(done, total))

    def _counts(self) -> Iterator[Finding]:
        """Compare the counts of the state row with the rows that there are; one statement, so one moment."""
        row = self._connection.execute(
            "SELECT documents, (SELECT count(*) FROM _entgldb_documents)"
            " - (SELECT count(*) FROM _entgldb_documents WHERE body IS NULL),"
            " entries, (SELECT count(*) FROM _entgldb_oplog),"
            " conflicts, (SELECT count(*) FROM _entgldb_conflicts) FROM _entgldb_now"
        ).fetchone()
        for name, said, there in zip(("documents", "entries", "conflicts"), row[::2], row[1::2], strict=True):
            if said != there:
                yield Finding("count", name, f"{said} are counted, {there} are there", RECOUNT)

    def _pages(self, check: str) -> Iterator[Finding]:
        self._progress("pages", 0, 1)
        for (text,) in self._connection.execute(f"PRAGMA {check}(20)").fetchall():
            if text != "ok":
                yield Finding("file", "entgldb.db", str(text)[:200], RESTORE)

    def _heads(self) -> dict[int, _Chain]:
        rows = self._connection.execute("SELECT id, name, seq, head, floor FROM _entgldb_heads").fetchall()
        return {row[0]: _Chain(*row[1:]) for row in rows}

    def _floor(self, number: int) -> int:
        return self._one("SELECT floor FROM _entgldb_origins WHERE id = ?", number)

    def _page(self, sql: str, after: int) -> list[Any]:
        page: list[Any] = self._connection.execute(sql, (after, PAGE_ROWS_MAX)).fetchall()
        self.rows += len(page)
        return page

    def _one(self, sql: str, *values: int) -> int:
        row = self._connection.execute(sql, values).fetchone()
        return 0 if row is None else int(row[0])


def _faults(body: bytes | None, sha256: bytes | None, seq: int, origin: _Chain | None) -> Iterator[str]:
    if (None if body is None else digest(body)) != sha256:
        yield "the body is not the one its digest was made of"
    if origin is None or seq > origin.seq:
        yield f"its version {origin and origin.name} {seq} is in no log"
    if body is not None:
        try:
            if not isinstance(json.loads(body), dict):
                yield "the body is no JSON object"
        except ValueError:
            yield "the body is no JSON"
