"""The way from a ``Database`` to a simulated node: while a call waits, virtual time passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from entgldb.client.transport import closed
from entgldb.client.wire import unless_refused
from entgldb.launch.embedded.host import Answer, Follower
from entgldb.launch.embedded.transport import checked
from entgldb.launch.testing.node import SimulatedNode
from entgldb.launch.testing.world import World
from entgldb.messages import codec
from entgldb.messages.client import Follow, Relay
from entgldb.messages.errors import NoAnswerError, NoNodeError
from entgldb.messages.schema import Message
from entgldb.storage.documents.query import Documents

AGAIN_SECONDS: Final = 0.05
"""Virtual seconds to the next attempt, while a node starts."""
FEED_SECONDS: Final = 600.0
"""Virtual seconds in which a feed that waits sees a change: in one thread nobody else could end the wait."""


class VirtualDocuments(Documents):
    """Reads on the node's own connection, of which there is only one to a database in memory."""

    def data_version(self) -> int:
        return self._connection.total_changes

    def close(self) -> None:
        """The file stays with the node."""


class VirtualTransport:
    """Implements ``client.transport.Transport``."""

    def __init__(self, node: SimulatedNode, world: World) -> None:
        self._node, self._world = node, world
        self._closed = False

    def attach(self, patience: float) -> None:
        self._check()

    def open_documents(self) -> Documents:
        return VirtualDocuments(self._node.store.connection)

    def request(self, message: Message, timeout: float) -> Message:
        return self.begin(message, timeout)()

    def begin(self, message: Message, timeout: float) -> Callable[[], Message]:
        asked, answer = checked(message), Answer()
        until = self._world.time + timeout
        while not self._ask(asked, answer):
            if self._world.time >= until:
                raise self._no_answer(timeout)
            self._world.run(AGAIN_SECONDS)

        def wait() -> Message:
            self._world.run(max(0.0, until - self._world.time), lambda: answer.message is not None)
            if answer.message is None:
                raise self._no_answer(timeout)
            return unless_refused(answer.message)

        return wait

    def ask(self, actor: str, message: Message, timeout: float) -> Message:
        return self.request(Relay(actor, codec.encode(message)), timeout)

    def ask_aside(self, actor: str, message: Message, timeout: float) -> Message:
        return self.ask(actor, message, timeout)

    def follow(self) -> VirtualNews:
        return VirtualNews(self._node, self._world)

    def now(self) -> float:
        return self._world.time

    def pause(self, seconds: float) -> None:
        self._world.run(seconds)

    def let_go(self) -> None:
        """It has nothing that could be had anew."""

    def close(self) -> None:
        self._closed = True

    def _ask(self, message: Message, answer: Answer) -> bool:
        self._check()
        return self._node.ask("store", message, answer)

    def _check(self) -> None:
        if self._closed:
            raise closed()
        if not self._node.up:
            raise NoNodeError(f"{self._node.name} is down", hint="start() it")

    def _no_answer(self, seconds: float) -> NoAnswerError:
        return NoAnswerError(
            f"no answer from {self._node.name} within {seconds:.1f} s of virtual time", definite=False
        )


class VirtualNews:
    """Implements ``client.transport.News``."""

    def __init__(self, node: SimulatedNode, world: World) -> None:
        self._node, self._world = node, world
        self._told = False
        self._since = world.time
        self._life = 0
        self._follower = Follower(self._news)
        self._begin()

    def wait_pushed(self, timeout: float) -> bool:
        if self._life != self._node.life:
            self._begin()
        self._world.run(timeout, lambda: self._told)
        told, self._told = self._told, False
        if told:
            self._since = self._world.time
        elif self._world.time - self._since > FEED_SECONDS:
            raise AssertionError(f"a feed has waited for {FEED_SECONDS:.0f} s of virtual time for a change")
        return told

    def close(self) -> None:
        self._follower.close()

    def _begin(self) -> None:
        """Follow the store in the node's present life."""
        while not self._node.ask("store", Follow(), self._follower):
            if not self._node.up:
                raise AssertionError(f"{self._node.name} is down: a feed that waits there waits for ever")
            self._world.run(AGAIN_SECONDS)
        self._life = self._node.life

    def _news(self) -> None:
        self._told = True
