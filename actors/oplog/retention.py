"""OplogActor's decisions about forgetting, by ``storage.rules.retention``; the store carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.nodes import call_roll
from entgldb.actors.ports import OplogReader
from entgldb.messages.local.members import Collect, Collected, Prune, Pruned
from entgldb.messages.model import Origin
from entgldb.messages.schema import Json
from entgldb.messages.settings import OplogSettings
from entgldb.storage.rules import retention as rules
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.members import member_name
from entgldb.storage.rules.retention import HOUR_MS, Survey

LOOK_SECONDS: Final = 30.0
"""Between two looks; more often where retention is short."""
ANSWER_SECONDS: Final = 10.0
"""After that a step is given up: the store died with it."""
MARK_PART: Final = 50
"""Marks in the time of retention: by a fiftieth of it a row may be kept longer."""


class Retention:
    """One look at a time; a step to the store only while there is something to do."""

    def __init__(self) -> None:
        self._up_since_ms: int | None = None
        self._lived = (0, 0.0)
        """The life of the store when we last looked, and our monotonic clock then."""
        self._asked_at: float | None = None
        self._noticed: dict[str, dict[Origin, int]] = {}
        """Retired node -> our vector when we first saw that it is."""
        self._pending: tuple[dict[Origin, int], dict[Origin, int]] | None = None
        """Settled versions, and what our vector must cover before their tombstones may go."""
        self._ripe: dict[Origin, int] = {}
        """The last such versions for which it does."""
        self._passed: tuple[dict[Origin, int], dict[Origin, int]] | None = None
        """Ripe versions and floors of the last whole pass over the tombstones."""

    @property
    def busy(self) -> bool:
        """Whether the store has a step to answer."""
        return self._asked_at is not None

    @staticmethod
    def interval(settings: OplogSettings) -> float:
        """Seconds to the next look."""
        return min(LOOK_SECONDS, max(0.5, settings.retention_hours * 3600 / MARK_PART))

    def look(self, log: OplogReader, settings: OplogSettings, ctx: Context) -> None:
        """Tell the store what may go, unless it is still busy with the last step."""
        if self._up_since_ms is None:
            self._up_since_ms = self._lived_ms(log, ctx)
        if self._asked_at is not None and ctx.monotonic() - self._asked_at < ANSWER_SECONDS:
            return
        if self._asked_at is not None:
            self._asked_at = self._passed = None
        found = self.survey(log, settings, ctx)
        self._ripen(found, log)
        if self._wants_prune(found, log, settings, ctx):
            self._prune(found, log, settings, ctx)
        else:
            self._collect(log, ctx)

    def on_pruned(self, done: Pruned, log: OplogReader, settings: OplogSettings, ctx: Context) -> None:
        """The next step, or the tombstones whose rows have just gone."""
        self._asked_at = None
        if done.more:
            self._prune(self.survey(log, settings, ctx), log, settings, ctx)
        else:
            self._collect(log, ctx)

    def on_collected(self, done: Collected, log: OplogReader, ctx: Context) -> None:
        self._asked_at = None
        if done.more and self._passed is not None:
            self._asked_at = ctx.monotonic()
            ctx.tell("store", Collect(self._passed[0], done.after_lsn))

    def survey(self, log: OplogReader, settings: OplogSettings, ctx: Context) -> Survey:
        """The members that count, and the entries that all of them have."""
        ours = _ours(log, settings)
        counted, away = self._counted(log, settings, ours, ctx)
        old = rules.old_enough(log.marks(), self._lived_ms(log, ctx), settings.retention_hours * HOUR_MS)
        return rules.survey(ours, counted, old, away)

    def status(self, log: OplogReader, settings: OplogSettings, ctx: Context) -> dict[str, Json]:
        """The entries that are kept, and the members for whose sake.

        ``held_back_by``: member -> ``entries``, ``tombstones``, ``since`` (ms since 1970, null: never heard).
        ``tombstones_wait_for``: origins of which we still lack what some member has.
        """
        found = self.survey(log, settings, ctx)
        held = rules.held_back(found)
        for voice in found.voices:
            if voice.name in held:
                held[voice.name]["tombstones"] = log.tombstones(voice.vector, found.old)
        for voice in found.away:
            if tombstones := log.tombstones(voice.vector, found.old):
                held[voice.name] = {"entries": 0, "tombstones": tombstones, "since": voice.heard_ms}
        have = vectors.seqs(log.vector())
        waits_for = (
            []
            if self._pending is None
            else sorted(origin for origin, seq in self._pending[1].items() if have.get(origin, 0) < seq)
        )
        return {
            "held_back_by": held,
            "floors": log.floors(),
            "log_bytes": log.log_bytes(),
            "tombstones_wait_for": waits_for,
        }

    def _counted(
        self, log: OplogReader, settings: OplogSettings, ours: dict[Origin, int], ctx: Context
    ) -> tuple[list[rules.Voice], list[rules.Voice]]:
        """The members that count, and those that count for tombstones only."""
        cloud = settings.role == "cloud"
        own, rows = member_name(log.origin, cloud=cloud), log.members()
        if cloud:
            members = rules.voices(rows.keys() - {own}, rows)
            retired: set[str] = set()
        else:
            roll = call_roll(log, rows)
            members = rules.voices(roll.members - {own}, rows)
            retired = self._known_to_all(roll.retired, members, ours)
        lived_ms = self._lived_ms(log, ctx)
        up_since = lived_ms if self._up_since_ms is None else self._up_since_ms
        limit_ms = int(settings.absence_limit * HOUR_MS)
        members = [voice for voice in members if voice.name not in retired]
        absent = rules.absent(members, lived_ms, up_since, limit_ms)
        # a cloud hears of no retirement: of an absent node it would keep every tombstone for good
        away = [] if cloud else [voice for voice in members if voice.name in absent]
        return [voice for voice in members if voice.name not in absent], away

    def _known_to_all(
        self, retired: set[str], members: list[rules.Voice], ours: dict[Origin, int]
    ) -> set[str]:
        """Retired nodes that are left out: all others know that they are retired.

        From then on nobody takes anything from them any more, and what was taken before is covered by the
        rows of whoever took it.
        """
        self._noticed = {name: self._noticed.get(name, dict(ours)) for name in retired}
        others = [voice for voice in members if voice.name not in retired]
        return {
            name
            for name, since in self._noticed.items()
            if all(vectors.dominates(voice.vector, since) for voice in others)
        }

    def _ripen(self, found: Survey, log: OplogReader) -> None:
        """Two steps: remember what is settled and what the witnesses cover, go on when we cover that too."""
        have = vectors.seqs(log.vector())
        if self._pending is not None and not vectors.dominates(found.witnessed, self._pending[1]):
            # a witness was retired since, with writes that nobody is waiting for any more
            self._pending = None
        if self._pending is None and found.settled != self._ripe:
            self._pending = found.settled, found.witnessed
        if self._pending is not None and vectors.dominates(have, self._pending[1]):
            self._ripe, self._pending = self._pending[0], None

    def _wants_prune(self, found: Survey, log: OplogReader, settings: OplogSettings, ctx: Context) -> bool:
        floors = log.floors()
        if any(seq > floors.get(origin, 0) for origin, seq in found.aged.items()):
            return True
        if log.log_bytes() > settings.retention_bytes and not vectors.dominates(floors, found.stable):
            return True
        marks = log.marks()
        fresh = not marks or self._lived_ms(log, ctx) - marks[-1][0] >= _apart_ms(settings)
        return fresh and (marks[-1][1] if marks else {}) != vectors.seqs(log.vector())

    def _prune(self, found: Survey, log: OplogReader, settings: OplogSettings, ctx: Context) -> None:
        self._asked_at = ctx.monotonic()
        aged_ms = self._lived_ms(log, ctx) - int(settings.retention_hours * HOUR_MS)
        order = Prune(found.aged, found.stable, settings.retention_bytes, _apart_ms(settings), aged_ms)
        ctx.tell("store", order)

    def _lived_ms(self, log: OplogReader, ctx: Context) -> int:
        """The life of the store now: the time that it last committed, and the time since we saw that.

        Nothing here is measured by the wall clock: a step of it would make everything old at once.
        """
        lived_ms, at = self._lived
        passed = int((ctx.monotonic() - at) * 1000) if self._up_since_ms is not None else 0
        self._lived = max(log.lived_ms(), lived_ms + passed), ctx.monotonic()
        return self._lived[0]

    def _collect(self, log: OplogReader, ctx: Context) -> None:
        """A pass over the tombstones whose rows are pruned, when more of them may go than at the last."""
        state = self._ripe, log.floors()
        if state == self._passed or not _overlap(*state):
            return
        self._passed, self._asked_at = state, ctx.monotonic()
        ctx.tell("store", Collect(state[0], 0))


def _ours(log: OplogReader, settings: OplogSettings) -> dict[Origin, int]:
    return vectors.seqs(log.vector()) if settings.role == "cloud" else log.acknowledged()


def _apart_ms(settings: OplogSettings) -> int:
    return int(settings.retention_hours * HOUR_MS / MARK_PART)


def _overlap(ripe: Mapping[Origin, int], floors: Mapping[Origin, int]) -> bool:
    return any(min(seq, floors.get(origin, 0)) > 0 for origin, seq in ripe.items())
