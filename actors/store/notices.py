"""The hearers of commits: clients that follow, the links' owners, and the node actor of system documents.

A tell per commit to several owners of links collapses under load; with an answer awaited and ranges merged,
writes go on at full speed and no queue grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entgldb.actors.behaviour import Asker, Context
from entgldb.actors.nodes import read_documents
from entgldb.actors.ports import Store
from entgldb.messages import client
from entgldb.messages.local.actors import Committed, RemotePeersChanged, Seen, Tick
from entgldb.messages.local.members import NodesChanged
from entgldb.messages.model import NODES, REMOTE_PEERS
from entgldb.messages.schema import Json, Message

INTERVAL = 0.005
"""Seconds between two Committed to the same receiver."""
UNANSWERED_MAX = 1.0
"""Seconds after which a receiver that never said Seen (it was restarted, or has no session) is told again."""
_TOLD: dict[str, Callable[[tuple[dict[str, Json], ...]], Message]] = {
    REMOTE_PEERS: RemotePeersChanged,
    NODES: NodesChanged,
}
"""System collections whose documents the node actor is told."""


@dataclass
class _Receiver:
    name: str
    pending: Committed | None = None
    waiting: bool = False
    sent_at: float = -1e9


class Notices:
    """One unanswered Committed per receiver, one per INTERVAL, ranges merged."""

    def __init__(self, *receivers: str) -> None:
        self._receivers = {name: _Receiver(name) for name in receivers}
        self._timer = False

    def committed(self, rows: Committed, ctx: Context) -> None:
        """Rows of the log are durable."""
        for receiver in self._receivers.values():
            old = receiver.pending or rows
            receiver.pending = Committed(old.first, rows.last, max(rows.own_last, old.own_last))
            self._send(receiver, ctx)

    def seen(self, name: str, ctx: Context) -> None:
        """``name`` is ready for more."""
        receiver = self._receivers.get(name)
        if receiver is not None:
            receiver.waiting = False
            self._send(receiver, ctx)

    def tick(self, ctx: Context) -> None:
        """The interval is over."""
        self._timer = False
        for receiver in self._receivers.values():
            self._send(receiver, ctx)

    def _send(self, receiver: _Receiver, ctx: Context) -> None:
        if receiver.pending is None:
            return
        age = ctx.monotonic() - receiver.sent_at
        if receiver.waiting and age < UNANSWERED_MAX:
            return
        if age < INTERVAL:
            if not self._timer:
                self._timer = True
                ctx.after(INTERVAL, Tick("committed"))
            return
        ctx.tell(receiver.name, receiver.pending)
        receiver.pending, receiver.waiting, receiver.sent_at = None, True, ctx.monotonic()


class Hearers:
    """A part of the store."""

    def __init__(self) -> None:
        self._followers: dict[Asker, None] = {}
        self.links = Notices("sync", "gateway")
        """Their owners."""
        self._told: dict[str, tuple[dict[str, Json], ...]] = {}
        """System collection -> its documents as the node actor knows them."""

    def __len__(self) -> int:
        """How many clients follow."""
        return len(self._followers)

    def on_follow(self, message: client.Follow, ctx: Context) -> None:
        if ctx.asker is not None:
            self._followers.setdefault(ctx.asker)
        ctx.answer(ctx.asker, client.Done())

    def on_seen(self, message: Seen, ctx: Context) -> None:
        self.links.seen(message.name, ctx)

    def advanced(self, last: int) -> None:
        """Tell the clients, who read the file themselves."""
        self._followers = {one: None for one in self._followers if not getattr(one, "closed", False)}
        for follower in self._followers:
            follower.answer(client.Advanced(last))

    def system(self, store: Store, ctx: Context) -> None:
        """Tell the node actor, where they have changed."""
        for collection, told_by in _TOLD.items():
            documents = tuple(read_documents(store, collection))
            if documents != self._told.get(collection):
                self._told[collection] = documents
                ctx.tell("node", told_by(documents))
