"""Which nodes get no link, whatever certificate or token they show: expelled, retired, of another key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from entgldb.actors.alarms import Alarms
from entgldb.actors.behaviour import Context
from entgldb.actors.nodes import read_documents, retired_origins
from entgldb.actors.ports import LogReader
from entgldb.actors.sync.members.key_watch import KeyWatch
from entgldb.actors.sync.peer_link import PeerLink
from entgldb.messages.errors import Reason, by_a_code, if_accepted, known_reason, of_expelled
from entgldb.messages.limits import MEMBERS_MAX
from entgldb.messages.local.members import KeyShown
from entgldb.messages.model import NODES, Origin
from entgldb.messages.schema import Json
from entgldb.messages.wire import Bye
from entgldb.storage.rules.members import pinned_key

COMES_NO_MORE: Final = 600.0
"""Seconds after which a machine that was refused and has not come again is told of no more."""
REFUSED_MAX: Final = 32
"""Machines that are told of; of more, those that came last."""
SAID: Final = {
    Reason.RETIRED: "the node was retired",
    Reason.WRONG_KEY: f"its key is not the one pinned for it; {if_accepted('{own}', '{by}')}",
    Reason.EXPELLED: of_expelled("{own}"),
    Reason.NOT_A_MEMBER: (
        f"a node was expelled, and nobody has let this one in since; {if_accepted('{own}', '{by}')}"
    ),
    Reason.OLD_KEY: f"the cluster key by which it came does not count; {by_a_code('{own}')}",
}
"""Ends of links, as members say them, that an operator of this node has to hear of. ``by``: who says so."""


class Refused(NamedTuple):
    """A machine that has shown a certificate of the cluster and got no link."""

    reason: Reason
    came: float
    at_ms: int


class Admittance:
    """By ``_system_nodes``. Of a node that nobody has a key of, the first one to come is taken."""

    def __init__(self, key: str, held: Callable[[], str]) -> None:
        """``key``: of the certificate that this node shows; empty: none. ``held``: as ``KeyWatch`` has it."""
        self._key = key
        self.retired: frozenset[Origin] = frozenset()
        """Incarnations that are refused."""
        self.told: dict[Reason, str] = {}
        """Why members have refused this very node, and the last of them."""
        self.expelled: frozenset[str] = frozenset()
        """Node ids, for good."""
        self.keys = KeyWatch(held)
        self._known: set[str] = set()
        """Node ids of the list of members."""
        self._pins: dict[str, str] = {}
        self._met: dict[str, str] = {}
        """Node id -> the key by which a node without a pin has come first."""
        self._refused: dict[tuple[str, str], Refused] = {}
        """Node id and key; the longest away first."""
        self._alarms = Alarms()

    def begin(self, log: LogReader, ctx: Context) -> None:
        """This node is there again: it tells its own key, and knows what its file says."""
        self.learn(read_documents(log, NODES))
        self.look(log, ctx)
        if self._key:
            ctx.tell("node", KeyShown(self._key))

    def look(self, log: LogReader, ctx: Context) -> None:
        """At each heartbeat."""
        self.expelled = log.expelled()
        self.keys.look(log, self.expelled, ctx)

    def learn(self, nodes: Iterable[Mapping[str, Json]]) -> None:
        """The documents of ``_system_nodes`` as they stand."""
        known = list(nodes)
        self.keys.nodes = known
        self.retired = retired_origins(known)
        self._known = {str(node.get("NodeId")) for node in known}
        self._pins = {str(node.get("NodeId")): key for node in known if (key := pinned_key(node))}
        self._met = {name: key for name, key in self._met.items() if name not in self._pins}
        for name, key in list(self._refused):
            if self._pins.get(name) == key:
                self._forget((name, key))

    def fault(self, peer: PeerLink, ctx: Context) -> tuple[Reason, str] | None:
        """Why there is to be no link with a peer, with a text for it; or None."""
        said = "" if peer.hello is None else peer.hello.node_id
        if peer.certified in self.expelled or said in self.expelled:
            return Reason.EXPELLED, f"{peer.certified or said} was expelled"
        if peer.hello is not None and peer.hello.origin in self.retired:
            return Reason.RETIRED, f"{peer.node_id} was retired"
        name, key = peer.certified, peer.key_shown
        if not key:
            return None
        if self.expelled and name not in self._known:
            # whoever was expelled knows the cluster key, and can call itself anything
            text = (
                f"{name} is in no list of members, and a node was expelled: entgldb members --accept {name}"
            )
            self._note((name, key), Refused(Reason.NOT_A_MEMBER, ctx.monotonic(), ctx.now_ms()), text)
            return Reason.NOT_A_MEMBER, text
        if name not in self._pins and len(self._met) < MEMBERS_MAX:
            self._met.setdefault(name, key)
        pinned = self._pins.get(name) or self._met.get(name, key)
        if key == pinned and self.keys.admits(name, key, peer.under):
            return None
        reason, text = Reason.OLD_KEY, f"{name} comes by an old cluster key: entgldb invite --for {name}"
        if key != pinned:
            reason, text = (
                Reason.WRONG_KEY,
                (
                    f"{name} shows key {key[:16]}, but {pinned[:16]} is pinned: another machine has its name,"
                    f" or it was made anew; if so: entgldb members --accept {name}"
                ),
            )
        self._note((name, key), Refused(reason, ctx.monotonic(), ctx.now_ms()), text)
        return reason, text

    def was_told(self, peer: PeerLink, bye: Bye) -> None:
        """A peer has ended a link. Only a member of the cluster can know that we were retired."""
        reason = known_reason(bye.reason)
        if peer.certified and reason in SAID:
            self.told[reason] = peer.certified

    def linked(self, node_id: str) -> None:
        """A session with a member runs: what it has said of us before is over."""
        self.told = {reason: who for reason, who in self.told.items() if who != node_id}

    def report(self, own: Origin, ctx: Context) -> dict[str, Json]:
        retired = Reason.RETIRED in self.told or own in self.retired
        return {
            "retired": retired,
            "key": self._key or None,
            "refused": self.refused(ctx),
            "cluster_key": self.keys.report(),
        }

    def refused(self, ctx: Context) -> list[Json]:
        """The machines that came lately and got no link."""
        for who, found in list(self._refused.items()):
            if ctx.monotonic() - found.came >= COMES_NO_MORE:
                self._forget(who)
        return [
            {"node_id": name, "key": key, "reason": found.reason.value, "at_ms": found.at_ms}
            for (name, key), found in self._refused.items()
        ]

    def alarms(self, own: str, ctx: Context) -> list[Json]:
        """Those that stand now."""
        self.refused(ctx)
        for reason, why in SAID.items():
            if reason in self.told and reason != Reason.RETIRED:
                by = self.told[reason]
                text = f"{by} refuses this node: {why.format(own=own, by=by)}"
                self._alarms.sound(reason.value, own, text, ctx.now_ms())
            else:
                self._alarms.clear(reason.value, own)
        return self._alarms.report() + self.keys.alarms()

    def _note(self, who: tuple[str, str], found: Refused, text: str) -> None:
        if who in self._refused:
            self._forget(who)
        if len(self._refused) >= REFUSED_MAX:
            self._forget(next(iter(self._refused)))
        self._refused[who] = found
        self._alarms.sound(found.reason.value, who[0], text, found.at_ms)

    def _forget(self, who: tuple[str, str]) -> None:
        reason = self._refused.pop(who).reason
        if all((name, found.reason) != (who[0], reason) for (name, _), found in self._refused.items()):
            self._alarms.clear(reason.value, who[0])
