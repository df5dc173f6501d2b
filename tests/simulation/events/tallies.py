"""Operations that accumulate: some clients count, and change sets, in documents of their own."""

from __future__ import annotations

import json
from random import Random

from entgldb.messages.client import FieldOperation, Write

TALLIES = "tallies"
KEYS = 3


def tally(random: Random) -> Write:
    """An increment of one of a few counters, and perhaps a change of the set beside it."""
    amount = random.choice((-3, -1, 1, 1, 2, 10))
    operations = [FieldOperation("inc", ("n",), b"%d" % amount)]
    if random.random() < 0.6:
        verb, element = random.choice(("add", "add", "remove")), random.choice("abcde")
        operations.append(FieldOperation(verb, ("of", "s"), json.dumps(element).encode()))
    return Write(TALLIES, f"t{random.randrange(KEYS)}", None, None, tuple(operations))


def amount_of(write: Write) -> int:
    """How much such a write adds."""
    return int(write.operations[0].value)
