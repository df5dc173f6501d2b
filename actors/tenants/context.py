"""The context of a behaviour that serves one tenant: its words reach that tenant's behaviours alone."""

from __future__ import annotations

from typing import Final

from entgldb.actors.behaviour import Asker, Context, Life
from entgldb.messages import codec
from entgldb.messages.errors import EntglError
from entgldb.messages.local.tenants import ForTenant
from entgldb.messages.schema import Message

CARRIERS: Final = frozenset({"store", "oplog", "sync"})
"""The actors that carry a behaviour for each tenant."""


class TenantContext:
    """For one message; ``outer`` is the actor's own context."""

    def __init__(self, outer: Context, tenant: str, life: int, asker: Asker | None) -> None:
        self._outer, self._tenant, self._life = outer, tenant, life
        self.random, self.asker = outer.random, asker

    def now_ms(self) -> int:
        return self._outer.now_ms()

    def monotonic(self) -> float:
        return self._outer.monotonic()

    def since_boot(self) -> float:
        return self._outer.since_boot()

    def tell(self, actor: str, message: Message) -> None:
        """A tenant has no node, election or gateway of its own: what it tells these goes nowhere."""
        if actor in CARRIERS:
            self._outer.tell(actor, ForTenant(self._tenant, codec.encode(message)))

    def answer(self, asker: Asker | None, message: Message) -> None:
        if asker is not None:
            asker.answer(message)

    def forward(self, actor: str, payload: bytes) -> None:
        raise EntglError("a tenant has no clients that ask other actors")

    def after(self, seconds: float, message: Message) -> None:
        self._outer.after(seconds, ForTenant(self._tenant, codec.encode(message), self._life))

    def spawn(self, name: str) -> None:
        raise EntglError("only a node has children")

    def kill(self, name: str) -> None:
        raise EntglError("only a node has children")

    def look(self, name: str) -> Life:
        raise EntglError("only a node has children")

    def busy(self, step: str) -> None:
        self._outer.busy(step)

    def log(self, level: int, text: str) -> None:
        self._outer.log(level, f"tenant {self._tenant}: {text}")
