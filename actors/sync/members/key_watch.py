"""Which key of the cluster counts, who has not taken it yet, and who may still come by an older one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import Context
from entgldb.actors.nodes import is_retired
from entgldb.actors.ports import LogReader
from entgldb.messages.schema import Json
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, KEY_WINDOW_MS, MANY_KEYS, Rotation


class KeyWatch:
    """By ``_system_keys`` and ``_system_nodes``.

    A link under another key than the one that counts is admitted iff the one that counts was sealed for the
    node and certificate at its other end, or the window is open. The window ends ``KEY_WINDOW_MS`` after the
    key was made, or once each member has taken it, or once a node was expelled.
    """

    def __init__(self, held: Callable[[], str]) -> None:
        """``held``: the id of the key that this node has taken, by its file."""
        self.nodes: list[Mapping[str, Json]] = []
        """The documents of ``_system_nodes``."""
        self._rotation: Rotation | None = None
        self.held = held
        self._waiting: list[str] = []
        self._open = True

    def look(self, log: LogReader, expelled: frozenset[str], ctx: Context) -> None:
        """At each heartbeat."""
        self._rotation = rotation = log.rotation()
        if rotation is None:
            return
        out = {*expelled, *(str(node.get("NodeId")) for node in self.nodes if is_retired(node))}
        self._waiting = rotation.waits_for(self.nodes, out)
        self._open = rotation.is_open(self._waiting, expelled, max(ctx.now_ms(), log.high_mark_ms()))

    @property
    def rotated(self) -> bool:
        """Whether another key than the first of the cluster counts."""
        return self._rotation is not None

    def admits(self, node_id: str, key: str, under: str) -> bool:
        """Whether a node with this certificate may have a link that was made under a key of the cluster."""
        return self._rotation is None or self._open or not key or self.is_for(node_id, key, under)

    def is_for(self, node_id: str, key: str, under: str) -> bool:
        """Whether it has shown that the key which counts, or that this node has taken, was made for it."""
        rotation = self._rotation
        if rotation is None or not key:
            return False
        return (under != "" and under in (rotation.key_id, self.held())) or rotation.is_for(node_id, key)

    def alarms(self) -> list[Json]:
        """One where many keys were made: a member can make any number of them."""
        rotation = self._rotation
        if rotation is None or len(rotation.chain) < MANY_KEYS:
            return []
        left = CHAIN_MAX - len(rotation.chain)
        until = f"after {left} more" if left else "now"
        text = (
            f"{len(rotation.chain)} cluster keys or more were made, the last by {rotation.by}: {until} a"
            " cloud that is new to the cluster cannot be added. Expel a node that makes them without need:"
            " entgldb audit"
        )
        return [alarm("many-keys", rotation.by, text, rotation.at_ms)]

    def report(self) -> dict[str, Json] | None:
        """For ``status``; None while the first key of the cluster counts."""
        rotation = self._rotation
        return (
            None
            if rotation is None
            else {
                "key": rotation.key_id,
                "by": rotation.by,
                "at_ms": rotation.at_ms,
                "until_ms": rotation.at_ms + KEY_WINDOW_MS if self._open else None,
                "held": self.held(),
                "waiting": list(self._waiting),
                "lacking": list(rotation.lacking),
            }
        )
