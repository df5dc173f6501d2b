"""Conditions of writes, looked at in the transaction that does them: no other write comes between."""

from __future__ import annotations

from collections.abc import Sequence

from entgldb.messages.client import Written
from entgldb.messages.errors import ExistsError, VersionError
from entgldb.messages.model import Place
from entgldb.storage.log.append import Batch
from entgldb.storage.log.deciding.checked import Checked
from entgldb.storage.rules.merging.row import Current


def decide(batch: Batch, writes: Sequence[Checked]) -> None:
    """Look at what each write expects; the places were looked up. Raises ExistsError, VersionError.

    A write meets what earlier writes of its own commit leave.
    """
    left: dict[Place, bool] = {}
    """Places that earlier writes change, and whether a document is there then."""
    for write in writes:
        place, expects = write.place, write.expects
        if expects is not None:
            _check(place, expects, batch.known[place], left.get(place))
        left[place] = not write.deletes


def _check(place: Place, expects: Written, current: Current | None, left: bool | None) -> None:
    """``left``: whether earlier writes of the commit leave a document; None: there are none."""
    name = "/".join(place)
    stands = current is not None and current.live if left is None else left
    now = "changed by the same commit" if left is not None or current is None else _named(*current[:2])
    if expects.seq == 0:
        if stands:
            raise ExistsError(
                f"{name} is there already: {now}",
                hint=f"entgldb get {place[0]} {place[1]}; put writes over it",
            )
    elif not stands or left is not None or current is None or current[:2] != (expects.origin, expects.seq):
        found = now if stands else "not there"
        raise VersionError(
            f"{name} is {found}, not {_named(expects.origin, expects.seq)}",
            hint="read it again, then decide again",
        )


def _named(origin: str, seq: int) -> str:
    """A version as ``conflicts`` and ``history`` print it."""
    return f"version {origin}:{seq}"
