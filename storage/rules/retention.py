"""The bounds of forgetting: a log row goes once every member has it, a tombstone once no old put can come.

A row is *stable* when the acknowledged vector of every member that counts covers it. Causal stability as the
ground for collecting: Baquero, Almeida and Shoker, "Making Operation-based CRDTs Operation-based" (2014).

A member that is absent keeps no log row from going, but every tombstone that it lacks. Its old puts come back
with it, by the log of whoever has not pruned yet, and must meet the delete wherever they come.

A tombstone may go two steps later. Its being stable is witnessed by the members' rows; the row in which a
member says that it has the delete covers all that the member had written before. So once our own vector
covers all that these rows cover, every put that was concurrent with the delete has been here and has met it.
Then it is settled, and a node of a cluster says so in its row.

A cloud does not know who belongs to a cluster, and several clusters may meet in it. So it goes by their rows:
an entry is settled there when each cluster says so, and the cloud has all that the node has that says it. The
cloud says so in turn, and a node of a cluster collects nothing before each of its clouds has. A node's own
row rests on the vectors of clouds, and not on that: nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from entgldb.messages.model import Origin
from entgldb.messages.schema import Json
from entgldb.storage.rules import vector as vectors
from entgldb.storage.rules.results import Heard

HOUR_MS: Final = 3_600_000
GRACE_PART: Final = 100
"""A node that has just started judges nobody absent for a hundredth of the limit."""
Seqs = Mapping[Origin, int]


class Voice(NamedTuple):
    """A member that counts: nothing is forgotten that it has not acknowledged."""

    name: str
    vector: Seqs
    heard_ms: int | None
    """When we last heard of it, by the wall clock; None: never."""
    lived_ms: int | None = None
    """The same moment in the life of the store."""


class Survey(NamedTuple):
    """The entries that may go, and the members that keep the rest from going."""

    stable: dict[Origin, int]
    aged: dict[Origin, int]
    """Stable and old enough."""
    old: dict[Origin, int]
    """Old enough, whether stable or not."""
    settled: dict[Origin, int]
    """All who are known have it, those who are absent, too."""
    forgettable: dict[Origin, int]
    """Settled, and as clouds say all have it whom only those know."""
    witnessed: dict[Origin, int]
    """All that the rows cover which witness that."""
    voices: tuple[Voice, ...]
    away: tuple[Voice, ...]
    """Those who are absent."""
    said: tuple[Voice, ...]
    """Those who say what is settled elsewhere; the vector of each is that."""


def voices(names: Iterable[str], rows: Mapping[str, Heard]) -> list[Voice]:
    """One for each name; a member that has said nothing yet has acknowledged nothing."""
    found = []
    for name in sorted(set(names)):
        heard = rows.get(name)
        if heard is None:
            found.append(Voice(name, {}, None))
        else:
            found.append(Voice(name, heard.row.vector, heard.heard_ms, heard.lived_ms))
    return found


def absent(members: Sequence[Voice], lived_ms: int, up_since_ms: int, limit_ms: int) -> set[str]:
    """The members that were silent for longer than ``limit_ms`` while this node was up and could have heard
    it.

    All times are moments of the store's life (``State.lived_ms``). It stands still while the node is down: a
    node that was itself away for long must not take everybody else for absent, and forget what only it has.
    No step of the wall clock moves it. For a member that was never heard, the time counts from this node's
    start on.
    """
    if lived_ms - up_since_ms < limit_ms / GRACE_PART:
        return set()
    return {
        voice.name
        for voice in members
        if lived_ms - (up_since_ms if voice.lived_ms is None else voice.lived_ms) > limit_ms
    }


def old_enough(marks: Sequence[tuple[int, Seqs]], lived_ms: int, age_ms: float) -> dict[Origin, int]:
    """The vector of ``age_ms`` ago, by the latest mark that is that old; empty before the first."""
    found: Seqs = {}
    for at_ms, vector in marks:
        if at_ms <= lived_ms - age_ms:
            found = vector
    return dict(found)


def said(rows: Iterable[Heard], served: str, ours: Seqs) -> list[Voice]:
    """In a cloud: the entries that each cluster says are settled, joined from its nodes' rows.

    A node's row counts once we have what it had then. ``served``: the only cluster that counts; empty:
    all do. Before any node was heard there is one of no name, that says nothing.
    """
    found: dict[str, Voice] = {}
    for row, heard_ms, _ in rows:
        if row.cluster and served in ("", row.cluster):
            before = found.get(row.cluster, Voice(row.cluster, {}, None))
            settled = row.settled if vectors.dominates(ours, row.vector) else {}
            joined = vectors.covered_by_any((before.vector, settled))
            found[row.cluster] = Voice(row.cluster, joined, max(heard_ms, before.heard_ms or 0))
    return list(found.values()) or [Voice("", {}, None)]


def survey_of_cloud(ours: Seqs, counted: Sequence[Voice], old: Seqs, clusters: Sequence[Voice]) -> Survey:
    """The entries that a cloud may forget; ``clusters``: what they say."""
    agreed = _above_none([ours, *(one.vector for one in clusters)])
    found = survey(ours, counted, old, clouds=clusters)
    return found._replace(settled=agreed, forgettable=agreed, witnessed={})


def survey(
    ours: Seqs,
    counted: Sequence[Voice],
    old: Seqs,
    away: Sequence[Voice] = (),
    clouds: Sequence[Voice] = (),
) -> Survey:
    """The entries that may be forgotten; all other members are ``counted``, or absent and ``away``.

    ``clouds``: what they say is settled.
    """
    rows = [ours, *(voice.vector for voice in counted)]
    every = [*rows, *(voice.vector for voice in away)]
    stable = _above_none(rows)
    return Survey(
        stable=stable,
        aged={origin: min(seq, old[origin]) for origin, seq in stable.items() if old.get(origin, 0) > 0},
        old=dict(old),
        settled=_above_none(every),
        forgettable=_above_none([*every, *(one.vector for one in clouds)]),
        witnessed=vectors.covered_by_any(every),
        voices=tuple(counted),
        away=tuple(away),
        said=tuple(clouds),
    )


def _above_none(rows: Sequence[Seqs]) -> dict[Origin, int]:
    return {origin: seq for origin, seq in vectors.covered_by_all(rows).items() if seq > 0}


def held_back(found: Survey) -> dict[str, dict[str, Json]]:
    """Member -> ``entries`` old enough to be forgotten but for it, and ``since`` when it is silent."""
    held: dict[str, dict[str, Json]] = {}
    for voice in found.voices:
        entries = vectors.lag(voice.vector, found.old)
        if entries:
            held[voice.name] = {"entries": entries, "since": voice.heard_ms}
    return held
