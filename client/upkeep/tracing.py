"""Spans of the requests to a node, by a tracer that the user brings: one of OpenTelemetry fits."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from entgldb.messages.client import Commit
from entgldb.messages.schema import Message

SYSTEM = "entgldb"


class Tracer(Protocol):
    """As ``opentelemetry.trace.Tracer``, of which it is a part."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[object]:
        """A span that lasts as long as the ``with`` around it, inside the one that is current."""
        ...


def span(tracer: Tracer, message: Message) -> AbstractContextManager[object]:
    """The span of one request until its answer; names as in OpenTelemetry's conventions."""
    name = type(message).__name__
    attributes: dict[str, str | int] = {"db.system.name": SYSTEM, "db.operation.name": name}
    if isinstance(message, Commit):
        attributes["db.operation.batch.size"] = len(message.writes)
        if len({write.collection for write in message.writes}) == 1:
            attributes["db.collection.name"] = message.writes[0].collection
    return tracer.start_as_current_span(f"{SYSTEM} {name}", attributes=attributes)
