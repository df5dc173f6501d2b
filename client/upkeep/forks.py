"""Logs of which two branches exist, with both proofs, in a form that a person reads."""

from __future__ import annotations

import sqlite3
from typing import Any

from entgldb.messages.errors import ProtocolError
from entgldb.storage.repair.forks import forks
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import DELETE, decode, digest


def listed(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Each fork: ``origin``, ``seq``, ``at_ms`` (found here), ``quarantined``, ``ours`` and ``theirs``."""
    return [
        {
            "origin": one.origin,
            "seq": one.seq,
            "at_ms": one.at_ms,
            "quarantined": one.open,
            "ours": _proof(one.ours),
            "theirs": _proof(one.theirs),
        }
        for one in forks(connection)
    ]


def _proof(raw: bytes) -> dict[str, Any] | None:
    """A header as a person may want to see it, and its bytes for whoever wants to check it."""
    if not raw:
        return None
    try:
        header = decode(raw)
    except ProtocolError:
        return {"header": raw.hex()}
    return {
        "seq": header.seq,
        "collection": header.collection,
        "key": header.key,
        "op": "delete" if header.op == DELETE else "put",
        "at_ms": ms_of(header.hlc),
        "hash": digest(raw).hex(),
        "header": raw.hex(),
    }
