"""A link and a probe judge the Hello of a cloud alike: where a probe succeeds a link opens."""

from __future__ import annotations

from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.model import node_of


def fault(hello: wire.Hello, expected: str, own: str) -> tuple[Reason, str] | None:
    """Why the node ``own`` opens no session with the listed cloud node ``expected``; None: it opens one."""
    if hello.protocol_min > wire.PROTOCOL_MAX or hello.protocol_max < wire.PROTOCOL_MIN:
        return Reason.WRONG_PROTOCOL, f"protocols {hello.protocol_min} to {hello.protocol_max}"
    if hello.role != "cloud" or hello.node_id == own:
        return Reason.WRONG_NODE, f"{hello.node_id:.64} is no cloud node"
    if node_of(hello.origin) != hello.node_id:
        return Reason.MALFORMED, "the origin in Hello belongs to another node"
    if hello.node_id != expected:
        return Reason.WRONG_NODE, f"it calls itself {hello.node_id:.64}"
    return None
