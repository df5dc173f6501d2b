"""The state of verification with a peer: the run we began, the run it began, and how the last one ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from entgldb.actors.oplog.walker import Listing, Walk
from entgldb.messages import wire
from entgldb.messages.local.verification import VerifyPeer
from entgldb.messages.model import Place
from entgldb.messages.schema import Json
from entgldb.storage.rules.comparing.reconcile import bucket_of, place_of
from entgldb.storage.rules.comparing.repair import Decision

KEYS_SHOWN_MAX: Final = 100
"""Keys that stand in ``status`` for each peer."""
PASSES_MAX: Final = 1_000
"""Looks at the ranges in one run: each repairs what fits into its messages."""
STUCK_MAX: Final = 5
"""Looks again, while the other side should replace its rows and does not, before the run ends."""
WAITS_MAX: Final = 5
"""Looks again, while all that differs is on its way, before the run ends."""


class Run:
    """Compared with one peer until nothing differs that could be repaired.

    Its first look at the ranges counts. After that it looks only at ranges that this look had no room for, or
    at which something was left to do: others have begun to differ since, while writes go on, and would keep
    it from ever coming to an end.
    """

    def __init__(self, number: int, *, fresh: bool, repair: bool) -> None:
        self.number = number
        self.fresh = fresh
        self.repair = repair
        self.passes = 0
        self.waits = 0
        self.first_bucket = 0
        self.left: set[int] = set()
        """Ranges that differ and did not fit into this pass."""
        self._open: set[int] | None = None
        """Ranges that are still to be looked at; None before the first pass: all are."""
        self.listing: Listing | None = None
        self.coming: frozenset[Place] = frozenset()
        """Keys of which the log still brings the peer an entry."""
        self.after = b""
        self.now: dict[Place | bytes, Decision] = {}
        """The decisions of this pass on rows that differ; bytes: where we have no row to tell the key by."""
        self._stuck = 0
        self._before: dict[Place | bytes, Decision] = {}
        self.found: dict[Place, Decision] = {}
        """The decisions of all passes."""

    def begin_pass(self) -> None:
        """Look again from the top."""
        self.passes += 1
        self.now = {}
        self.listing, self.after, self.left = None, b"", set()

    def open_among(self, ranges: list[int]) -> list[int]:
        """Those of the ranges that differ that are still to be looked at."""
        return ranges if self._open is None else [one for one in ranges if one in self._open]

    def take(self, ranges: list[int], taken: list[int]) -> None:
        """This pass lists only ``taken`` of the ranges that it has to look at."""
        self.left = set(ranges) - set(taken)
        self.first_bucket = taken[-1] + 1

    def note(self, places: tuple[Place, ...], decisions: tuple[str, ...]) -> None:
        """Take the decisions of the store."""
        for place, word in zip(places, decisions, strict=False):
            decision = Decision(word)
            if decision is not Decision.EQUAL:
                self.now[place] = decision
            if decision not in (Decision.EQUAL, Decision.WAIT):
                self.found[place] = decision

    def put_off(self, places: Iterable[Place | bytes]) -> None:
        """Nobody can decide about them now."""
        self.now.update((place, Decision.WAIT) for place in places)

    def again(self) -> float | None:
        """Seconds until the next pass, or None: the run is over."""
        kinds = Counter(self.now.values())
        waits = (Decision.WAIT, Decision.TAKE, Decision.KEEP) if self.repair else (Decision.WAIT,)
        self._open = self.left | {_range_of(place) for place, one in self.now.items() if one in waits}
        self._stuck = self._stuck + 1 if self.now == self._before and not self.left else 0
        self._before = dict(self.now)
        if self.passes >= PASSES_MAX:
            return None
        if self.repair and kinds[Decision.TAKE] + kinds[Decision.KEEP] and self._stuck < STUCK_MAX:
            return 1.0 if self._stuck else 0.2
        if self.left:
            return 0.0
        if kinds[Decision.WAIT] and self.waits < WAITS_MAX:
            self.waits += 1
            return 2.0
        return None

    @property
    def result(self) -> str:
        """One word for how it ended."""
        remaining = set(self.now.values())
        if not self.repair:
            remaining |= set(self.found.values())
        if remaining - {Decision.WAIT}:
            return "differing"
        if remaining:
            return "waiting"
        return "repaired" if self.found else "equal"


def _range_of(place: Place | bytes) -> int:
    return bucket_of(place if isinstance(place, bytes) else place_of(*place))


class Serving:
    """A run that the peer began."""

    def __init__(self, asked: wire.Ranges) -> None:
        self.number = asked.run
        self.asked = asked
        self.listing: Listing | None = None
        self.places: list[bytes] = []
        """The places at which the listing and the peer's items differ."""


class PeerState:
    """One session with a node that knows verification."""

    def __init__(self, peer: VerifyPeer) -> None:
        self.peer = peer
        self.run: Run | None = None
        self.serving: Serving | None = None
        self.summing = False
        """Whether the fingerprints are being made for the peer."""
        self.put_off = False
        """Whether the walk that it asked for waits."""
        self.fresh_from = 0.0
        """The peer may have no other walk before that moment."""
        self.walk: Walk | None = None
        """The walk that lists the peer's ranges, or None; a new one ends the one before."""
        self.pieces: list[bytes] = []
        """The pieces of one large row that is coming in."""
        self.heard_at = 0.0
        self.bytes = 0
        """Said and heard since the run began."""


class Outcome:
    """The last finished run with a node, as ``status`` shows it."""

    def __init__(self) -> None:
        self.run = 0
        self.at_ms: int | None = None
        self.result = "never"
        self.passes = 0
        self.bytes = 0
        self.keys: dict[Place, Decision] = {}
        self.waiting = 0
        self.repaired_here = 0
        """Rows replaced on this node since it started, in runs of either side."""

    def record(self, run: Run, state: PeerState, now_ms: int, result: str = "") -> None:
        """A run is over."""
        self.run, self.at_ms, self.result = run.number, now_ms, result or run.result
        self.passes, self.bytes = run.passes, state.bytes
        self.keys = dict(run.found)
        self.waiting = sum(1 for decision in run.now.values() if decision is Decision.WAIT)

    def row(self, node_id: str, *, running: bool) -> dict[str, Json]:
        """One row of ``verify`` in the status of oplog."""
        kinds = Counter(self.keys.values())
        return {
            "node_id": node_id,
            "run": self.run,
            "running": running,
            "at_ms": self.at_ms,
            "result": self.result,
            "passes": self.passes,
            "bytes": self.bytes,
            "differing": len(self.keys),
            "undecided": kinds[Decision.UNDECIDED],
            "waiting": self.waiting,
            "repaired_here": self.repaired_here,
            "keys": [
                [collection, key, decision.value]
                for (collection, key), decision in sorted(self.keys.items())[:KEYS_SHOWN_MAX]
            ],
        }
