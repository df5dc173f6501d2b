"""Edits of documents that merge: a client reads what its node has, and changes a field or two."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from entgldb.messages.administration import Resolve, Undelete
from entgldb.messages.client import Base, RequestId, Write, Written
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.schema import Message
from entgldb.storage.documents.query import Documents
from entgldb.storage.documents.reading import Read
from tests.simulation.watch.oracle import MERGE, Operation
from tests.simulation.world.node import SimulatedNode

PROFILES = "profiles"


LARGE_BYTES = 100_000
"""At least so many has a field that is large; several nodes' fields make a document of some megabytes."""


def edit(
    random: Random, node: SimulatedNode, keys: int, reads: dict[str, Read], *, large: bool = False
) -> tuple[Write, str]:
    """One write, and the text that no other has; half of them change what was read long ago."""
    key = f"p{random.randrange(keys)}"
    if random.random() < 0.1:
        return Write(PROFILES, key, None), ""
    known = reads.get(key)
    if known is None or random.random() < 0.5:
        known = Documents(node.store.connection).read(PROFILES, key)
    document: dict[str, Any] = {} if known is None else json.loads(known.text)
    base = None
    if known is not None:
        reads[key] = known
        if random.random() < 0.8:
            base = Base(tuple(Written(*version) for version in known.versions()), known.text.encode())
    uid = f"{random.getrandbits(64):016x}"
    for _ in range(random.choice((0, 0, 1))):
        _shake(random, document)
    if large and random.random() < 0.08:
        document[f"fill of {node.name}"] = uid + "x" * random.randrange(LARGE_BYTES, 8 * LARGE_BYTES)
    else:
        _set(random, document, uid)
    body = json.dumps(document).encode()
    while len(body) > BODY_BYTES_MAX:  # others have made it larger than one may write
        del document[max((name for name in document if uid not in str(document[name])), key=_size(document))]
        body = json.dumps(document).encode()
    return Write(PROFILES, key, body, base), uid


def beyond(write: Write, operation: Operation) -> set[str]:
    """Fields that a write changed though its client had not; nothing where it had to be put whole."""
    change = json.loads(operation.body or "{}")
    if operation.op != MERGE or write.base is None or operation.parent is None or "over" in change:
        return set()
    if "-" in change["change"]:
        return set()
    read, put = json.loads(write.base.body), json.loads(write.body or b"{}")
    changed = {name for name in read.keys() | put.keys() if not _same(read, put, name)}
    return {item[1:] for item in change["change"]} - changed


def _same(one: dict[str, Any], two: dict[str, Any], name: str) -> bool:
    return name in one and name in two and json.dumps(one[name]) == json.dumps(two[name])


def _size(document: dict[str, Any]) -> Callable[[str], int]:
    return lambda name: len(str(document[name]))


def decision(random: Random, node: SimulatedNode, request: RequestId) -> Message | None:
    """A person's decision about a conflict or a deleted document of this node, if there is one."""
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
