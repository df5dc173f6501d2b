"""Own writes that no peer has, on top of a snapshot: written again as a new writer, the old ones dropped.

As they stand they could not be sent: peers may have collected deletes that they were concurrent with, and
some would then take an old put that others refuse. Under a new origin, with clocks behind all that the
snapshot has, every peer decides alike. Each keeps its place in its transaction and its parent, so that what
it replaces and what it is a rival of stays as it was; where it had lost against a newer write, that one is
written once more after it, and wins again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import Origin, Version
from entgldb.storage.file.scratch import empty
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import merge_row
from entgldb.storage.repair.merge_rewrite import MergeTail, Restoring
from entgldb.storage.rules import clock
from entgldb.storage.rules.header import DELETE, MERGE, PUT, Header, decode, digest, encode
from entgldb.storage.rules.merge import Current, Head
from entgldb.storage.snapshot.install import forget_log

PAGE: Final = 500
_REPLACED: Final = (
    "SELECT d.collection, d.key, d.body, o.name, d.seq FROM temp.touched t"
    " CROSS JOIN _entgldb_documents d ON d.collection = t.collection AND d.key = t.key"
    " CROSS JOIN _entgldb_origins o ON o.id = d.origin"
    " WHERE d.hlc > 0 AND d.origin <> ? AND (t.collection, t.key) > (?, ?)"
    " ORDER BY t.collection, t.key LIMIT ?"
)


class Once(NamedTuple):
    """A version that won against a write of the tail, to be written once more."""

    collection: str
    key: str
    text: str | None
    version: Version


class Tail:
    """The entries of the node's old origin that nobody else is known to have."""

    def __init__(self, batch: Batch, old: Origin, covered: Head, theirs: Mapping[Origin, int]) -> None:
        """``covered``: how far the snapshot has the old log; ``theirs``: how far it has every log."""
        self.batch = batch
        self.connection = batch.connection
        self.old = old
        self.number = batch.state.origins[old].number
        self.covered = self._known_elsewhere(covered, theirs)

    def exists(self) -> bool:
        """Whether there is any."""
        return self.batch.state.origins[self.old].head.seq > self.covered.seq

    def write_again(self, new: Origin, now_ms: int) -> int:
        """All of it, and what had won against it; how many entries that made."""
        writer = Writer(self.batch, new, now_ms)
        execute = self.connection.execute
        empty(self.connection, "touched")
        moved: dict[int, Version] = {}
        fields = MergeTail(self.batch, self.old, (header for header, _ in self._rows()))
        for header, text in self._rows():
            parent = None if header.parent is None else self._renamed(header.parent, moved)
            seen = tuple(self._renamed(version, moved) for version in header.seen)
            text, merges = fields.text(header, text), fields.concerns(header)
            sha = header.body_sha256 if header.op != MERGE else digest((text or "").encode())
            made, lsn = writer.log(header._replace(parent=parent, seen=seen, body_sha256=sha), text)
            moved[header.seq] = made.version
            fields.moved(header, made)
            if merges:
                fields.again(header, made, text, lsn)
            else:
                self._rename(header, made, writer.number, lsn)
            execute(
                "INSERT OR IGNORE INTO temp.touched (collection, key) VALUES (?, ?)",
                (header.collection, header.key),
            )
        self.batch.flush()
        for group in self._replaced(writer.number):
            writer.once_more(group)
        for restoring in fields.restoring():
            writer.restore(restoring)
        writer.end()
        return writer.written

    def drop(self) -> None:
        """The old log ends where others have it."""
        state = self.batch.state
        forget_log(self.connection, state, self.number, self.covered.seq, state.origins[self.old].head.seq)
        forked = state.origins[self.old].head.forked
        state.move(self.old, self.covered._replace(forked=forked))

    def _known_elsewhere(self, covered: Head, theirs: Mapping[Origin, int]) -> Head:
        """The end of what the snapshot covers, or of what the writer of a later foreign entry had seen."""
        seen = covered.seq
        for origin, known in self.batch.state.origins.items():
            if origin == self.old:
                continue
            rows = self.connection.execute(
                "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq > ?",
                (known.number, theirs.get(origin, 0)),
            )
            for (raw,) in rows:
                seen = max([seen, *(one.seq for one in decode(raw).named if one.origin == self.old)])
        return covered if seen == covered.seq else self._end_of_group(seen, covered)

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

    def _rows(self) -> Iterator[tuple[Header, str | None]]:
        seq = self.covered.seq
        while page := self.connection.execute(
            "SELECT seq, header, body FROM _entgldb_oplog WHERE origin = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self.number, seq, PAGE),
        ).fetchall():
            seq = page[-1][0]
            for _, raw, text in page:
                yield decode(raw), text

    def _renamed(self, version: Version, moved: Mapping[int, Version]) -> Version:
        return moved.get(version.seq, version) if version.origin == self.old else version

    def _rename(self, old: Header, made: Header, number: int, lsn: int) -> None:
        """Put the new version into each row that names the old one."""
        for table in ("_entgldb_documents", "_entgldb_conflicts"):
            with_lsn = ", lsn = ?" if table == "_entgldb_documents" else ""
            values = (number, made.seq, made.hlc, *((lsn,) if with_lsn else ()))
            self.connection.execute(
                f"UPDATE {table} SET origin = ?, seq = ?, hlc = ?{with_lsn}"  # noqa: S608 -- constants
                " WHERE collection = ? AND key = ? AND origin = ? AND seq = ?",
                (*values, old.collection, old.key, self.number, old.seq),
            )

    def _replaced(self, number: int) -> Iterator[list[Once]]:
        """The documents of touched keys that are not the tail's, in groups that a transaction may have."""
        place = ("", "")
        while True:
            group: list[Once] = []
            size = 0
            found = self.connection.execute(_REPLACED, (number, *place, GROUP_ENTRIES_MAX))
            for collection, key, text, origin, seq in found:
                group.append(Once(collection, key, text, Version(origin, seq)))
                size += len(text or "")
                if size > GROUP_BYTES_MAX // 4:
                    break
            found.close()
            if not group:
                return
            place = group[-1][:2]
            yield group


class Writer:
    """Appends to the log of the new origin."""

    def __init__(self, batch: Batch, new: Origin, now_ms: int) -> None:
        self.batch = batch
        self.new = new
        self.now_ms = now_ms
        self.written = 0
        self.number, self.head, _ = batch.state.known(batch.connection, new)

    def log(self, like: Header, text: str | None) -> tuple[Header, int]:
        """The same write as the next of the new origin; its header and log row."""
        state = self.batch.state
        state.clock = clock.tick(state.clock, self.now_ms)
        seq, previous = self.head.seq + 1, self.head.hash
        made = like._replace(origin=self.new, seq=seq, hlc=state.clock, prev_hash=previous)
        raw = encode(made)
        self.head = Head(seq, digest(raw), hlc=made.hlc)
        self.written += 1
        return made, self.batch.log(made, raw, self.head.hash, text, True)

    def once_more(self, group: list[Once]) -> None:
        """Documents as they are, as one transaction."""
        for index, one in enumerate(group):
            body = None if one.text is None else one.text.encode()
            op, sha = (DELETE, b"") if body is None else (PUT, digest(body))
            like = Header(
                self.new, 1, 0, one.collection, one.key, op, one.version, index, len(group), sha, b""
            )
            made, lsn = self.log(like, one.text)
            # it was there before, as live as it is now: the count of documents stays
            self.batch.replace(made, one.text, lsn, Current(self.new, 1, 0, one.text is not None))

    def restore(self, one: Restoring) -> None:
        """A document that merges as it was, as a transaction of its own."""
        sha = digest(one.body)
        like = Header(self.new, 1, 0, *one.place, MERGE, one.parent, 0, 1, sha, b"", one.seen)
        made, lsn = self.log(like, one.body.decode())
        merge_row(self.batch, made, one.body.decode(), lsn)

    def end(self) -> None:
        """The chain's new end."""
        self.batch.state.move(self.new, self.head)
        self.batch.flush()
