"""Requests that a client makes for somebody whom it has let in: the audit log names both."""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Asker, Context, refuse
from entgldb.actors.store.auditing.acts import who_is
from entgldb.messages import client, codec
from entgldb.messages.administration import Behalf
from entgldb.messages.errors import EntglError, NotAllowedError
from entgldb.messages.schema import Channel, Message

_IN_OWN_NAME: Final = (Behalf, client.Relay, client.Follow, client.Piece)


class Acting:
    """A client that asks for somebody whom it has let in."""

    def __init__(self, asker: Asker, who: str) -> None:
        self._asker = asker
        self.who = f"{who} by {who_is(asker)}"

    def answer(self, message: Message) -> None:
        self._asker.answer(message)


def meant(message: Behalf, ctx: Context) -> Message | None:
    """The request that a client makes for somebody else, who asks from now on; None: it was refused."""
    try:
        inner = codec.decode(message.payload, Channel.CLIENT).message
    except EntglError as fault:
        refuse(ctx, fault)
        return None
    if isinstance(inner, _IN_OWN_NAME) or ctx.asker is None:
        refuse(ctx, NotAllowedError(f"{inner} is asked for in one's own name"))
        return None
    ctx.asker = Acting(ctx.asker, message.who)
    return inner
