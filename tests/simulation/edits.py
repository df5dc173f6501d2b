"""Edits of documents that merge: a client reads what its node has, and changes a field or two."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from entgldb.messages.client import RequestId, Write
from entgldb.messages.merging import Resolve, Undelete
from entgldb.messages.schema import Message
from tests.simulation.node import SimulatedNode

PROFILES = "profiles"


def edit(random: Random, node: SimulatedNode, keys: int) -> tuple[Write, str]:
    """One write, and the text that no other has."""
    key = f"p{random.randrange(keys)}"
    if random.random() < 0.1:
        return Write(PROFILES, key, None), ""
    found = node.store.get(PROFILES, key)
    document: dict[str, Any] = {} if found is None else json.loads(found)
    uid = f"{random.getrandbits(64):016x}"
    for _ in range(random.choice((0, 0, 1))):
        _shake(random, document)
    _set(random, document, uid)
    return Write(PROFILES, key, json.dumps(document).encode()), uid


def decision(random: Random, node: SimulatedNode, request: RequestId) -> Message | None:
    """What a person decides about a conflict or a deleted document of this node, if there is one."""
    connection = node.store.connection
    lost = connection.execute(
        "SELECT c.collection, c.key, o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o"
        " ON o.id = c.origin WHERE c.collection NOT LIKE '\\_%' ESCAPE '\\' ORDER BY c.id"
    ).fetchall()
    if lost and random.random() < 0.7:
        return Resolve(request, *random.choice(lost), take=random.choice(("loser", "winner")))
    gone = connection.execute(
        "SELECT key FROM _entgldb_documents WHERE collection = ? AND body IS NULL ORDER BY key", (PROFILES,)
    ).fetchall()
    return Undelete(request, PROFILES, *random.choice(gone)) if gone else None


def _set(random: Random, document: dict[str, Any], uid: str) -> None:
    field = random.choice(("name", "city", "address", "items", "items"))
    if field == "address":
        inner = document.get("address")
        document["address"] = (inner if isinstance(inner, dict) else {}) | {random.choice("xy"): uid}
    elif field == "items":
        items = document.get("items")
        items = items if isinstance(items, list) and all(isinstance(one, dict) for one in items) else []
        wanted = random.randrange(3)
        item = next((one for one in items if one.get("id") == wanted), None)
        if item is None:
            items.insert(random.randint(0, len(items)), {"id": wanted, "q": uid})
        else:
            item["q"] = uid
        document["items"] = items
    else:
        document[field] = uid


def _shake(random: Random, document: dict[str, Any]) -> None:
    """Remove something, or make something else of it."""
    if not document:
        return
    field = random.choice(sorted(document))
    kind = random.randrange(4)
    items = document.get("items")
    if kind == 0 and isinstance(items, list) and items:
        items.pop(random.randrange(len(items)))
    elif kind == 1:
        document[field] = {"z": random.randrange(9)}
    elif kind == 2:
        document[field] = [1, random.randrange(9)]
    else:
        del document[field]
