"""Members: their names, and the key that is pinned to each.

In a cluster a node id is the name; in a cloud node, which may serve several clusters, an origin is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from entgldb.messages.model import Origin, node_of
from entgldb.messages.schema import Json

KEY: Final = re.compile(r"[0-9a-f]{64}")
"""The key of a certificate in ``_system_nodes``: SHA-256 of its SubjectPublicKeyInfo (RFC 5280), in hex."""


def member_name(origin: Origin, *, cloud: bool) -> str:
    """Under which name a member's row is kept; ``cloud``: by a node in the cloud role."""
    return origin if cloud else node_of(origin)


def pinned_key(node: Mapping[str, Json]) -> str:
    """The one key whose certificates count for a node; empty: none does yet, so the first to come will.

    ``p = Accepted, or else the key k of Keys with the least (Keys[k], k)``. Documents of this collection
    merge field by field, so that every node has the same union of keys, in whatever order they came.
    """
    accepted = node.get("Accepted")
    if isinstance(accepted, str) and KEY.fullmatch(accepted):
        return accepted
    keys = node.get("Keys")
    known = keys.items() if isinstance(keys, dict) else ()
    since = [(at_ms, key) for key, at_ms in known if KEY.fullmatch(key) and isinstance(at_ms, int)]
    return min(since, default=(0, ""))[1]
