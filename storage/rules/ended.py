"""Where logs end: said by the key of an entry, ``<origin>/<last seq>``, as headers go everywhere.

A node ends its own log in a later one (``_system_ended``). A member ends those of a node that it expels
(``_system_expelled``): one entry for each log that it knows, and one for any other log of that node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from entgldb.messages.limits import SIGNATURE_BYTES
from entgldb.messages.model import ENDED, NODE_ID, Origin, node_of
from entgldb.storage.rules.header import DELETE, Header, is_origin

_ANY: Final = "0" * 32
"""No key has this incarnation."""
PROOFS_MAX: Final = 64
"""Members whose proof of an end stands in its document, and signatures that are looked at there. All members
have the same one, and some may leave."""
_SIGNATURE: Final = re.compile(f"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")


def ending(origin: Origin, seq: int) -> str:
    """The key that says so."""
    return f"{origin}/{seq}"


def ended_by(header: Header) -> tuple[Origin, int] | None:
    """Which log an entry ends, and behind which seq; None for any other entry.

    A node may end its own logs and nobody else's.
    """
    if header.collection != ENDED or header.op == DELETE:
        return None
    end = read_ending(header.key)
    if end is None or node_of(end[0]) != node_of(header.origin) or end[0] == header.origin:
        return None
    return end


def any_log(node_id: str) -> Origin:
    """It stands for all logs of a node of which nothing else is said."""
    return f"{node_id}/{_ANY}"


def is_any_log(origin: Origin) -> bool:
    """Whether an origin is one of those."""
    return origin.endswith(f"/{_ANY}")


def end_of_expelled(ended: Mapping[Origin, int], origin: Origin) -> int | None:
    """The last seq that counts of a log whose node was expelled; None: it was not. ``ended``: all ends."""
    other = ended.get(any_log(node_of(origin)))
    return None if other is None else ended.get(origin, other)


def read_ending(key: str) -> tuple[Origin, int] | None:
    """The log and its last seq that a key names; None where it is no such key."""
    origin, _, seq = key.rpartition("/")
    if is_origin(origin) and seq.isascii() and seq.isdigit() and len(seq) < 19:
        return origin, int(seq)
    return None


def said_in(body: str | bytes | None) -> dict[str, dict[str, Any]]:
    """The words of members about a node that was expelled, and nothing else that stands in the document.

    ``Said``: node id -> when it has, by its own clock. ``Signatures``: node id -> the signature of the last
    entry that counts, in hex. A member that leaves takes no proof of another along.
    """
    found = {} if body is None else json.loads(body)
    said, proofs = (_members(found, name) for name in ("Said", "Signatures"))
    told = {name: at_ms for name, at_ms in said.items() if type(at_ms) is int}
    shown = {name: text for name, text in proofs.items() if name in told and _is_signature(text)}
    return {"Said": told} | ({"Signatures": shown} if shown else {})


def signatures_in(body: str | bytes | None) -> list[bytes]:
    """The signatures of the last entry that counts, as members say: mostly one; none where nobody had it."""
    found = dict.fromkeys(said_in(body).get("Signatures", {}).values())
    return [bytes.fromhex(text) for text in list(found)[:PROOFS_MAX]]


def _members(found: Any, name: str) -> dict[str, Any]:
    said = found.get(name) if isinstance(found, dict) else None
    said = said if isinstance(said, dict) else {}
    return {node_id: one for node_id, one in said.items() if NODE_ID.fullmatch(node_id)}


def _is_signature(text: Any) -> bool:
    return isinstance(text, str) and _SIGNATURE.fullmatch(text) is not None


def read_expulsion(key: str, own: Origin) -> tuple[Origin, int] | None:
    """The same for a node that was expelled; None where it is the node that reads: it keeps what it has."""
    end = read_ending(key)
    return None if end is None or node_of(end[0]) == node_of(own) else end
