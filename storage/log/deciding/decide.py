"""Writes that depend on the documents that stand, decided in the transaction that does them.

No other write comes between the look and the write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from entgldb.messages.client import PRESENT, Written
from entgldb.messages.errors import ExistsError, InvalidError, TooLargeError, VersionError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.messages.model import Place
from entgldb.messages.strict_json import check_value
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked, Terms
from entgldb.storage.rules.merging.row import Current
from entgldb.storage.rules.updating.accumulate import adds
from entgldb.storage.rules.updating.apply import apply
from entgldb.storage.rules.updating.parse import Update

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
        if write.terms is not None:
            write = _decided(batch, write, write.terms, left)
        if not write.skipped:
            left[write.place] = None if write.deletes else write.text or "{}"
        made.append(write)
    return made


def _decided(batch: Batch, write: Checked, terms: Terms, left: dict[Place, str | None]) -> Checked:
    place, update, again = write.place, terms.update, write.place in left
    if terms.expects is not None:
        _check(write, terms.expects, batch.known[place], left)
    if not update and terms.where is None:
        return write
    before = left[place] if again else batch.text(place)
    if terms.where is not None:
        if again:
            raise InvalidError(f"{'/'.join(place)} is written before a write with a filter in one commit")
        if before is None or not terms.where.matches(_read(before)):
            return Checked(place, None, None, skipped=True)
    if not update:
        return write
    if before is None and not terms.upsert:
        return Checked(place, None, None, skipped=True)
    merges = place[0] in batch.state.merging
    # its life begins anew, whether it changes or not
    lives = write.life_ms is not None or place[0] in batch.state.lives
    # the row as the earlier writes leave it is known when they are done
    return write if merges and again else _updated(write, update, before, merges=merges, lives=lives)


def _updated(write: Checked, update: Update, before: str | None, *, merges: bool, lives: bool) -> Checked:
    document: dict[str, Any] = {} if before is None else _read(before)
    # an element that is added again stays where another node removes it meanwhile
    effective = before is None or lives or (merges and adds(update, document))
    try:
        changed = apply(update, document)
    except InvalidError as fault:
        raise InvalidError(f"{'/'.join(write.place)}: {fault.text}", hint=fault.hint) from None
    if not changed and not effective:
        return Checked(write.place, None, before, skipped=True)
    text = _text(document, before or "{}", write.place)
    return write if merges else write._replace(body=text.encode(), text=text, terms=None)


def _read(text: str) -> dict[str, Any]:
    # what json.loads looks for beyond that costs as much as the document
    made: dict[str, Any] = _DECODER.raw_decode(text)[0] if text[0] == "{" else json.loads(text)
    return made


def _text(document: dict[str, Any], before: str, place: Place) -> str:
    """A document as it will be stored. Raises InvalidError or TooLargeError."""
    name = f"{place[0]}/{place[1]}"
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
    if expects == PRESENT:
        if not stands:
            raise VersionError(f"{name} is not there", hint="write it without this condition")
    elif expects.seq == 0:
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
