"""How far two nodes are behind each other in seconds, and whether that gets any better: the watchdog.

Looked at every sync interval. An alarm (``no-progress``) means: something is missing, the peer is heard, and
for half a minute nothing has moved. Entries that are held, in quarantine, or pruned here so that only a
snapshot helps, do not count: they have names of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from entgldb.actors.alarms import alarm
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import LogReader
from entgldb.messages.limits import STRANGERS_PER_PEER_MAX
from entgldb.messages.model import Origin, Vector
from entgldb.messages.schema import Json
from entgldb.storage.rules.clock import ms_of
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.vector import lag, seqs

NO_PROGRESS: Final = "no-progress"
STALLED_SECONDS: Final = 30.0
"""Seconds of lag without movement, while the peer is heard."""
SEEN_MAX: Final = 256
"""Marks of when we first saw that we lack something."""
SNAPSHOT_TAGS: Final = range(24, 28)
"""Messages that carry a snapshot: while they come, something moves."""

Seqs = Mapping[Origin, int]


class Telling:
    """Of our vector and of what we hold: what the peer was told last, under which number.

    While both stay as they are, the number alone is told. A peer that has not got that number says so.
    """

    def __init__(self) -> None:
        self.number = 0
        self.vector: Vector = {}
        self.again = False
        """The peer lacks what was told last."""
        self._held: Mapping[Origin, int] = {}

    def is_new(self, vector: Vector, held: Mapping[Origin, int]) -> bool:
        """Whether the number alone is not enough."""
        return self.again or not self.number or (vector, held) != (self.vector, self._held)

    def tell(self, vector: Vector, held: Mapping[Origin, int]) -> None:
        """All of it is told."""
        self.number, self.again = self.number + 1, False
        self.vector, self._held = vector, held


class Hearing:
    """The peer's vector and what it holds, as it told them last."""

    def __init__(self) -> None:
        self.missed = False
        """It has named a number under which nothing came."""
        self._number = 0
        self._vector: Vector = {}
        self._held: Mapping[Origin, int] = {}

    def take(self, number: int, vector: Vector | None, held: Mapping[Origin, int] | None) -> bool:
        """It tells a number, with a vector or without; whether ``known`` is now what it means."""
        if vector is not None and number >= self._number:
            self._number, self._vector, self._held = number, vector, held or {}
        self.missed = number > self._number
        return number == self._number

    @property
    def known(self) -> tuple[Vector, Mapping[Origin, int]]:
        """The vector, and what is held."""
        return self._vector, self._held


class _Way:
    """One direction: since when nothing has moved."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.since_ms = 0
        self.lag = 0
        self._covered = -1

    def look(self, lag: int, covered: int, ctx: Context) -> None:
        """``lag``: operations missing that could come; ``covered``: the number that is there of those that
        should be."""
        if not lag:
            self.since = None
        elif self.since is None or covered != self._covered:
            self.since, self.since_ms = ctx.monotonic(), ctx.now_ms()
        self.lag, self._covered = lag, covered

    def stalled(self, now: float) -> bool:
        return self.since is not None and now - self.since >= STALLED_SECONDS


class Progress:
    """Of one session."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._ways = {"in": _Way(), "out": _Way()}
        self._seen: deque[tuple[Origin, int, float]] = deque(maxlen=SEEN_MAX)
        self._newest: dict[Origin, int] = {}
        self._told: tuple[str, ...] = ()

    def touch(self, tag: int, ctx: Context) -> None:
        """A frame came or was asked for that moves a snapshot on."""
        if tag in SNAPSHOT_TAGS:
            for way in self._ways:
                self.moved(way, ctx)

    def moved(self, way: str, ctx: Context) -> None:
        """Bytes of what is missing go ``in`` or ``out``: a large document may take minutes."""
        one = self._ways[way]
        one.since = None if one.since is None else ctx.monotonic()

    def look(
        self, mine: Vector, theirs: Seqs | None, peer: Seqs | None, peer_held: Seqs, name: str, ctx: Context
    ) -> None:
        """``theirs``: the vector that the peer tells; ``peer``: the same as far as sending goes."""
        have = seqs(mine)
        forked = self._log.forked()
        if theirs is not None:
            self._note(have, theirs, ctx)
            self._ways["in"].look(*_missing(have, theirs, self._excused(have, theirs)), ctx)
        if peer is not None:
            floors = self._log.floors()
            behind = {origin for origin, floor in floors.items() if peer.get(origin, 0) < floor}
            self._ways["out"].look(*_missing(peer, have, forked | behind | set(peer_held)), ctx)
        self._tell(name, ctx)

    def lacks(self, theirs: Seqs) -> int:
        """Operations of ``theirs`` that are missing here and could come."""
        have = seqs(self._log.vector())
        return _missing(have, theirs, self._excused(have, theirs))[0] if lag(have, theirs) else 0

    def _excused(self, have: Seqs, theirs: Seqs) -> set[Origin]:
        """The origins whose entries do not come, or not now, whatever the peer sends."""
        crowded = len(have) >= STRANGERS_PER_PEER_MAX
        left_out = {origin for origin in theirs if origin not in have} if crowded else set()
        return self._log.forked() | self._log.wants_no_more(theirs).keys() | left_out

    def seconds_in(self, mine: Vector, lag: int | None, ctx: Context) -> float | None:
        """Since when we know that we lack the oldest operation that we lack; None while unknown."""
        if not lag:
            return None if lag is None else 0.0
        for origin, seq, at in self._seen:
            if mine.get(origin, (0, b""))[0] < seq:
                return ctx.monotonic() - at
        return None

    def seconds_out(self, peer: Seqs | None, lag: int | None, ctx: Context) -> float | None:
        """Age of the oldest operation that the peer lacks, by its writer's clock; None while unknown."""
        if not lag or peer is None:
            return None if lag is None or peer is None else 0.0
        rows = self._log.rows(self._log.first_missing(peer), 1)
        return max(0.0, (ctx.now_ms() - ms_of(decode(rows[0].header).hlc)) / 1000) if rows else None

    def alarms(self, name: str, ctx: Context) -> list[Json]:
        """The alarms that stand now."""
        return [
            alarm(
                NO_PROGRESS, f"{name} {way}", _text(way, self._ways[way].lag, name), self._ways[way].since_ms
            )
            for way in self._stalled(ctx)
        ]

    def _stalled(self, ctx: Context) -> tuple[str, ...]:
        return tuple(name for name, way in self._ways.items() if way.stalled(ctx.monotonic()))

    def _note(self, have: Seqs, theirs: Seqs, ctx: Context) -> None:
        while self._seen and have.get(self._seen[0][0], 0) >= self._seen[0][1]:
            self._seen.popleft()
        for origin, seq in theirs.items():
            if seq > max(have.get(origin, 0), self._newest.get(origin, 0)):
                self._newest[origin] = seq
                if len(self._seen) < SEEN_MAX:
                    self._seen.append((origin, seq, ctx.monotonic()))

    def _tell(self, name: str, ctx: Context) -> None:
        stalled = self._stalled(ctx)
        for way in set(stalled) - set(self._told):
            ctx.log(WARNING, f"{NO_PROGRESS}: {_text(way, self._ways[way].lag, name)}")
        self._told = stalled


def _missing(have: Seqs, wanted: Seqs, excused: set[Origin]) -> tuple[int, int]:
    """Operations missing, and those that are there, of origins that are not excused."""
    counted = {origin: seq for origin, seq in wanted.items() if origin not in excused}
    missing = lag(have, counted)
    return missing, sum(counted.values()) - missing


def _text(way: str, lag: int, name: str) -> str:
    if way == "in":
        return f"{lag} operations of {name} are missing here and nothing comes: entgldb tell sync SyncNow"
    return f"{lag} operations are missing on {name} and it takes nothing: entgldb status on {name}"
