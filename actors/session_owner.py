"""What sync and gateway have in common: they own sessions, to which the other actors speak."""

from __future__ import annotations

from entgldb.actors.behaviour import Behaviour, Context
from entgldb.actors.session import Session
from entgldb.messages.checking import TellPeers, VerifySay
from entgldb.messages.local import Committed, Seen
from entgldb.messages.schema import Json


class SessionOwner(Behaviour):
    """An actor with sessions."""

    def sessions(self) -> list[Session]:
        """Those that run now."""
        raise NotImplementedError

    def stalls(self, ctx: Context) -> list[Json]:
        """Alarms of sessions that make no progress."""
        return [one for session in self.sessions() for one in session.alarms(ctx)]

    def on_committed(self, message: Committed, ctx: Context) -> None:
        sessions = self.sessions()
        for session in sessions:
            session.committed(message.first, message.last, message.own_last, ctx)
        if sessions:
            ctx.tell("store", Seen(self.name, message.last))

    def on_tell_peers(self, message: TellPeers, ctx: Context) -> None:
        for session in self.sessions():
            session.introduce(ctx)

    def on_verify_say(self, message: VerifySay, ctx: Context) -> None:
        for session in self.sessions():
            session.say(message)
