"""What sync and gateway have in common: they own sessions, to which the other actors speak."""

from __future__ import annotations

from collections.abc import Callable

from entgldb.actors.behaviour import ERROR, Behaviour, Context
from entgldb.actors.session import Session
from entgldb.messages.checking import TellPeers, VerifySay
from entgldb.messages.errors import Reason
from entgldb.messages.local import Committed, Seen
from entgldb.messages.schema import Json


class SessionOwner(Behaviour):
    """An actor with sessions."""

    def sessions(self) -> list[Session]:
        """Those that run now."""
        raise NotImplementedError

    def each(self, act: Callable[[Session], object], ctx: Context) -> None:
        """Let every session act. One that fails harms no other: its link is closed at the next heartbeat."""
        for session in self.sessions():
            try:
                act(session)
            except Exception as fault:  # noqa: BLE001 -- a bug met by one session must not silence the others
                session.failed = True
                self.count(Reason.HANDLER_FAILED)
                ctx.log(ERROR, f"session {session.name} failed: {type(fault).__name__} {fault}")

    def stalls(self, ctx: Context) -> list[Json]:
        """Alarms of sessions that make no progress."""
        return [one for session in self.sessions() for one in session.alarms(ctx)]

    def on_committed(self, message: Committed, ctx: Context) -> None:
        first, last, own_last = message.first, message.last, message.own_last
        self.each(lambda session: session.committed(first, last, own_last, ctx), ctx)
        if self.sessions():
            ctx.tell("store", Seen(self.name, message.last))

    def on_tell_peers(self, message: TellPeers, ctx: Context) -> None:
        self.each(lambda session: session.introduce(ctx), ctx)

    def on_verify_say(self, message: VerifySay, ctx: Context) -> None:
        self.each(lambda session: session.say(message), ctx)
