"""Names of members: by node id in a cluster, by origin in a cloud node, which may serve several clusters."""

from __future__ import annotations

from entgldb.messages.model import Origin, node_of


def member_name(origin: Origin, *, cloud: bool) -> str:
    """Under which name a member's row is kept; ``cloud``: by a node in the cloud role."""
    return origin if cloud else node_of(origin)
