"""Own writes that no peer has, on top of a snapshot: written again as a new writer, the old ones dropped.

As they stand they could not be sent: peers may have collected deletes that they were concurrent with, and
some would then take an old put that others refuse. Under a new origin, with clocks behind all that the
snapshot has, every peer decides alike. Each keeps its place in its transaction and its parent, so that what
it replaces and what it is a rival of stays as it was. Under its new clock it also wins against what it had
lost to: where a document comes out otherwise than it was, the difference is written once more, naming what
had won and not what had lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

from entgldb.messages.limits import HEADER_BYTES_MAX, MERGE_BYTES_MAX, NAMED_MAX
from entgldb.messages.model import ENDED, Origin, Version
from entgldb.messages.schema import Json
from entgldb.storage.authorship import runs
from entgldb.storage.file.scratch import empty
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import AND_ITSELF, composed, merge_row, read_operation, read_row, write_row
from entgldb.storage.rules import clock
from entgldb.storage.rules.chain import Head
from entgldb.storage.rules.clock import HLC_MAX
from entgldb.storage.rules.ended import ending
from entgldb.storage.rules.header import BEGINS, DELETE, MERGE, PUT, Header, decode, digest, encode, expiring
from entgldb.storage.rules.merging.accumulating import renamed, unaccumulated
from entgldb.storage.rules.merging.changes import same, split, whole
from entgldb.storage.rules.merging.row import Merging, absorb, read_merging
from entgldb.storage.rules.merging.stored import Stored, Tip, load, save
from entgldb.storage.rules.merging.tree import Stamp
from entgldb.storage.snapshot.install import forget_log

Place = tuple[str, str]

TOGETHER: Final = 8
"""Entries that are read, and written, by one statement; so many bodies are in memory."""


class Writer:
    """Appends to the log of an origin, and gives entries of an older log their new names."""

    def __init__(self, batch: Batch, new: Origin, now_ms: int, *, old: Origin = "", after: int = 0) -> None:
        """``old``: the log of which all entries behind ``after`` are written again, one by one."""
        self.batch = batch
        self.new = new
        self.now_ms = now_ms
        self.written = 0
        self.head = batch.state.known(batch.connection, new).head
        self._old = old
        self._after = after
        self._began = batch.state.clock
        self._gap = 0
        """From an entry's old number to its new one."""
        self._restamps: list[tuple[int, int]] = []
        """Stamps and what they are now, which wait until somebody asks."""
        empty(batch.connection, "restamped")

    def log(self, like: Header, text: str | None) -> tuple[Header, int]:
        """The same write as the next of the new origin; its header and log row."""
        state = self.batch.state
        state.clock = clock.tick(state.clock, self.now_ms)
        seq, previous = self.head.seq + 1, self.head.hash
        made = like._replace(origin=self.new, seq=seq, hlc=state.clock, prev_hash=previous)
        if like.expires and made.hlc < like.hlc:
            # a clock ahead has stamped it: it lives as long as its writer had said
            moment = like.expires - clock.ms_of(like.hlc) + clock.ms_of(made.hlc)
            made = made._replace(optional=(*expiring(max(1, moment)), *made.optional[1:]))
        kept = tuple(one for one in made.optional if one[0] != BEGINS)
        made = made._replace(optional=tuple(sorted((*kept, *runs.begin(state, self.new, seq)))))
        raw = encode(made)
        self.head = Head(seq, digest(raw), self.head.forked, made.hlc)
        self.written += 1
        return made, self.batch.log(made, raw, self.head.hash, text, True)

    def again(self, header: Header, text: str | None) -> tuple[Header, str | None, int]:
        """An entry of the old log, with what it names under its new name: header, text and log row."""
        self._gap = self.head.seq + 1 - header.seq
        parent = None if header.parent is None else self.renamed(header.parent)
        seen, sha = tuple(self.renamed(version) for version in header.seen), header.body_sha256
        if header.op == MERGE and text is not None:
            text = self._restamped(read_merging(text, (header.hlc, header.origin)))
            sha = digest(text.encode())
        made, lsn = self.log(header._replace(parent=parent, seen=seen, body_sha256=sha), text)
        self._restamps.append((header.hlc, made.hlc))
        if self.written % TOGETHER == 0:
            self.batch.flush()
            self._note_stamps()
        return made, text, lsn

    def renamed(self, version: Version) -> Version:
        """A version under its new name, if it has one."""
        if version.origin != self._old or version.seq <= self._after:
            return version
        return Version(self.new, version.seq + self._gap)

    def write(
        self,
        place: Place,
        body: Merging | str | None,
        parent: Version | None,
        seen: tuple[Version, ...] = (),
        group: tuple[int, int] = (0, 1),
        expires: int = 0,
    ) -> None:
        """Write fields, a document or (None) a delete; ``group``: index in a transaction, and its size."""
        op = MERGE if isinstance(body, Merging) else DELETE if body is None else PUT
        text = body.encode().decode() if isinstance(body, Merging) else body
        sha = b"" if text is None else digest(text.encode())
        like = Header(self.new, 1, 0, *place, op, parent, *group, sha, b"", seen)
        like = like._replace(optional=expiring(0 if text is None else expires))
        made, lsn = self.log(like, text)
        self.batch.flush()
        merge_row(self.batch, made, text, lsn)

    def end(self) -> None:
        """The chain's new end."""
        self.batch.state.move(self.new, self.head)
        self.batch.flush()

    def _note_stamps(self) -> None:
        self.batch.connection.executemany("INSERT INTO temp.restamped VALUES (?, ?)", self._restamps)
        self._restamps.clear()

    def _restamped(self, said: Merging) -> str:
        self._note_stamps()
        if said.over is not None:
            said = said._replace(over=self._now(said.over) or (self._behind(said.over[0]), "~"))
        return said._replace(change=renamed(said.change, self._now)).encode().decode()

    def _now(self, stamp: Stamp) -> Stamp | None:
        """The stamp that an entry has in the new log; that of another log as it is, None if it is put off."""
        origin = stamp[1].removesuffix(AND_ITSELF)
        if origin != self._old:
            return stamp if stamp[0] <= self._began else None
        row = self.batch.connection.execute(
            "SELECT now FROM temp.restamped WHERE hlc = ?", stamp[:1]
        ).fetchone()
        return stamp if row is None else (row[0], self.new + stamp[1][len(origin) :])

    def _behind(self, hlc: int) -> int:
        """Of a delete that is put off: it had taken all that stays, and what was written again before it."""
        (now,) = self.batch.connection.execute(
            "SELECT ifnull(max(now), ?) FROM temp.restamped WHERE hlc < ?", (self._began, hlc)
        ).fetchone()
        return int(now)


class Tail:
    """The entries of the node's old origin that nobody else is known to have."""

    def __init__(self, batch: Batch, old: Origin, covered: Head, seen: int) -> None:
        """``covered``: how far others say that they have it; ``seen``: its last entry that the writer of a
        foreign one has seen."""
        self.batch = batch
        self.connection = batch.connection
        self.old = old
        self.number = batch.state.origins[old].number
        self.covered = covered if seen <= covered.seq else self._end_of_group(seen, covered)
        self._first_hlc = HLC_MAX

    def _is_in_tail(self, stamp: Stamp) -> bool:
        return stamp[1] == self.old and stamp[0] >= self._first_hlc

    def exists(self) -> bool:
        return self.batch.state.origins[self.old].head.seq > self.covered.seq

    def is_whole(self) -> bool:
        """Whether the log has it still: of what is pruned, others take a snapshot."""
        return self.batch.state.origins[self.old].floor <= self.covered.seq

    def write_again(self, new: Origin, now_ms: int, *, ends: bool) -> int:
        """All of it, and what had won against it; how many entries that made. Few bodies are in memory.

        ``ends``: the first says that the old log ends here, to whoever has more of it.
        """
        writer = Writer(self.batch, new, now_ms, old=self.old, after=self.covered.seq)
        if ends:
            writer.write((ENDED, ending(self.old, self.covered.seq)), "{}", None)
        empty(self.connection, "before")
        rows = "_entgldb_oplog WHERE origin = ? AND seq > ?"
        self._first_hlc = next(entries(self.connection, rows, self.number, after=self.covered.seq))[0].hlc
        for header, text in entries(self.connection, rows, self.number, after=self.covered.seq):
            made, said, lsn = writer.again(header, text)
            self._merge_again(header, made, said, lsn)
        last = 0
        while row := self.connection.execute(
            "SELECT * FROM temp.before WHERE id > ? ORDER BY id LIMIT 1", (last,)
        ).fetchone():
            last = row[0]
            self._restore(writer, row[1:3], load(Tip(*row[3:7]), row[7], row[8]))
        writer.end()
        return writer.written - ends

    def drop(self) -> None:
        """The old log ends where others have it."""
        state = self.batch.state
        forget_log(self.connection, state, self.number, self.covered.seq, state.origins[self.old].head.seq)
        forked = state.origins[self.old].head.forked
        state.move(self.old, self.covered._replace(forked=forked))
        runs.cut(self.connection, self.number, self.covered.seq)

    def _end_of_group(self, seq: int, otherwise: Head) -> Head:
        """The end of the transaction of entry ``seq``: a node that has an entry has its whole transaction."""
        find = "SELECT header, hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?"
        row = self.connection.execute(find, (self.number, seq)).fetchone()
        if row is None:
            return otherwise
        header = decode(row[0])
        last = seq + header.group_size - 1 - header.group_index
        row = self.connection.execute(find, (self.number, last)).fetchone()
        return otherwise if row is None else Head(last, row[1], hlc=decode(row[0]).hlc)

    def _merge_again(self, old: Header, made: Header, text: str | None, lsn: int) -> None:
        """Merge an entry under its new name into the row that knows it by the old one."""
        batch, place = self.batch, (made.collection, made.key)
        for version in (old.version, *made.named):
            batch.clear_conflict(place, version)
        current = batch.current(*place)
        if made.op != MERGE and current is not None and not current.merged and current[:2] == old.version:
            # nothing but this entry is there: it stays what it is, by its new name
            batch.replace(made, text, lsn, current)
            return
        stored, one = read_row(batch, *place), read_operation(made, text)
        if stored is not None:
            self._remember(place, stored)
            newest = one.row.newest if stored.newest.version == old.version else stored.newest
            tips = tuple(tip for tip in stored.tips if tip.version != old.version)
            # an increment or an element is in the new log by its new name: under both it would count twice
            fields = stored.fields and unaccumulated(stored.fields, self._is_in_tail)
            stored = stored._replace(newest=newest, tips=tips, fields=fields)
        after = absorb(stored, one, time_ms=batch.state.time_ms)
        for tip in after.restored:
            batch.clear_conflict(place, tip.version)
        for loser in after.losers:
            batch.keep_loser(*place, loser)
        write_row(batch, place, after.stored, lsn)

    def _remember(self, place: Place, stored: Stored) -> None:
        """Note a row as it was before any of the tail was written again."""
        if stored.newest.origin == self.batch.state.own:
            return  # it has been
        self.connection.execute(
            "INSERT OR IGNORE INTO temp.before VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *place,
                *stored.newest,
                *((None, None) if self._is_of_tail(stored) else save(stored, hidden=stored.hidden)),
            ),
        )

    def _is_of_tail(self, stored: Stored) -> bool:
        """Whether a row is what the tail put last: nothing else was there, and it comes out as it was."""
        return stored.fields is None and stored.newest.origin == self.old

    def _restore(self, writer: Writer, place: Place, before: Stored) -> None:
        """Write what makes a document as it was."""
        now = read_row(self.batch, *place)
        if now is None or self._is_of_tail(before):
            return
        newest, expires = writer.renamed(before.newest.version), before.newest.expires
        if before.fields is None and now.fields is None:
            writer.write(place, before.text, newest, expires=expires)
            return
        document = before.document() if before.live else None
        seen = tuple(writer.renamed(tip.version) for tip in before.tips[:NAMED_MAX])
        if not self._lives_in_snapshot(place):
            # peers may have collected its delete, and with it the fields that were not written again
            merging = Merging(whole(document or {}), document is None)
            newest = now.newest.version
            seen = tuple(tip.version for tip in now.tips[:NAMED_MAX]) if now.live else ()
        elif expires != now.newest.expires or not same(document, now.document() if now.live else None):
            merging = _difference(document, now, writer.new)
        else:
            return
        # several writers may have made a document larger than one may write at once
        for change in split(merging.change, MERGE_BYTES_MAX - HEADER_BYTES_MAX):
            writer.write(place, merging._replace(change=change), newest, seen, expires=expires)

    def _lives_in_snapshot(self, place: Place) -> bool:
        row = self.connection.execute(
            "SELECT 1 FROM staged.documents WHERE collection = ? AND key = ? AND body IS NOT NULL", place
        ).fetchone()
        return row is not None


def last_seen(batch: Batch, old: Origin, theirs: Mapping[Origin, int]) -> int:
    """The last entry of ``old`` that a foreign entry names; ``theirs``: behind which of each log to look."""
    seen, mark = 0, old.encode()
    for origin, known in batch.state.origins.items():
        if origin == old:
            continue
        rows = batch.connection.execute(
            "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq > ?",
            (known.number, theirs.get(origin, 0)),
        )
        # a header is taken apart only where it has the name at all
        for raw in (raw for (raw,) in rows if mark in raw):
            seen = max([seen, *(one.seq for one in decode(raw).named if one.origin == old)])
    return seen


def _difference(document: dict[str, Json] | None, now: Stored, origin: Origin) -> Merging:
    if document is None:
        return Merging(delete=True)
    return composed(now, document, fields=True, origin=origin)


def entries(
    connection: sqlite3.Connection, rows: str, *values: int, after: int
) -> Iterator[tuple[Header, str | None]]:
    """The entries behind ``after``, few bodies in memory; ``rows``: a table, a condition that ends in seq."""
    while found := connection.execute(
        f"SELECT seq, header, body FROM {rows} ORDER BY seq LIMIT {TOGETHER}",  # noqa: S608 -- constants
        (*values, after),
    ).fetchall():
        after = found[-1][0]
        for _, header, body in found:
            yield decode(header), body
