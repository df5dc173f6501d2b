"""Real TLS links of one side, without an actor behind them."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from entgldb.actors.side_loop import SideLoop
from entgldb.actors.tls.identity import LanIdentity
from entgldb.actors.tls.links import TlsLinks
from entgldb.messages import wire
from entgldb.messages.local.actors import LinkDown, LinkUp
from entgldb.messages.schema import Message
from entgldb.messages.secret import Secret

KEY = Secret(bytes(range(32)))
BEAT = wire.Heartbeat(1, 0, 0)


def bye(size: int) -> wire.Bye:
    return wire.Bye("stopping", "x" * size)


class Node:
    """A side loop with its links, drained as a host does."""

    def __init__(self, links: Callable[[SideLoop], TlsLinks]) -> None:
        self.loop = SideLoop("test")
        self.links = links(self.loop)
        self.loop.start()
        self.seen: list[Message] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.links.port()}"

    def until(self, done: Callable[[], object], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"seen only {[self.told(m) for m in self.seen[-5:]]}"
            select.select([self.loop.fileno()], [], [], 0.2)
            self.seen += [message for _, message in self.loop.drain()]

    def expect(self, kind: type[Message], count: int = 1) -> list[Message]:
        self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.seen if type(message) is kind]

    def up(self) -> LinkUp:
        found = self.expect(LinkUp)[-1]
        assert isinstance(found, LinkUp)
        return found

    def down(self) -> LinkDown:
        found = self.expect(LinkDown)[-1]
        assert isinstance(found, LinkDown)
        return found

    def told(self, message: Message) -> str:
        return f"{message} {getattr(message, 'reason', '')} {getattr(message, 'text', '')}"


def identity(folder: Path, node_id: str, key: Secret = KEY, now: datetime | None = None) -> LanIdentity:
    folder.mkdir(exist_ok=True)
    (folder / "cluster.key").write_bytes(key.reveal())
    return LanIdentity.load(folder, folder / "cluster.key", node_id, now)
