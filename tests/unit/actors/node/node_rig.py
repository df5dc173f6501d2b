"""NodeKeeper with pretended children."""

from __future__ import annotations

from typing import Any

from entgldb.actors.behaviour import Life
from entgldb.actors.node.behaviour import NodeKeeper
from entgldb.messages import codec
from entgldb.messages.client import Report, Status
from entgldb.messages.local.actors import Boot, ChildExited, Configure, Ready, StopNow, Stopped
from entgldb.messages.schema import Channel, Json, Message
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)
from tests.support.fake_context import FakeAsker, FakeContext

CHILDREN = ["store", "oplog", "sync", "election", "gateway"]


def settings(**changes: Any) -> NodeSettings:
    seeds = changes.pop("seeds", ())
    fields: dict[str, Any] = {
        "store": StoreSettings("n1", "/d", "lan", "c"),
        "oplog": OplogSettings("n1", "/d"),
        "sync": SyncSettings("n1", "/d", "lan", "c", "127.0.0.1:0", seeds=seeds),
        "election": ElectionSettings("n1", "lan"),
        "gateway": GatewaySettings("n1", "/d", "lan", "c"),
        **changes,
    }
    return NodeSettings(**fields)


class Rig(FakeContext):
    """``spawned`` lists every start; ``deaf`` children answer nothing."""

    def __init__(self, chosen: NodeSettings | None = None, known: dict[str, Json] | None = None) -> None:
        super().__init__()
        self.spawned: list[str] = []
        self.deaf: set[str] = set()
        self.synced: Json = None
        self.known = known or {}
        self.lives: dict[str, Life] = {}
        """Signs of life of each child that does not turn its loop; the others do."""
        self.killed: list[str] = []
        self.boot = FakeAsker()
        self.node = self.behaviour = NodeKeeper(chosen or settings())
        self.node.identity = {"pid": 99, "address": "4099"}
        self.node.start(self)
        self.asker = self.boot
        self.hand(Boot(self.node.settings))
        self.asker = None

    def spawn(self, name: str) -> None:
        self.spawned.append(name)

    def kill(self, name: str) -> None:
        self.killed.append(name)
        self.lives.pop(name, None)
        self.hand(ChildExited(name))

    def look(self, name: str) -> Life:
        if name not in self.spawned:
            return self.lives.get(name, Life())
        return self.lives.get(name) or Life(int(self.monotonic() * 1000), "", "S", self.monotonic())

    def forward(self, actor: str, payload: bytes) -> None:
        question = codec.decode(payload, Channel.LOCAL).message
        if actor in self.deaf:
            return
        self.told.append((actor, question))
        answer: Message
        if isinstance(question, StopNow):
            answer = Stopped(actor)
        else:
            assert isinstance(question, Status)
            answer = Report({"peers": [{"synced": self.synced}]} if actor == "sync" else {"is": actor})
        self.answer(self.asker, answer)

    def ready(self, name: str) -> None:
        facts: dict[str, Json] = {"address": str(4000 + CHILDREN.index(name))}
        if name == "store":
            facts |= {"known_peers": self.known, "origin": "n1/00"}
        if name == "sync":
            facts["port"] = 7000
        self.hand(Ready(name, 100 + CHILDREN.index(name), facts))

    def all_ready(self) -> Rig:
        for name in CHILDREN:
            self.ready(name)
        return self

    def configured(self) -> list[str]:
        return [actor for actor, message in self.told if isinstance(message, Configure)]
