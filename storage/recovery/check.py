"""Looking a file over, read-only, beside a running node or without one: chains, signatures, rows, counts.

Nothing is kept open between two pages, and what a running node does meanwhile is no finding. SQLite keeps no
checksums of its pages: a flipped bit in a header shows in its hash, in a body or a document in its digest,
anywhere else in SQLite's own checks or in the counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import CorruptError, ProtocolError
from entgldb.messages.limits import PAGE_ROWS_MAX, RUN_HASH_BYTES, RUNS_MAX
from entgldb.messages.model import Author, Origin
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.file.open import open_reader
from entgldb.storage.rules.authorship import fits, head_statement
from entgldb.storage.rules.header import decode, digest

FINDINGS_MAX: Final = 1000
"""More are not told: the file is broken, not a row of it."""
MEND: Final = "entgldb verify --repair"
RECOUNT: Final = "a number in status alone; entgldb verify --repair counts anew where it mends a row"
RESTORE: Final = (
    "restore a backup with entgldb restore, or move the file away: it is made anew from the peers"
)
REBUILD: Final = (
    "stop the node, then entgldb start --rebuild: the peers refill it, own writes that they lack come back"
)

_FLOOR: Final = "SELECT floor FROM _entgldb_origins WHERE id = ?"
_RUNS: Final = (
    "SELECT r.origin, r.seq, r.hash, o.name, o.seq, CASE WHEN r.seq = o.seq THEN o.head ELSE l.hash END,"
    " l.header FROM _entgldb_runs r LEFT JOIN _entgldb_heads o ON o.id = r.origin"
    " LEFT JOIN _entgldb_oplog l ON l.origin = r.origin AND l.seq = r.seq"
    " WHERE (r.origin, r.seq) > (?, ?) ORDER BY r.origin, r.seq LIMIT ?"
)
_NOT_NOTED: Final = (
    "SELECT count(*) FROM _entgldb_oplog l WHERE l.origin = ? AND l.seq = ? AND NOT EXISTS"
    " (SELECT 1 FROM _entgldb_runs r WHERE r.origin = l.origin AND r.seq = l.seq) AND ? >"
    " (SELECT count(*) FROM _entgldb_runs r WHERE r.origin = l.origin AND r.seq > l.seq)"
)
"""One statement, so one moment: meanwhile the entry may have been taken out."""


class Finding(NamedTuple):
    """Something that is not as it should be."""

    kind: str
    """``chain``, ``author``, ``signature``, ``run``, ``held``, ``body``, ``document``, ``index``, ``count``
    or ``file``."""
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
    key: bytes | None
    """The public key of the origin; None where nobody has named it."""

    @property
    def is_authored(self) -> bool:
        """Whether the origin is made from the key, so that signatures can be checked."""
        return self.key is not None and fits(Author(self.name, self.key, b""))

    def has_signed(self, header_hash: bytes, signature: bytes) -> bool:
        """Whether a signature over the log up to that header is of this origin."""
        return self.key is not None and is_signed(self.key, head_statement(header_hash), signature)


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
        self._connection.close()

    def run(self, *, deep: bool = False, still: bool = False) -> list[Finding]:
        """All findings, FINDINGS_MAX at most.

        Of each log the newest signature is checked, which proves all before it. ``deep`` checks every one,
        those of held entries too, and has SQLite read every page of the file. ``still`` says that nobody has
        the file open: beside what ``deep`` does, every index of SQLite is compared with its table, and every
        index of words with one that is made of the same documents now.
        """
        found: list[Finding] = []
        parts = [self._authors(), self._chains(every=deep or still), self._documents(), self._counts()]
        parts += [self._runs(), self._indexes(still=still)]
        if deep or still:
            parts.append(self._held())
            parts.append(self._pages("integrity_check" if still else "quick_check"))
        try:
            for part in parts:
                for finding in part:
                    found.append(finding)
                    if len(found) >= FINDINGS_MAX:
                        return found
        except (sqlite3.Error, TypeError, ValueError, CorruptError, RecursionError) as fault:
            # a flipped bit may make a text of a number, or bytes of a text
            found.append(Finding("file", "entgldb.db", f"SQLite cannot read it: {fault}", RESTORE))
        return found

    def _authors(self) -> Iterator[Finding]:
        """Each origin that has been named: made from the key that stands beside it."""
        for chain in self._heads().values():
            if chain.key is not None and not chain.is_authored:
                text = "the public key is not the one that the origin is made from: no signature of it counts"
                yield Finding("author", chain.name, text, REBUILD)

    def _chains(self, *, every: bool) -> Iterator[Finding]:
        """Each origin's log: no number missing above its floor, every entry linked to the one before.

        ``every``: check all signatures on the way, not just the newest of each origin.
        """
        chains, total = self._heads(), self._one("SELECT entries FROM _entgldb_now")
        authored = {number: chain for number, chain in chains.items() if chain.is_authored}
        reached: dict[int, tuple[int, bytes]] = {}
        newest: dict[int, tuple[int, bytes, bytes]] = {}
        after = done = 0
        while page := self._page(
            "SELECT lsn, origin, seq, hash, collection, key, header, CAST(body AS BLOB), signature"
            " FROM _entgldb_oplog WHERE lsn > ? ORDER BY lsn LIMIT ?",
            after,
        ):
            for *row, signature in page:
                _, number, seq, stored, _, _, raw, _ = row
                yield from self._entry(row, chains.get(number), reached.get(number, (0, b"")))
                reached[number] = (seq, stored)
                # of a header that is not what it was no signature can be right: that is said already
                if signature is not None and number in authored and digest(raw) == stored:
                    if every:
                        yield from _unless_signed(authored[number], seq, stored, signature)
                    else:
                        newest[number] = (seq, stored, signature)
            after = page[-1][0]
            done += len(page)
            self._progress("log", done, total)
        for number, signed in newest.items():
            yield from _unless_signed(authored[number], *signed)
        yield from self._ends(chains, reached)

    def _ends(self, chains: dict[int, _Chain], reached: dict[int, tuple[int, bytes]]) -> Iterator[Finding]:
        """Each log ends in its head. ``reached``: the last entry that there is."""
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

    def _entry(self, row: Any, chain: _Chain | None, before: tuple[int, bytes]) -> Iterator[Finding]:
        """``chain``: of its origin, None for one that was not there at the beginning.

        ``before``: seq and hash of the entry before.
        """
        _, number, seq, stored, collection, key, raw, body = row
        name, (at, link) = chain.name if chain is not None else "", before
        where = f"{name or f'origin {number}'} {seq}"
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
        if seq != at + 1 and seq - 1 > self._one(_FLOOR, number):
            yield Finding("chain", where, f"it follows {at}: entries are missing", RESTORE)
        if header.begins and self._one(_NOT_NOTED, number, seq, RUNS_MAX):
            yield Finding("run", where, "a run begins here, and is not noted", REBUILD)
        if body is not None and digest(body) != header.body_sha256:
            yield Finding(
                "body", where, f"{header.collection} {header.key}: not the body it was written with", MEND
            )

    def _runs(self) -> Iterator[Finding]:
        """Each entry that is noted to begin a run: its log has it, or had it before it was pruned."""
        place = (0, 0)
        while page := self._connection.execute(_RUNS, (*place, PAGE_ROWS_MAX)).fetchall():
            self.rows += len(page)
            for number, seq, *run in page:
                name = run[1] or f"origin {number}"
                for text in _faults_of_run(seq, *run):
                    yield Finding("run", f"{name} {seq}", text, REBUILD)
            place = page[-1][:2]

    def _held(self) -> Iterator[Finding]:
        """Each entry that waits for its time: as it came, signatures too."""
        chains, place = self._heads(), (0, 0)
        while page := self._connection.execute(
            "SELECT origin, seq, hash, header, signature FROM _entgldb_held"
            " WHERE (origin, seq) > (?, ?) ORDER BY origin, seq LIMIT ?",
            (*place, PAGE_ROWS_MAX),
        ).fetchall():
            self.rows += len(page)
            for number, seq, stored, raw, signature in page:
                chain = chains.get(number)
                if digest(raw) != stored:
                    where = f"{chain.name if chain else f'origin {number}'} {seq}"
                    yield Finding("held", where, "the header is not the one its hash was made of", REBUILD)
                elif signature is not None and chain is not None and chain.is_authored:
                    yield from _unless_signed(chain, seq, stored, signature)
            place = page[-1][:2]

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

    def _indexes(self, *, still: bool) -> Iterator[Finding]:
        """Each index that is built: all that its documents say, and nothing else."""
        # few files have any: those alone load how they are made
        from entgldb.storage.indexes.catalogue import list_indexes
        from entgldb.storage.indexes.checking import faults

        for index in list_indexes(self._connection):
            collection, name = index.definition.place
            if index.reached is None:
                for text in faults(self._connection, index, self._walked, still=still):
                    hint = f"entgldb index rebuild {collection} {name}"
                    yield Finding("index", f"{collection} {name}", text, hint)

    def _walked(self, rows: int) -> None:
        self.rows += rows
        self._progress("indexes", self.rows, self.rows)

    def _pages(self, check: str) -> Iterator[Finding]:
        self._progress("pages", 0, 1)
        for (text,) in self._connection.execute(f"PRAGMA {check}(20)").fetchall():
            if text != "ok":
                yield Finding("file", "entgldb.db", str(text)[:200], RESTORE)

    def _heads(self) -> dict[int, _Chain]:
        rows = self._connection.execute(
            "SELECT id, name, seq, head, floor, public_key FROM _entgldb_heads"
        ).fetchall()
        return {row[0]: _Chain(*row[1:]) for row in rows}

    def _page(self, sql: str, after: int) -> list[Any]:
        page: list[Any] = self._connection.execute(sql, (after, PAGE_ROWS_MAX)).fetchall()
        self.rows += len(page)
        return page

    def _one(self, sql: str, *values: int) -> int:
        row = self._connection.execute(sql, values).fetchone()
        return 0 if row is None else int(row[0])


def _unless_signed(chain: _Chain, seq: int, header_hash: bytes, signature: bytes) -> Iterator[Finding]:
    if not chain.has_signed(header_hash, signature):
        text = "the signature is not of this origin: a peer that is sent it refuses the log (bad-entry)"
        yield Finding("signature", f"{chain.name} {seq}", text, REBUILD)


def _faults_of_run(
    seq: int, noted: bytes, name: str | None, last: int | None, there: bytes | None, raw: bytes | None
) -> Iterator[str]:
    """``there``: the hash of the entry, None where it is pruned; ``raw``: its header."""
    if name is None or last is None or seq > last:
        yield "a run is noted that begins behind the end of its log"
    elif there is not None and there[:RUN_HASH_BYTES] != noted:
        yield "a run is noted that begins with another entry of this number"
    elif raw is not None:
        with suppress(ProtocolError):  # that is said already
            if not decode(raw).begins:
                yield "a run is noted here, and none begins"


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
