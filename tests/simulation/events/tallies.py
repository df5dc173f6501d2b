"""Operations that accumulate: some clients count, and change sets, in documents of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

from entgldb.messages.client import FieldOperation, Write

TALLIES = "tallies"
KEYS = ("t0", "t1", "t2")


def tally(random: Random, keys: Sequence[str]) -> Write:
    """An increment of one of a few counters, and perhaps a change of the set beside it."""
    amount = random.choice((-3, -1, 1, 1, 2, 10))
    operations = [FieldOperation("inc", ("n",), b"%d" % amount)]
    if random.random() < 0.6:
        verb, element = random.choice(("add", "add", "remove")), random.choice("abcde")
        operations.append(FieldOperation(verb, ("of", "s"), json.dumps(element).encode()))
    return Write(TALLIES, random.choice(keys), None, None, tuple(operations))


def amount_of(write: Write) -> int:
    """How much such a write adds."""
    return int(write.operations[0].value)
