"""The door of a cloud node that serves tenants: a link comes in as far as its token, and is given away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from entgldb.actors.behaviour import Context
from entgldb.actors.ports import TokenChecker
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages import codec
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import FrameIn, LinkDown, LinkUp, TokenChecked
from entgldb.messages.schema import Message


class Door(Sync):
    """The SyncActor's behaviour for the node itself: no link has a session here."""

    let_in: Callable[[TokenChecked, Context], None]
    """Called with the verdict on a token that was accepted."""
    _accepted: dict[int, TokenChecked]

    def start(self, ctx: Context) -> None:
        self._accepted = {}
        super().start(ctx)

    def on_token_checked(self, message: TokenChecked, ctx: Context) -> None:
        if not message.reason and message.link in self._open:
            self._accepted[message.link] = message
        super().on_token_checked(message, ctx)

    def on_link_down(self, message: LinkDown, ctx: Context) -> None:
        self._accepted.pop(message.link, None)
        super().on_link_down(message, ctx)

    def _serve(self, peer: PeerLink, ctx: Context, *, noted: bool = False) -> None:
        self.let_in(self._accepted[peer.link], ctx)

    def give_away(self, link: int) -> tuple[Message, ...]:
        """All that a link has told so far, as it came, for the behaviour that serves it from now on.

        Nothing where it is closing, or gone.
        """
        peer = self._open.get(link)
        if peer is None or peer.closing or peer.hello is None:
            return ()
        del self._open[link], self._accepted[link]
        return LinkUp(link, peer.inbound, peer.address, ""), FrameIn(link, codec.encode(peer.hello))

    def node_of(self, link: int) -> str:
        """The node that a link says it is of; empty where it is gone."""
        peer = self._open.get(link)
        return "" if peer is None else peer.node_id

    def turn_away(self, link: int, reason: Reason, text: str, ctx: Context) -> None:
        """Close a link that waits to be let in."""
        peer = self._open.get(link)
        if peer is not None:
            self.count(reason)
            self._close(peer, reason, text, ctx)


class Vouched:
    """The ``ports.TokenChecker`` of all tenants: the verdict that led a link there is not asked for again."""

    def __init__(self, checker: TokenChecker) -> None:
        self._checker = checker
        self._known: dict[int, TokenChecked] = {}
        self._ready: list[TokenChecked] = []

    def expect(self, verdict: TokenChecked) -> None:
        """The next token of that link was judged already."""
        self._known[verdict.link] = verdict

    def check(self, link: int, ticket: int, token: str) -> None:
        known = self._known.pop(link, None)
        if known is None:
            self._checker.check(link, ticket, token)
        else:
            self._ready.append(replace(known, ticket=ticket))

    def take(self) -> list[TokenChecked]:
        """The verdicts that were known, each once."""
        ready, self._ready = self._ready, []
        self._known.clear()
        return ready
