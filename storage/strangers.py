"""Which origins may still be taken: a version vector has room for so many, and anybody can invent one.

An origin that a member has named as its own in its last word always finds room. All others (incarnations of
the past, nodes not heard of yet, inventions) have a bounded part of it, and what one peer brings a part of
that. The entries of an origin that is not taken are left out and counted; everything else flows on. They
come again, because our vector lacks them, and are taken as soon as the origin counts.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Final

from entgldb.messages.limits import MEMBERS_MAX, ORIGINS_MAX, STRANGERS_MAX, STRANGERS_PER_PEER_MAX
from entgldb.messages.model import Origin
from entgldb.messages.schema import Json

CODE: Final = "too-many-origins"


class Strangers:
    """Of one store, since it was opened."""

    def __init__(self) -> None:
        self._brought: Counter[str] = Counter()
        self._since_ms: int | None = None

    def admits(
        self, connection: sqlite3.Connection, known: int, origin: Origin, peer: str, now_ms: int
    ) -> bool:
        """Whether ``origin``, which ``peer`` brings, is taken beside ``known`` others."""
        own_word = connection.execute("SELECT 1 FROM _entgldb_members WHERE origin = ?", (origin,)).fetchone()
        if own_word is not None and known < ORIGINS_MAX:
            return True
        if known < STRANGERS_MAX and self._brought[peer] < STRANGERS_PER_PEER_MAX:
            self._note(peer)
            return True
        self._since_ms = now_ms if self._since_ms is None else self._since_ms
        return False

    def alarms(self, known: int) -> list[Json]:
        """Whether any was left out, in the form of ``actors.alarms``."""
        if self._since_ms is None:
            return []
        text = f"{known} origins are known; those that no member has named as its own are not taken any more"
        return [{"code": CODE, "subject": "", "text": text, "since_ms": self._since_ms}]

    def _note(self, peer: str) -> None:
        if peer not in self._brought and len(self._brought) >= MEMBERS_MAX:
            del self._brought[min(self._brought, key=lambda name: (self._brought[name], name))]
        self._brought[peer] += 1
