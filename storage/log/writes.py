"""Writing as this node: from checked requests to headers, rows and a remembered answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from entgldb.messages.client import RequestId, Write, Written
from entgldb.messages.errors import EntglError, InvalidError, TooLargeError
from entgldb.messages.limits import (
    BASE_BYTES_MAX,
    DEPTH_MAX,
    GROUP_BYTES_MAX,
    MERGED_BYTES_MAX,
    NAMED_MAX,
)
from entgldb.messages.model import Place, Version
from entgldb.storage.authorship import runs
from entgldb.storage.file.state import State
from entgldb.storage.log import requests
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked, check_writes
from entgldb.storage.log.deciding.decide import decide
from entgldb.storage.log.rows import (
    accumulated,
    composed,
    has_long_history,
    merge_row,
    read_row,
    updated,
    with_edit,
)
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.unfit import APPLIED
from entgldb.storage.rules import clock
from entgldb.storage.rules.body import check_object
from entgldb.storage.rules.chain import Head
from entgldb.storage.rules.header import DELETE, MERGE, PUT, Header, digest, encode, expiring
from entgldb.storage.rules.merging.changes import same
from entgldb.storage.rules.merging.row import Current, goes_whole
from entgldb.storage.rules.merging.stored import Stored


class Writing:
    """Writes this node's own entries, request by request, within the group that runs."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def write(
        self, request: RequestId, writes: Sequence[Write], now_ms: int, *, system: bool = False
    ) -> requests.Answer:
        """Check and write; as ``Store.write``."""
        batch = self.batch()
        checked = check_writes(writes, batch.state.collections, system=system)
        return self.commit(request, batch, checked, now_ms)

    def batch(self) -> Batch:
        """The batch of the group that runs."""
        self._transaction.need_group()
        return self._transaction.batch

    def commit(
        self, request: RequestId, batch: Batch, checked: list[Checked], now_ms: int
    ) -> requests.Answer:
        """Write what was checked, remember the answer; the versions and the last lsn (0: nothing changed)."""
        state = batch.state
        if state.disowned:
            raise EntglError(f"{state.own} has been continued elsewhere, a new incarnation is needed")
        transaction = self._transaction
        if transaction.signing.needed_before(state, now_ms):
            transaction.secure()
            transaction.signing.head(state)
        before, batch.request = state.lsn, requests.request_name(request)
        written = write_group(batch, checked, now_ms, transaction.secure)
        if not transaction.gathers:
            batch.flush()
        lsn = state.lsn if state.lsn > before else 0
        requests.remember_answer(batch.connection, state, request, written, (before, lsn))
        return written, lsn


def write_group(
    batch: Batch, writes: list[Checked], now_ms: int, secure: Callable[[], None]
) -> tuple[Written, ...]:
    """Append one transaction of our own. ``secure`` is called where it does more than gather rows.

    A delete or an update that meets nothing makes no entry and has seq 0. An update that changes nothing
    makes none either, nor a put that changes no field of a document that merges: it has the version that is
    there.
    """
    conditional = False
    for write in writes:
        if write.operations:
            _check_merging(batch.state, write.place[0])
        conditional = conditional or write.terms is not None
    places = [write.place for write in writes]
    batch.look_up(places)
    if conditional:
        writes = decide(batch, writes)
    currents = [batch.known[place] for place in places]
    merging = any(map(_merges, repeat(batch.state), writes, currents))
    if not _gathers(batch.state, writes, merging):
        secure()
    effects = (_merging_effects if merging else _effects)(batch, writes, currents)
    group = _Group(batch, sum(effects), now_ms, merging=merging)
    written = []
    for write, current, effective in zip(writes, currents, effects, strict=True):
        # this write replaces the version that an earlier write of this very group made
        current = batch.current(*write.place) if merging else batch.known.get(write.place, current)
        if effective:
            written.append(group.write(write, current))
        elif not write.deletes and current is not None:
            written.append(Written(current.origin, current.seq))
        else:
            written.append(Written(group.origin, 0))
    group.end()
    return tuple(written)


class _Group:
    """One transaction of our own under way: its place in the log, and what it has made."""

    def __init__(self, batch: Batch, size: int, now_ms: int, *, merging: bool) -> None:
        self.batch = batch
        self.merging = merging
        """Whether some of it may be a merge."""
        self.origin = batch.state.own
        self.size = size
        self.now_ms = now_ms
        self.seq, self.previous, self.forked, self.hlc = batch.state.origins[self.origin].head
        self.index = 0
        self.bytes = 0
        """Bytes of the bodies logged so far."""
        self.header_bytes = 0

    def write(self, write: Checked, current: Current | None) -> Written:
        """Append one write that replaces ``current``."""
        state = self.batch.state
        self.seq += 1
        self.hlc = state.clock = clock.tick(state.clock, self.now_ms)
        if self.merging and _merges(state, write, current):
            self._merge(write)
        else:
            self._put(write, current)
        self.index += 1
        return Written(self.origin, self.seq)

    def end(self) -> None:
        """Move the head of our log."""
        self.batch.state.move(self.origin, Head(self.seq, self.previous, self.forked, self.hlc))

    def _merge(self, write: Checked) -> None:
        row = read_row(self.batch, *write.place)
        body = _merge_body(self.batch, write, row)
        text = body.decode()
        known = _known(self.batch, write, row)
        replaced = (known[0] if known else None, known[1:])
        header, lsn = self._log(write, replaced, MERGE, body, text)
        if merge_row(self.batch, header, text, lsn) and not write.deletes:
            raise TooLargeError(
                f"{'/'.join(write.place)} would take more than {MERGED_BYTES_MAX} bytes"
                " with the versions of its fields",
                hint="remove fields of it first, or delete it and put it anew",
            )

    def _put(self, write: Checked, current: Current | None) -> None:
        batch, op = self.batch, DELETE if write.body is None else PUT
        # a client that writes here has the conflicts before him, too
        lost = batch.conflicts_of(*write.place) if batch.state.conflicts else []
        parent = None if current is None else Version(current.origin, current.seq)
        header, lsn = self._log(write, (parent, lost), op, write.body or b"", write.text)
        for version in lost:
            batch.clear_conflict(write.place, version)
        batch.replace(header, write.text, lsn, current)

    def _log(
        self,
        write: Checked,
        replaced: tuple[Version | None, Sequence[Version]],
        op: int,
        body: bytes,
        text: str | None,
    ) -> tuple[Header, int]:
        """``replaced``: the version that the writer replaced, and others that it knew."""
        parent, seen = replaced
        expires = 0
        if self.batch.state.lives or write.life_ms is not None or write.keeps_moment:
            expires = self._expires(write)
        optional = expiring(expires)
        if self.batch.state.run != self.origin:
            optional += runs.begin(self.batch.state, self.origin, self.seq)
        header = Header(
            self.origin,
            self.seq,
            self.hlc,
            *write.place,
            op,
            parent,
            self.index,
            self.size,
            b"" if op == DELETE else digest(body),
            self.previous,
            tuple(seen[:NAMED_MAX]),
            optional,
        )
        raw = encode(header)
        self._count(len(body), len(raw))
        self.previous = digest(raw)
        return header, self.batch.log(header, raw, self.previous, text, APPLIED)

    def _expires(self, write: Checked) -> int:
        """The moment from which on nobody shows what is written; 0: none."""
        if write.moment is not None:
            return write.moment
        life_ms = self.batch.state.lives.get(write.place[0], 0) if write.life_ms is None else write.life_ms
        if write.deletes:
            return 0
        if not life_ms:
            return self.batch.moment(write.place) if write.keeps_moment and write.life_ms is None else 0
        return min(clock.ms_of(self.hlc) + life_ms, clock.MS_MAX)

    def _count(self, body: int, header: int) -> None:
        """Changed fields may take more than the documents: a receiver has to stage them."""
        self.bytes += body
        self.header_bytes += header
        if self.bytes > GROUP_BYTES_MAX:
            raise TooLargeError(
                f"the changed fields of a commit take more than {GROUP_BYTES_MAX} bytes", hint="split it"
            )
        if self.header_bytes > GROUP_BYTES_MAX:
            raise TooLargeError(
                f"keys, and the versions replaced, of a commit take more than {GROUP_BYTES_MAX} bytes",
                hint="split it",
            )


def _merge_body(batch: Batch, write: Checked, row: Stored | None) -> bytes:
    own, collected = batch.state.own, batch.state.collected_hlc
    if write.operations:
        return accumulated(row, write.operations, own, collected).encode()
    if write.update:
        return updated(row, write.update, own, collected, anew=has_long_history(batch, *write.place)).encode()
    document = None if write.text is None else json.loads(write.text)
    fields = write.place[0] in batch.state.merging and not write.whole
    read = _read(write)
    # the writer has read the row as it stands: its field versions are at hand
    if read is not None and row is not None and row.shown and same(read, row.document()):
        read = None
    if fields and (has_long_history(batch, *write.place) or (row is not None and goes_whole(row))):
        # written whole, a document sheds the versions of all that it ever had and has no more; of a put that
        # expires nothing would be left below a change
        if read is not None and document is not None and row is not None and row.shown:
            document = with_edit(row, read, document)
        fields = False
    return composed(row, document, fields=fields, origin=own, collected_hlc=collected, read=read).encode()


def _read(write: Checked) -> dict[str, Any] | None:
    return None if write.base is None else check_object(write.base.body, BASE_BYTES_MAX, DEPTH_MAX)


def _known(batch: Batch, write: Checked, row: Stored | None) -> list[Version]:
    """The versions that the writer of a merge knew, the one that it replaces first."""
    if row is None:
        return []
    tips = [tip.version for tip in row.tips] if row.live else []
    if write.base is None:
        return [row.newest.version, *write.resolves, *tips]
    stand = {row.newest.version, *(tip.version for tip in row.tips)}
    read = dict.fromkeys(one.version for one in write.base.versions[: NAMED_MAX + 1])
    # of what a client says only that counts which this node knows to be of this very document
    return [version for version in read if version in stand or batch.is_of(version, *write.place)]


def _merges(state: State, write: Checked, current: Current | None) -> bool:
    """Whether a write becomes a merge; one that settles a conflict does, because it must say so."""
    return bool(write.resolves) or write.place[0] in state.merging or (current is not None and current.merged)


def _gathers(state: State, writes: list[Checked], merging: bool) -> bool:
    """Whether writing does nothing but gather rows."""
    known = state.collections
    return not (merging or state.conflicts or any(write.place[0] not in known for write in writes))


def _effects(batch: Batch, writes: list[Checked], currents: list[Current | None]) -> list[bool]:
    """For each write whether it changes anything; none is a merge."""
    live: dict[Place, bool] = {}
    found = []
    for write, current in zip(writes, currents, strict=True):
        if write.skipped:
            found.append(False)
            continue
        puts = write.text is not None
        found.append(puts or write.whole or live.get(write.place, current is not None and current.live))
        live[write.place] = puts
    return found


def _merging_effects(batch: Batch, writes: list[Checked], currents: list[Current | None]) -> list[bool]:
    """The same where some may be merges."""
    live: dict[Place, bool] = {}
    texts: dict[Place, str | None] = {}
    """The documents that puts leave; None where more than that was written to a place."""
    found = []
    for write, current in zip(writes, currents, strict=True):
        place = write.place
        if write.skipped:
            found.append(False)
            continue
        was_live = live.get(place, current is not None and current.live)
        live[place] = not write.deletes
        anew = write.whole or bool(write.resolves)
        effective = was_live or not write.deletes or anew
        if place[0] in batch.state.merging and write.text is not None:
            # a put that finds every field as it is changes nothing, and says so to nobody
            before = texts[place] if place in texts else batch.text(place) if was_live else None
            effective = not was_live or anew or _differs(_read(write), before, write.text)
            # its life begins anew
            effective = effective or write.life_ms is not None or place[0] in batch.state.lives
        texts[place] = write.text if write.base is None else None
        found.append(effective)
    return found


def _differs(read: dict[str, Any] | None, before: str | None, after: str) -> bool:
    if read is None and before is not None:
        read = json.loads(before)
    return read is None or not same(read, json.loads(after))


def _check_merging(state: State, collection: str) -> None:
    if collection not in state.merging:
        raise InvalidError(
            f"{collection} does not merge: of concurrent operations only the last would stand",
            hint=f"entgldb collection {collection} --conflict merge",
        )
