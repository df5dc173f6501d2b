"""Which origins may still be taken: a version vector has room for so many, and anybody can invent one.

An origin that a member has named as its own in its last word always finds room. All others (incarnations of
the past, nodes not heard of yet, inventions) have a bounded part of it, and what one peer brings a part of
that. The entries of an origin that is not taken are left out and counted; everything else flows on. They
come again, because our vector lacks them, and are taken as soon as the origin counts.

Some places stay free whatever comes, for the incarnations under which the node itself goes on one day: peers
refuse a vector that is larger than a vector may be.

A snapshot is counted as its entries would be, and taken whole or not at all. The first one that an empty node
takes from its own LAN may bring all that a vector has room for: such a node has heard of no members yet.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from entgldb.messages.limits import (
    MEMBERS_MAX,
    ORIGINS_MAX,
    ORIGINS_WARNED,
    STRANGERS_MAX,
    STRANGERS_PER_PEER_MAX,
    TAKEN_MAX,
)
from entgldb.messages.model import Origin, node_of
from entgldb.messages.schema import Json
from entgldb.storage.file.state import State
from entgldb.storage.file.undo import Journal, UndoDict

TOO_MANY_ORIGINS: Final = "too-many-origins"
ORIGINS_FILLING: Final = "origins-filling"


class Strangers:
    """Of one store, since it was opened."""

    def __init__(self, journal: Journal) -> None:
        """``journal``: of the transaction in which they are taken; they are not counted where it fails."""
        self._brought = UndoDict[str, int](journal=journal)
        self._since_ms: int | None = None
        self._filling_ms: int | None = None

    def admits(
        self, connection: sqlite3.Connection, known: int, origin: Origin, peer: str, now_ms: int
    ) -> bool:
        """Whether ``origin``, which ``peer`` brings, is taken beside ``known`` others."""
        own_word = connection.execute("SELECT 1 FROM _entgldb_members WHERE origin = ?", (origin,)).fetchone()
        if own_word is not None and known < TAKEN_MAX:
            return True
        if known < STRANGERS_MAX and self._brought.get(peer, 0) < STRANGERS_PER_PEER_MAX:
            self.note(peer, 1)
            return True
        self.left_out(now_ms)
        return False

    def in_snapshot(
        self, connection: sqlite3.Connection, state: State, heads: Iterable[Origin], peer: str, *, cloud: bool
    ) -> int | None:
        """How many strangers a snapshot from ``peer`` brings, for ``note``; None where it is not taken."""
        new = {origin for origin in heads if origin not in state.origins}
        strangers = len(
            new - {origin for (origin,) in connection.execute("SELECT origin FROM _entgldb_members")}
        )
        known, mine = len(state.origins), node_of(state.own)
        if known + len(new) > TAKEN_MAX:
            return None
        if not strangers or (not cloud and all(node_of(origin) == mine for origin in state.origins)):
            return 0
        if (
            known + strangers > STRANGERS_MAX
            or self._brought.get(peer, 0) + strangers > STRANGERS_PER_PEER_MAX
        ):
            return None
        return strangers

    def look(self, known: int, now_ms: int) -> None:
        """Note when so many are known that an operator should hear of it."""
        if known < ORIGINS_WARNED:
            self._filling_ms = None
        elif self._filling_ms is None:
            self._filling_ms = now_ms

    def alarms(self, origins: Collection[Origin]) -> list[Json]:
        """Whether room runs short or any was left out, in the form of ``actors.alarms``."""
        known, found = len(origins), list[Json]()
        if self._since_ms is not None:
            text = "origins are known; those that no member has named as its own are not taken any more"
            found.append(_alarm(TOO_MANY_ORIGINS, f"{known} {text}", self._since_ms))
        if self._filling_ms is not None:
            ((most, times),) = Counter(map(node_of, origins)).most_common(1)
            text = (
                f"{known} of {ORIGINS_MAX} origins are known, {times} of them of {most}, and none retires:"
                " find out why nodes begin anew so often (incarnations in their status);"
                " before there is no room, begin the cluster anew from an export"
            )
            found.append(_alarm(ORIGINS_FILLING, text, self._filling_ms))
        return found

    def note(self, peer: str, strangers: int) -> None:
        """So many that ``peer`` has brought were taken."""
        if peer not in self._brought and len(self._brought) >= MEMBERS_MAX:
            del self._brought[min(self._brought, key=lambda name: (self._brought[name], name))]
        self._brought[peer] = self._brought.get(peer, 0) + strangers

    def left_out(self, now_ms: int) -> None:
        """Something was not taken: the alarm stands from the first time."""
        self._since_ms = now_ms if self._since_ms is None else self._since_ms


def _alarm(code: str, text: str, since_ms: int) -> Json:
    return {"code": code, "subject": "", "text": text, "since_ms": since_ms}
