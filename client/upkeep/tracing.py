"""Requests to a node, followed: by the name of the call that led to them, and by spans of a tracer.

The tracer is the user's: one of OpenTelemetry fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Final, Protocol

from entgldb.messages.client import Commit, RequestId, Write
from entgldb.messages.schema import Message

SYSTEM: Final = "entgldb"
CALL: Final = ContextVar("CALL", default="")
"""The name of the call that runs; commits carry it."""


class Tracer(Protocol):
    """As ``opentelemetry.trace.Tracer``, of which it is a part."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[object]:
        """A span that lasts as long as the ``with`` around it, inside the one that is current."""
        ...


def commit(request: RequestId, writes: tuple[Write, ...]) -> Commit:
    """A commit that carries the name of the call."""
    return Commit(request, writes, CALL.get())


def span(tracer: Tracer, message: Message) -> AbstractContextManager[object]:
    """The span of one request until its answer; names as in OpenTelemetry's conventions."""
    name = type(message).__name__
    attributes: dict[str, str | int] = {"db.system.name": SYSTEM, "db.operation.name": name}
    if isinstance(message, Commit):
        attributes["db.operation.batch.size"] = len(message.writes)
        if len({write.collection for write in message.writes}) == 1:
            attributes["db.collection.name"] = message.writes[0].collection
    return tracer.start_as_current_span(f"{SYSTEM} {name}", attributes=attributes)
