"""Writes that depend on the document that stands: inserts, versions that must stand, updates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from entgldb.messages.client import Write, Written
from entgldb.messages.model import Version
from entgldb.storage.documents.query import Documents
from tests.simulation.events.tallies import TALLIES
from tests.simulation.watch.oracle import DELETE, MERGE, PUT, Operation, read_operation
from tests.simulation.world.node import SimulatedNode

CONDITIONAL_SEEDS = 13
CONDITIONAL = 8
"""Every thirteenth seed has clients who write so."""
ABSENT = Written("", 0)
SMALL = 4
"""Some updates are for documents alone whose number is less."""
REFUSALS = frozenset(("already-exists", "version-mismatch"))


def conditional(
    random: Random, node: SimulatedNode, put: Write, uid: str, versions: dict[tuple[str, str], Version]
) -> Write:
    """The put as an insert, as meant for one version, or as an update.

    ``versions``: those that the client has seen, some of them long ago.
    """
    place = (put.collection, put.key)
    kind = random.random()
    if kind < 0.3:
        return Write(*place, put.body, expects=ABSENT)
    known = versions.get(place)
    if known is None or random.random() < 0.6:
        read = Documents(node.store.connection).read(*place)
        known = known if read is None else read.version
    if known is not None:
        versions[place] = known
    expects = None if known is None else Written(*known)
    if kind < 0.6:
        return Write(*place, None if random.random() < 0.2 else put.body, expects=expects)
    operators = {"$set": {"uid": uid}, "$inc": {"n": random.randrange(1, 4)}, "$push": {"log": uid[:2]}}
    body = json.dumps(operators).encode()
    if random.random() < 0.3:
        where = json.dumps([{"n": {"$lt": SMALL}}, None]).encode()
        return Write(*place, None, update=body, where=where)
    upsert = random.random() < 0.5
    return Write(*place, None, expects=expects if kind < 0.7 else None, update=body, upsert=upsert)


def stumbles(writes: Sequence[Write]) -> bool:
    """Whether a write with a filter comes after another one of the same key: such a commit is refused."""
    places = [(write.collection, write.key) for write in writes]
    return any(write.where is not None and places[at] in places[:at] for at, write in enumerate(writes))


def tally_update(random: Random, keys: Sequence[str]) -> Write:
    """An increment, perhaps with an element of a set and a field, as one update."""
    operators: dict[str, dict[str, Any]] = {"$inc": {"n": random.choice((-3, -1, 1, 2, 10))}}
    if random.random() < 0.6:
        operators[random.choice(("$addToSet", "$addToSet", "$pull"))] = {"of.s": random.choice("abcde")}
    if random.random() < 0.3:
        operators["$set"] = {"by": f"{random.getrandbits(32):08x}"}
    return Write(TALLIES, random.choice(keys), None, update=json.dumps(operators).encode(), upsert=True)


def amount_of(write: Write) -> int:
    """How much an update of a tally adds."""
    return int(json.loads(write.update or b"")["$inc"]["n"])


def entry(node: SimulatedNode, made: tuple[str, int]) -> Operation | None:
    """An entry, as far as the log of a node has it."""
    row = node.store.connection.execute(
        "SELECT l.header, l.body FROM _entgldb_oplog l JOIN _entgldb_origins o ON o.id = l.origin"
        " WHERE o.name = ? AND l.seq = ?",
        made,
    ).fetchone()
    return None if row is None else read_operation(*row)


def deletes(one: Operation) -> bool:
    """Whether nothing is shown after an operation: who settles a conflict may delete, too."""
    return one.op == DELETE or (one.op == MERGE and "delete" in json.loads(one.body or "{}"))


def broken(node: SimulatedNode, write: Write, one: Operation) -> str:
    """What an acknowledged write has not kept to; empty where it has."""
    before = None if one.parent is None else entry(node, one.parent)
    expects = write.expects
    if expects == ABSENT and before is not None and not deletes(before):
        return f"inserted over {one.parent}"
    if expects is not None and expects.seq and one.parent != (expects.origin, expects.seq):
        return f"is meant for {expects.origin} {expects.seq} and replaced {one.parent}"
    if write.update is None or write.collection == TALLIES or (one.parent is not None and before is None):
        return ""
    if MERGE in (one.op, DELETE if before is None else before.op):
        # somebody has settled a conflict of this place: its documents are folded by the oracle alone
        return ""
    said = json.loads(write.update)
    document: dict[str, Any] = json.loads(before.body) if before is not None and before.body else {}
    if one.op != PUT or (not document and not write.upsert):
        return f"made of nothing an entry with op code {one.op}"
    if write.where is not None and not document.get("n", SMALL) < SMALL:
        return f"was for other documents than {before}"
    document["n"] = document.get("n", 0) + said["$inc"]["n"]
    document["log"] = [*document.get("log", []), said["$push"]["log"]]
    wanted = document | said["$set"]
    return "" if json.loads(one.body or "null") == wanted else f"made {one.body} instead of {wanted}"
