"""Lines of level DEBUG by which a request is followed, from its client by its version to peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from entgldb.messages.client import Commit, CommitDone, Refused, RequestId
from entgldb.messages.errors import ProtocolError
from entgldb.messages.local.actors import Applied, Apply
from entgldb.messages.schema import Message
from entgldb.storage.rules.header import decode

VERSIONS_TOLD_MAX: Final = 8
"""Versions that one line names."""
CALL_CHARACTERS_MAX: Final = 128
"""Of the name of a call; with escapes, so that a name cannot make up a line."""


def traced(request: Message, answer: Message) -> str:
    """One line; empty for what is no write. It names versions, never a document, a key or a secret."""
    named = getattr(request, "request", None)
    if isinstance(named, RequestId):
        kind = "" if isinstance(request, Commit) else f"{request} of "
        name = f"{kind}request {named.client.hex()}:{named.counter}"
        if call := getattr(request, "call", ""):
            name += f" ({call[:CALL_CHARACTERS_MAX]!a})"
        if isinstance(answer, CommitDone):
            return (
                f"{name} is committed as {_told((w.origin, w.seq) for w in answer.written)}, lsn {answer.lsn}"
            )
        return f"{name} is refused: {answer.code}" if isinstance(answer, Refused) else ""
    if isinstance(request, Apply) and isinstance(answer, Applied):
        return f"{request.peer or request.session} brought {_told(_versions(request))}"
    return ""


def _versions(batch: Apply) -> Iterable[tuple[str, int]]:
    for entry in batch.entries:
        try:
            header = decode(entry.header)
        except ProtocolError:
            continue
        yield header.origin, header.seq


def _told(versions: Iterable[tuple[str, int]]) -> str:
    found = [f"{origin} {seq}" for origin, seq in versions]
    more = f" and {len(found) - VERSIONS_TOLD_MAX} more" if len(found) > VERSIONS_TOLD_MAX else ""
    return ", ".join(found[:VERSIONS_TOLD_MAX]) + more
