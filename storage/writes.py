"""Writing as this node: from checked requests to headers, rows and a remembered answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from entgldb.messages.client import Write, Written
from entgldb.messages.errors import InvalidError, NotAllowedError, TooLargeError
from entgldb.messages.limits import GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Origin, Version, check_collection, check_key
from entgldb.storage.batch import Batch
from entgldb.storage.rules import clock
from entgldb.storage.rules.body import check_body
from entgldb.storage.rules.header import DELETE, PUT, Header, digest, encode
from entgldb.storage.rules.merge import Current, Head
from entgldb.storage.unfit import APPLIED


class Checked(NamedTuple):
    """A write whose limits hold; ``text`` is None for a delete."""

    collection: str
    key: str
    body: bytes | None
    text: str | None


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
    """Append one transaction of our own; a delete that meets nothing makes no entry and has seq 0."""
    parents = _effective(batch, writes)
    size = sum(1 for _, effective in parents if effective)
    state = batch.state
    seq, previous, quarantined = state.origins[origin].head
    written, index = [], 0
    for write, (current, effective) in zip(writes, parents, strict=True):
        if not effective:
            written.append(Written(origin, 0))
            continue
        seq += 1
        state.clock = clock.tick(state.clock, now_ms)
        # what an earlier write of this very group made is what this one replaces
        current = batch.pending(write.collection, write.key) or current
        body = write.body
        header = Header(
            origin,
            seq,
            state.clock,
            write.collection,
            write.key,
            DELETE if body is None else PUT,
            None if current is None else Version(current.origin, current.seq),
            index,
            size,
            b"" if body is None else digest(body),
            previous,
        )
        raw = encode(header)
        previous = digest(raw)
        lsn = batch.log(header, raw, previous, write.text, APPLIED)
        batch.replace(header, write.text, lsn, current)
        written.append(Written(origin, seq))
        index += 1
    state.move(origin, Head(seq, previous, quarantined))
    return tuple(written)


def _effective(batch: Batch, writes: list[Checked]) -> list[tuple[Current | None, bool]]:
    """For each write the version it meets in the file, and whether it changes anything."""
    live: dict[tuple[str, str], bool] = {}
    found = []
    for write in writes:
        place = (write.collection, write.key)
        current = batch.current(*place)
        was_live = live.get(place, current is not None and current.live)
        live[place] = write.text is not None
        found.append((current, was_live or write.text is not None))
    return found


def _check_name(collection: str, *, system: bool) -> None:
    if collection.startswith(SYSTEM_PREFIX) and not system:
        raise NotAllowedError(
            f"{collection} is written by its own verbs only",
            hint="add-cloud-peer, update-peer or remove-peer",
        )
    check_collection(collection, system=system)
