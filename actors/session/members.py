"""The table of members: each node's report on itself, told on and on in heartbeats.

Of two rows of one node the greater counter wins, so that order and repetition of telling do not matter, and
in a chain A-B-C A learns of C by B. Each node counts up its own row and no other, as in the failure
detectors of the Gossip family (van Renesse, Minsky and Hayden, "A Gossip-Style Failure Detection
Service", 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import Context
from entgldb.actors.ports import LogReader
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import COUNT_MAX, MEMBERS_BYTES_MAX, MEMBERS_MAX
from entgldb.messages.model import Origin, check_node_id, node_of
from entgldb.messages.schema import Json
from entgldb.messages.wire import Member
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.members import member_name
from entgldb.storage.rules.results import Heard

IDLE_SECONDS: Final = 30.0
"""A node whose vector stands still counts up its row that often, so that its last-seen stays true."""
OWN_COUNTER_MAX: Final = COUNT_MAX // 2
"""Others may say that we had counted so far: counted on from here, our rows stay within what they take."""
UNHEARD: Final = "not-heard"
UNHEARD_SECONDS: Final = 2 * IDLE_SECONDS + 15
"""A member whose row stands still for longer is missed."""
KEEP_AFTER: Final = 5
"""Sync intervals between two writings to the file."""


class Members:
    """The rows that one actor knows."""

    def __init__(self, *, cloud: bool, cluster: str = "") -> None:
        self.cloud, self.cluster = cloud, cluster
        self.settled: dict[Origin, int] | None = None
        """The entries that all have, as our row says; None: it says nothing yet."""
        self.rows: dict[str, Heard] = {}
        """Name -> last row, in the order in which they came: the longest silent is the first."""
        self.unkept: set[str] = set()
        """Names whose row has changed since ``changed`` was last asked."""
        self._own = ""
        self._counter = 0
        self._counted_at = -IDLE_SECONDS
        self._looked_at = -IDLE_SECONDS
        self._kept_at = -IDLE_SECONDS

    def load(self, rows: Mapping[str, Heard]) -> None:
        """Take over what the file says, at the start or again."""
        for name, heard in rows.items():
            known = self.rows.get(name)
            if known is None or heard.row.counter > known.row.counter:
                self._put(name, heard)

    def reload(self, log: LogReader, interval: float, ctx: Context) -> None:
        """Now and then what sync has kept, for an actor that hears only one side of it."""
        if ctx.monotonic() - self._looked_at >= KEEP_AFTER * interval:
            self._looked_at = ctx.monotonic()
            self.load(log.members())

    def hear(self, row: Member, now_ms: int) -> bool:
        """A row came; whether it is news."""
        name = member_name(row.origin, cloud=self.cloud)
        known = self.rows.get(name)
        if known is not None and row.counter <= known.row.counter:
            return False
        if name == self._own:
            if not self.cloud and row.counter <= OWN_COUNTER_MAX:
                # an earlier life of ours counted further: a node that has that row takes ours only beyond it
                self._counter = max(self._counter, row.counter)
                self._counted_at = -IDLE_SECONDS
            return False
        if known is None and not _is_origin(row.origin):
            return False
        if known is None and len(self.rows) >= MEMBERS_MAX:
            self._forget_oldest()
        self._put(name, Heard(row, now_ms))
        self.unkept.add(name)
        return True

    def _put(self, name: str, heard: Heard) -> None:
        self.rows.pop(name, None)
        self.rows[name] = heard

    def _forget_oldest(self) -> None:
        """Drop the row that has been silent the longest: in a cloud, mostly of an incarnation that is no
        more."""
        name = next(name for name in self.rows if name != self._own)
        del self.rows[name]
        self.unkept.discard(name)

    def look(self, log: LogReader, interval: float, ctx: Context) -> None:
        """Count up our own row when our vector has moved, at most once an interval, and now and then."""
        now = ctx.monotonic()
        if now - self._looked_at < interval - 0.01:
            return
        self._looked_at = now
        origin = log.origin
        vector = vectors.seqs(log.vector()) if self.cloud else log.acknowledged()
        self._own = member_name(origin, cloud=self.cloud)
        known, unsettled = self.rows.get(self._own), self._unsettled(vector)
        said = None if known is None else (known.row.origin, known.row.vector, known.row.unsettled)
        same = said == (origin, vector, unsettled)
        if same and now - self._counted_at < IDLE_SECONDS:
            return
        before = max(self._counter, 0 if known is None else known.row.counter)
        self._counter = max(before + 1, ctx.now_ms())
        self._counted_at = now
        row = Member(origin, self._counter, ctx.now_ms(), vector, log.shown_ms(), self.cluster, unsettled)
        self.rows[self._own] = Heard(row, ctx.now_ms())
        self.unkept.add(self._own)

    def _unsettled(self, vector: Mapping[Origin, int]) -> dict[Origin, int] | None:
        settled = self.settled
        if settled is None:
            return None
        return {name: settled.get(name, 0) for name, seq in vector.items() if settled.get(name, 0) < seq}

    def changed(self, interval: float, ctx: Context) -> tuple[Member, ...]:
        """Rows to be written to the file now; mostly none."""
        if not self.unkept or ctx.monotonic() - self._kept_at < KEEP_AFTER * interval:
            return ()
        self._kept_at = ctx.monotonic()
        names, self.unkept = sorted(self.unkept), set()
        return tuple(self.rows[name].row for name in names)

    def own(self) -> list[str]:
        """Our own name, once there is a row of it."""
        return [self._own] if self._own in self.rows else []


class Gossip:
    """The rows that one session was told, and the rule which of them to believe.

    A cloud node speaks for itself only: it serves several clusters, which need not know of each other, and
    it must not be able to say what a node of the cluster has. A cluster tells a cloud of its own nodes, and
    of clouds.
    """

    def __init__(
        self,
        members: Members,
        speaks_for: str = "",
        cluster: str = "",
        linked: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """``linked``: the node ids of the members that we hear by ourselves."""
        self._members, self._cluster, self._linked = members, cluster, linked
        self._speaks_for = speaks_for
        """A node id: the other end is that cloud node. Empty: it tells of everybody."""
        self._told: dict[str, int] = {}
        self._told_near: tuple[str, ...] = ()
        self.near: frozenset[str] = frozenset()
        """The node ids that the other end hears by itself."""

    def news(self) -> tuple[Member, ...]:
        """Rows the other end has not been told yet, within the size of a heartbeat.

        Those that it hears by itself are left out: in a mesh each would come to it from everybody.
        """
        members, size, own = self._members, 0, self._members.own()
        found: list[Member] = []
        for name in own if members.cloud else members.rows:
            row = members.rows[name].row
            if row.counter <= self._told.get(name, -1) or (name in self.near and name not in own):
                continue
            size += 96 + sum(len(origin) + 10 for origin in (*row.vector, *(row.unsettled or ())))
            if found and size > MEMBERS_BYTES_MAX:
                break
            self._told[name] = row.counter
            found.append(row)
        return tuple(found)

    def tell_near(self, rows: Iterable[Member]) -> tuple[str, ...] | None:
        """Whom we hear by ourselves, for a heartbeat with these rows; None where that need not be said.

        With our own row it is said again, as that is: a heartbeat may be lost.
        """
        own, near = self._members.own(), tuple(sorted(self._linked()))
        again = any(member_name(row.origin, cloud=self._members.cloud) in own for row in rows)
        if near == self._told_near and not (near and again):
            return None
        self._told_near = near
        return near

    def heard_near(self, names: Iterable[str]) -> None:
        """The other end has said whom it hears by itself."""
        self.near = frozenset(names)

    def heard(self, rows: Iterable[Member], now_ms: int) -> list[Member]:
        """Take rows of the other end; those that were news."""
        found = []
        for row in rows:
            if self._speaks_for and node_of(row.origin) != self._speaks_for:
                continue
            if self._members.cloud and row.cluster not in ("", self._cluster):
                continue
            name = member_name(row.origin, cloud=self._members.cloud)
            self._told[name] = max(row.counter, self._told.get(name, -1))
            if self._members.hear(row, now_ms):
                found.append(row)
        return found


class Unheard:
    """The members that should be there and are silent: neither linked nor told of by others. Times are of
    our own monotonic clock."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}
        """Name -> its counter, and when we first saw that."""

    def look(self, rows: Mapping[str, Heard], ctx: Context) -> None:
        """Often: note whose row has moved."""
        now = ctx.monotonic()
        for name, heard in rows.items():
            known = self._last.get(name)
            if known is None or known[0] != heard.row.counter:
                self._last[name] = heard.row.counter, now
        for name in self._last.keys() - rows.keys():
            del self._last[name]

    def alarms(self, expected: Mapping[str, Heard], linked: Container[str], ctx: Context) -> list[Json]:
        """One for all who are silent; ``expected`` holds ourselves too."""
        now = ctx.monotonic()
        silent = {
            name: heard.heard_ms
            for name, heard in expected.items()
            if name not in linked and now - self._last.get(name, (0, now))[1] > UNHEARD_SECONDS
        }
        if not silent:
            return []
        since = min(silent.values())
        text = (
            f"{len(silent)} of {len(expected)} members not heard since"
            f" {datetime.fromtimestamp(since / 1000, UTC):%F %T} UTC: {', '.join(sorted(silent))};"
            " retire one that will not come back: entgldb nodes"
        )
        return [alarm(UNHEARD, "", text, since)]


def shown(heard: Heard) -> dict[str, Json]:
    """A row as status shows it; times in milliseconds since 1970."""
    row = heard.row
    return {"origin": row.origin, "seen_ms": row.seen_ms, "heard_ms": heard.heard_ms, "vector": row.vector}


def _is_origin(origin: str) -> bool:
    try:
        check_node_id(node_of(origin))
    except InvalidError:
        return False
    return True
