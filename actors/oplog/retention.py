"""OplogActor's decisions about forgetting, by ``storage.rules.retention``; the store carries them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from entgldb.actors.behaviour import Context
from entgldb.actors.nodes import call_roll
from entgldb.actors.ports import LogReader
from entgldb.messages.local.members import Collect, Collected, Prune, Pruned, Settled
from entgldb.messages.model import Origin
from entgldb.messages.schema import Json
from entgldb.messages.settings import OplogSettings
from entgldb.storage.rules import retention as rules
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.members import member_name
from entgldb.storage.rules.results import Heard
from entgldb.storage.rules.retention import HOUR_MS, Survey

LOOK_SECONDS: Final = 30.0
"""Between two looks; more often where retention is short."""
ANSWER_SECONDS: Final = 10.0
"""After that a step is given up: the store died with it."""
MARK_PART: Final = 50
"""Marks in the time of retention: by a fiftieth of it a row may be kept longer."""


class Retention:
    """One look at a time; a step to the store only while there is something to do."""

    def __init__(self, log: LogReader, settings: OplogSettings) -> None:
        self.settings, self._log = settings, log
        self._up_since_ms: int | None = None
        self._lived = (0, 0.0)
        """The life of the store when we last looked, and our monotonic clock then."""
        self._asked_at: float | None = None
        self._noticed: dict[str, dict[Origin, int]] = {}
        """Retired node -> our vector when we first saw that it is."""
        self._pending: Survey | None = None
        """It waits until our vector covers what its witnesses have."""
        self._settled: dict[Origin, int] = {}
        """The entries that all have, by the last survey for which it did."""
        self._ripe: dict[Origin, int] = {}
        """The versions whose tombstones may go, by that."""
        self._passed: dict[Origin, int] | None = None
        """The versions of the last whole pass over the tombstones."""

    @property
    def busy(self) -> bool:
        """Whether the store has a step to answer."""
        return self._asked_at is not None

    @property
    def interval(self) -> float:
        """Seconds to the next look."""
        return min(LOOK_SECONDS, max(0.5, self.settings.retention_hours * 3600 / MARK_PART))

    def look(self, ctx: Context) -> None:
        """Tell the store what may go, unless it is still busy with the last step."""
        if self._up_since_ms is None:
            self._up_since_ms = self._lived_ms(ctx)
        if self._asked_at is not None:
            if ctx.monotonic() - self._asked_at < ANSWER_SECONDS:
                return
            self._asked_at = self._passed = None
        found = self.survey(ctx)
        self._ripen(found, self._ours())
        ctx.tell("sync", Settled(self._settled))
        if self._wants_prune(found, ctx):
            self._prune(found, ctx)
        else:
            self._collect(ctx)

    def on_pruned(self, done: Pruned, ctx: Context) -> None:
        """The next step, or the tombstones whose rows have just gone."""
        self._asked_at = None
        if done.more:
            self._prune(self.survey(ctx), ctx)
        else:
            self._collect(ctx)

    def on_collected(self, done: Collected, ctx: Context) -> None:
        self._asked_at = None
        if done.waits:
            self._passed = None
        elif done.more and self._passed is not None:
            self._asked_at = ctx.monotonic()
            ctx.tell("store", Collect(self._passed, done.after_lsn))

    def survey(self, ctx: Context) -> Survey:
        """The members that count, and the entries that all of them have."""
        age_ms = self.settings.retention_hours * HOUR_MS
        old = rules.old_enough(self._log.marks(), self._lived_ms(ctx), age_ms)
        if self.settings.role == "cloud":
            return self._survey_of_cloud(old, ctx)
        ours, rows = self._ours(), self._log.members()
        roll = call_roll(self._log, rows)
        members = rules.voices(roll.members - {member_name(self._log.origin, cloud=False)}, rows)
        retired = self._known_to_all(roll.retired, members, ours)
        members = [voice for voice in members if voice.name not in retired]
        absent = self._absent(members, ctx)
        counted = [voice for voice in members if voice.name not in absent]
        away = [voice for voice in members if voice.name in absent]
        return rules.survey(ours, counted, old, away, [_said(name, rows) for name in sorted(roll.clouds)])

    def _survey_of_cloud(self, old: dict[Origin, int], ctx: Context) -> Survey:
        """The same in the cloud role: it hears of no retirement, and goes by what clusters say."""
        ours, rows = self._ours(), self._log.members()
        members = rules.voices(rows.keys() - {member_name(self._log.origin, cloud=True)}, rows)
        absent = self._absent(members, ctx)
        counted = [voice for voice in members if voice.name not in absent]
        served = "" if self.settings.shared else self._log.pinned_cluster()[0]
        return rules.survey_of_cloud(ours, counted, old, rules.said(rows.values(), served, ours))

    def status(self, ctx: Context) -> dict[str, Json]:
        """The entries that are kept, and the members for whose sake.

        ``held_back_by``: member -> ``entries``, ``tombstones``, ``since`` (ms since 1970, null: never heard).
        ``tombstones_wait_for``: origins of which we still lack what some member has.
        """
        found = self.survey(ctx)
        held = rules.held_back(found)
        for voice in found.voices:
            if voice.name in held:
                held[voice.name]["tombstones"] = self._log.tombstones(voice.vector, found.old)
        for voice in found.away:
            if tombstones := self._log.tombstones(voice.vector, found.old):
                held[voice.name] = {"entries": 0, "tombstones": tombstones, "since": voice.heard_ms}
        # of what its members lack a cloud can say no more than we
        in_cloud = self.settings.role == "cloud"
        known = found.old if in_cloud else vectors.covered_by_all((found.old, found.settled))
        for one in found.said:
            if tombstones := self._log.tombstones(one.vector, known):
                held.setdefault(one.name, {"entries": 0, "tombstones": tombstones, "since": one.heard_ms})
        have = self._ours()
        waits_for = (
            []
            if self._pending is None
            else sorted(o for o, seq in self._pending.witnessed.items() if have.get(o, 0) < seq)
        )
        return {
            "held_back_by": held,
            "floors": self._log.floors(),
            "log_bytes": self._log.log_bytes(),
            "tombstones_wait_for": waits_for,
        }

    def _absent(self, members: list[rules.Voice], ctx: Context) -> set[str]:
        lived_ms = self._lived_ms(ctx)
        up_since = lived_ms if self._up_since_ms is None else self._up_since_ms
        return rules.absent(members, lived_ms, up_since, int(self.settings.absence_limit * HOUR_MS))

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

    def _ripen(self, found: Survey, ours: dict[Origin, int]) -> None:
        """Two steps: remember what is settled and what the witnesses cover, go on when we cover that too.

        We as others see us: our row tells them no less when it says so.
        """
        pending = self._pending
        if pending is not None and not vectors.dominates(found.witnessed, pending.witnessed):
            # a witness was retired since, with writes that nobody is waiting for any more
            pending = None
        if pending is None and (found.settled, found.forgettable) != (self._settled, self._ripe):
            pending = found
        if pending is not None and vectors.dominates(ours, pending.witnessed):
            self._settled, self._ripe, pending = pending.settled, pending.forgettable, None
        self._pending = pending

    def _wants_prune(self, found: Survey, ctx: Context) -> bool:
        floors = self._log.floors()
        if any(seq > floors.get(origin, 0) for origin, seq in found.aged.items()):
            return True
        if self._log.log_bytes() > self.settings.retention_bytes and not vectors.dominates(
            floors, found.stable
        ):
            return True
        marks = self._log.marks()
        fresh = not marks or self._lived_ms(ctx) - marks[-1][0] >= self._apart_ms
        return fresh and (marks[-1][1] if marks else {}) != vectors.seqs(self._log.vector())

    def _prune(self, found: Survey, ctx: Context) -> None:
        self._asked_at = ctx.monotonic()
        aged_ms = self._lived_ms(ctx) - int(self.settings.retention_hours * HOUR_MS)
        order = Prune(found.aged, found.stable, self.settings.retention_bytes, self._apart_ms, aged_ms)
        ctx.tell("store", order)

    def _lived_ms(self, ctx: Context) -> int:
        """The life of the store now: the time that it last committed, and the time since we saw that.

        Nothing here is measured by the wall clock: a step of it would make everything old at once.
        """
        lived_ms, at = self._lived
        passed = int((ctx.monotonic() - at) * 1000) if self._up_since_ms is not None else 0
        self._lived = max(self._log.lived_ms(), lived_ms + passed), ctx.monotonic()
        return self._lived[0]

    def _collect(self, ctx: Context) -> None:
        """A pass over the tombstones whose rows are pruned, when more of them may go than at the last."""
        floors = self._log.floors()
        bounds = {origin: min(seq, floors[origin]) for origin, seq in self._ripe.items() if origin in floors}
        if not bounds or bounds == self._passed:
            return
        self._passed, self._asked_at = bounds, ctx.monotonic()
        ctx.tell("store", Collect(bounds, 0))

    def _ours(self) -> dict[Origin, int]:
        in_cloud = self.settings.role == "cloud"
        return vectors.seqs(self._log.vector()) if in_cloud else self._log.acknowledged()

    @property
    def _apart_ms(self) -> int:
        """Between two marks."""
        return int(self.settings.retention_hours * HOUR_MS / MARK_PART)


def _said(name: str, rows: Mapping[str, Heard]) -> rules.Voice:
    """The entries that a cloud peer says are settled."""
    heard = rows.get(name)
    return (
        rules.Voice(name, {}, None) if heard is None else rules.Voice(name, heard.row.settled, heard.heard_ms)
    )
