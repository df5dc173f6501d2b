"""For whom a client asks: the audit log of the node tells it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from entgldb.messages.client import Commit, Follow, Relay
from entgldb.messages.schema import Message

FOR: Final = ContextVar("FOR", default="")
"""For whom this program asks, such as the name of an HTTP token; empty: for itself."""
_AS_THEY_ARE: Final = (Commit, Follow, Relay)
"""Requests that have no row in the log, or go to another actor."""


def on_behalf(message: Message) -> Message:
    """The request as it goes to the node: under the name of the one for whom it is made."""
    who = FOR.get()
    if not who or isinstance(message, _AS_THEY_ARE):
        return message
    from entgldb.messages.administration import Behalf
    from entgldb.messages.codec import encode

    return Behalf(who, encode(message))
