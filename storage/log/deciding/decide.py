"""Writes that depend on the documents that stand, decided in the transaction that does them.

No other write comes between the look and the write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from entgldb.messages.client import Written
from entgldb.messages.errors import ExistsError, TooLargeError, VersionError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.messages.model import Place
from entgldb.messages.strict_json import check_value
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked
from entgldb.storage.rules.merging.row import Current
from entgldb.storage.rules.updating.accumulate import adds
from entgldb.storage.rules.updating.apply import apply

_DECODER = json.JSONDecoder()
_TEXTS = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decide(batch: Batch, writes: Sequence[Checked]) -> list[Checked]:
    """The writes as they are to be done; their places were looked up.

    Where the collection merges an update stays one, for the row to be merged with; elsewhere it becomes a
    put. A write meets what earlier writes of its own commit leave. Raises ExistsError, VersionError,
    InvalidError, TooLargeError.
    """
    left: dict[Place, str | None] = {}
    """The documents that earlier writes leave. Where they merge, this tells only whether there is one."""
    made = []
    for write in writes:
        place, terms = write.place, write.terms
        if terms is not None and terms.expects is not None:
            _check(write, terms.expects, batch.known[place], left)
        if write.update:
            write = _updated(batch, write, left)
        if not write.skipped:
            left[place] = None if write.deletes else write.text or "{}"
        made.append(write)
    return made


def _updated(batch: Batch, write: Checked, left: dict[Place, str | None]) -> Checked:
    place, update = write.place, write.update
    before = left[place] if place in left else batch.text(place)
    upserts = write.terms is not None and write.terms.upsert
    if before is None and not upserts:
        return Checked(place, None, None, skipped=True)
    merges = place[0] in batch.state.merging
    if merges and place in left:
        return write
    # json.loads would also look for a byte order mark and blanks around it, which no stored text has
    document: dict[str, Any] = {} if before is None else _read(before)
    # an element that is added again stays where another node removes it meanwhile
    effective = before is None or (merges and adds(update, document))
    if not apply(update, document) and not effective:
        return Checked(place, None, before, skipped=True)
    text = _text(document, before or "{}", "/".join(place))
    return write if merges else Checked(place, text.encode(), text)


def _read(text: str) -> dict[str, Any]:
    # what json.loads looks for beyond that costs as much as the document
    made: dict[str, Any] = _DECODER.raw_decode(text)[0] if text[0] == "{" else json.loads(text)
    return made


def _text(document: dict[str, Any], before: str, name: str) -> str:
    """A document as it will be stored. Raises InvalidError or TooLargeError."""
    try:
        text = _TEXTS.encode(document)
    except ValueError as fault:
        raise TooLargeError(f"{name} would have a number without end: {fault!s:.120}") from None
    check_value(document, text, name, DEPTH_MAX)
    size = len(text.encode())
    # documents that merge may outgrow a write: they may yet be made smaller
    if size > BODY_BYTES_MAX and size > len(before.encode()):
        raise TooLargeError(f"{name} would have {size} bytes, {BODY_BYTES_MAX} allowed")
    return text


def _check(write: Checked, expects: Written, current: Current | None, left: dict[Place, str | None]) -> None:
    name, again = "/".join(write.place), write.place in left
    stands = left[write.place] is not None if again else current is not None and current.live
    now = "changed by the same commit" if again or current is None else _named(*current[:2])
    if expects.seq == 0:
        if stands:
            raise ExistsError(
                f"{name} is there already: {now}",
                hint=f"entgldb get {' '.join(write.place)}; put writes over it",
            )
    elif not stands or again or current is None or current[:2] != (expects.origin, expects.seq):
        raise VersionError(
            f"{name} is {now if stands else 'not there'}, not {_named(expects.origin, expects.seq)}",
            hint="read it again, then decide again",
        )


def _named(origin: str, seq: int) -> str:
    """A version as ``conflicts`` and ``history`` print it."""
    return f"version {origin}:{seq}"
