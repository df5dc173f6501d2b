"""Which entries of a batch are one transaction, and what their stamps say of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from entgldb.storage.rules.header import Header


class Group(NamedTuple):
    """The transaction that an entry belongs to, as far as it is in one batch."""

    greatest: int
    """The greatest stamp in it."""
    grows: bool
    """Whether each stamp is greater than the one before."""
    whole: bool
    """Whether its end is in the batch."""


def groups(headers: Sequence[Header]) -> list[Group]:
    """The transaction of each entry of a batch."""
    found: list[Group] = []
    while len(found) < len(headers):
        first = headers[len(found)]
        rest = headers[len(found) : len(found) + first.group_size - first.group_index]
        alien = (place for place, one in enumerate(rest) if one.origin != first.origin)
        members = rest[: next(alien, len(rest))]
        stamps = [one.hlc for one in members]
        grows = all(one < two for one, two in pairwise(stamps))
        whole = members[-1].group_index + 1 == members[-1].group_size
        found += [Group(max(stamps), grows, whole)] * len(members)
    return found
