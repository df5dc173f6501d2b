"""Writing as this node: from checked requests to headers, rows and a remembered answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from entgldb.messages.client import Write, Written
from entgldb.messages.errors import InvalidError, NotAllowedError, TooLargeError
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX, MERGED_BYTES_MAX
from entgldb.messages.model import ALWAYS_MERGED, SYSTEM_PREFIX, Origin, Version, check_collection, check_key
from entgldb.storage.batch import Batch
from entgldb.storage.merge_rows import composed, has_long_history, merge_row, read_row
from entgldb.storage.rules import clock
from entgldb.storage.rules.body import check_body
from entgldb.storage.rules.changes import same
from entgldb.storage.rules.header import DELETE, MERGE, PUT, Header, digest, encode
from entgldb.storage.rules.merge import Current, Head
from entgldb.storage.unfit import APPLIED


class Checked(NamedTuple):
    """A write whose limits hold; ``text`` is None for a delete."""

    collection: str
    key: str
    body: bytes | None
    text: str | None
    resolves: tuple[Version, ...] = ()
    """Conflicts that it settles."""
    whole: bool = False
    """Of a document that merges: all of it anew, whatever is there."""


def check_writes(writes: Sequence[Write], *, system: bool) -> list[Checked]:
    """All of a request's writes, or the first fault as an EntglError."""
    if not 0 < len(writes) <= GROUP_ENTRIES_MAX:
        raise InvalidError(f"a commit of {len(writes)} writes", hint=f"1 to {GROUP_ENTRIES_MAX} are possible")
    size = sum(len(write.body) for write in writes if write.body is not None)
    if size > GROUP_BYTES_MAX:
        raise TooLargeError(f"a commit of {size} bytes, {GROUP_BYTES_MAX} allowed", hint="split it")
    names: set[str] = set()
    checked = []
    for write in writes:
        collection, body = write.collection, write.body
        if collection not in names:
            _check_name(collection, system=system)
            names.add(collection)
        text = None if body is None else check_body(body)
        checked.append(Checked(collection, check_key(write.key), body, text))
    return checked


def write_group(batch: Batch, origin: Origin, writes: list[Checked], now_ms: int) -> tuple[Written, ...]:
    """Append one transaction of our own.

    A delete that meets nothing makes no entry and has seq 0; a put that changes no field of a document
    that merges makes none either and has the version that is there.
    """
    parents, merging = _effective(batch, writes)
    group = _Group(batch, origin, sum([effective for _, effective in parents]), now_ms, merging=merging)
    written = []
    for write, (current, effective) in zip(writes, parents, strict=True):
        # what an earlier write of this very group made is what this one replaces
        if merging:
            current = batch.current(write.collection, write.key)
        else:
            current = batch.pending(write.collection, write.key) or current
        if effective:
            written.append(group.write(write, current))
        elif write.text is not None and current is not None:
            written.append(Written(current.origin, current.seq))
        else:
            written.append(Written(origin, 0))
    group.end()
    return tuple(written)


class _Group:
    """One transaction of our own under way: its place in the log, and what it has made."""

    def __init__(self, batch: Batch, origin: Origin, size: int, now_ms: int, *, merging: bool) -> None:
        self.batch = batch
        self.merging = merging
        """Whether some of it may be a merge."""
        self.origin = origin
        self.size = size
        self.now_ms = now_ms
        self.seq, self.previous, self.quarantined, self.hlc = batch.state.origins[origin].head
        self.index = 0
        self.merged_bytes = 0

    def write(self, write: Checked, current: Current | None) -> Written:
        """Append one write that replaces ``current``."""
        batch, state, body = self.batch, self.batch.state, write.body
        self.seq += 1
        self.hlc = state.clock = clock.tick(state.clock, self.now_ms)
        if self.merging and _merges(batch, write, current):
            self._merge(write, current)
        else:
            op, sha = (DELETE, b"") if body is None else (PUT, digest(body))
            header, lsn = self._log(write, current, op, sha, write.text)
            batch.replace(header, write.text, lsn, current)
        self.index += 1
        return Written(self.origin, self.seq)

    def end(self) -> None:
        """Move the head of our log."""
        self.batch.state.move(self.origin, Head(self.seq, self.previous, self.quarantined, self.hlc))

    def _merge(self, write: Checked, current: Current | None) -> None:
        body = merge_body(self.batch, write)
        self.merged_bytes += len(body)
        if self.merged_bytes > GROUP_BYTES_MAX:
            raise TooLargeError(
                f"the changed fields of a commit take more than {GROUP_BYTES_MAX} bytes", hint="split it"
            )
        text = body.decode()
        header, lsn = self._log(write, current, MERGE, digest(body), text)
        if merge_row(self.batch, header, text, lsn) and write.text is not None:
            raise TooLargeError(
                f"{write.collection}/{write.key} would take more than {MERGED_BYTES_MAX} bytes"
                " with the versions of its fields",
                hint="remove fields of it first, or delete it and put it anew",
            )

    def _log(
        self, write: Checked, current: Current | None, op: int, sha: bytes, text: str | None
    ) -> tuple[Header, int]:
        header = Header(
            self.origin,
            self.seq,
            self.batch.state.clock,
            write.collection,
            write.key,
            op,
            None if current is None else Version(current.origin, current.seq),
            self.index,
            self.size,
            sha,
            self.previous,
        )
        raw = encode(header)
        self.previous = digest(raw)
        return header, self.batch.log(header, raw, self.previous, text, APPLIED)


def merge_body(batch: Batch, write: Checked) -> bytes:
    """The body of the merge that a write makes over the row that is there."""
    row = read_row(batch, write.collection, write.key)
    document = None if write.text is None else json.loads(write.text)
    fields = write.collection in batch.state.merging and not write.whole
    # written whole, a document sheds the versions of all that it ever had and has no more
    fields = fields and not has_long_history(batch, write.collection, write.key)
    collected = batch.state.collected_hlc
    made = composed(row, document, fields=fields, collected_hlc=collected, resolves=write.resolves)
    return made.encode()


def _merges(batch: Batch, write: Checked, current: Current | None) -> bool:
    """Whether a write becomes a merge; one that settles a conflict does, because it must say so."""
    if write.resolves or (current is not None and current.merged):
        return True
    # a first version in a system collection is put: nodes of protocol 1 understand nothing else
    first = current is None and write.collection in ALWAYS_MERGED
    return write.collection in batch.state.merging and not first


def _effective(batch: Batch, writes: list[Checked]) -> tuple[list[tuple[Current | None, bool]], bool]:
    """For each write the version it meets in the file, and whether it changes anything.

    And whether some of the writes may be merges.
    """
    some = False
    live: dict[tuple[str, str], bool] = {}
    texts: dict[tuple[str, str], str] = {}
    merging, found = batch.state.merging, []
    for write in writes:
        place = (write.collection, write.key)
        current = batch.current(*place)
        was_live = live.get(place, current is not None and current.live)
        live[place] = write.text is not None
        anew = write.whole or bool(write.resolves)
        effective = was_live or write.text is not None or anew
        merges = write.collection in merging
        some = some or merges or bool(write.resolves) or (current is not None and current.merged)
        if merges and write.text is not None:
            # a put that finds every field as it is changes nothing, and says so to nobody
            before = texts.get(place) or (batch.text(*place) if was_live else None)
            texts[place] = write.text
            effective = not was_live or anew or _differs(before, write.text)
        found.append((current, effective))
    return found, some


def _differs(before: str | None, after: str) -> bool:
    return before is None or not same(json.loads(before), json.loads(after))


def _check_name(collection: str, *, system: bool) -> None:
    if collection.startswith(SYSTEM_PREFIX) and not system:
        raise NotAllowedError(
            f"{collection} is written by its own verbs only",
            hint="add-cloud-peer, update-peer or remove-peer",
        )
    check_collection(collection, system=system)
