"""The figures of ``entgldb bench``, their targets, and their report. No node is run here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from entgldb.messages.errors import InvalidError

T = TypeVar("T")

DOCUMENTS: Final = 100_000
"""Documents of the node whose reads are measured; the base for runs with more."""


class Wanted(Enum):
    """The quantity that a target bounds."""

    RATIO = "of the floor"
    LEAST = "at least"
    MOST = "at most"
    TIMES = "at most, times the floor"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured, and what is wanted of it."""

    work: str
    name: str
    unit: str
    wanted: Wanted
    bound: float

    @property
    def full_name(self) -> str:
        return f"{self.work}.{self.name}"

    @property
    def target(self) -> str:
        """For a person."""
        if self.wanted is Wanted.RATIO:
            return f">= {self.bound:g} of the floor"
        if self.wanted is Wanted.TIMES:
            return f"<= {self.bound:g} times the floor"
        return f"{'>=' if self.wanted is Wanted.LEAST else '<='} {self.bound:,g} {self.unit}"


FIGURES: Final = (
    Figure("W1", "single", "documents/s", Wanted.RATIO, 0.5),
    Figure("W1", "bulk", "documents/s", Wanted.RATIO, 0.5),
    Figure("W1", "inflight64", "documents/s", Wanted.LEAST, 10_000),
    Figure("W2", "catchup", "documents/s", Wanted.RATIO, 0.4),
    Figure("W2", "equal", "round trips", Wanted.MOST, 1),
    Figure("W3", "p50", "ms", Wanted.TIMES, 2.5),
    Figure("W3", "p99", "ms", Wanted.TIMES, 2.5),
    Figure("W4", "converge", "s", Wanted.TIMES, 2.5),
    Figure("W5", "cpu", "% of a core", Wanted.MOST, 0.5),
    Figure("W5", "pss", "MB", Wanted.MOST, 110),
    Figure("W6", "get", "documents/s", Wanted.RATIO, 0.6),
    Figure("W6", "query", "queries/s", Wanted.RATIO, 0.6),
    Figure("W7", "snapshot", "documents/s", Wanted.RATIO, 0.4),
    Figure("W8", "single", "documents/s", Wanted.RATIO, 0.75),
    Figure("W8", "bulk", "documents/s", Wanted.RATIO, 0.7),
    Figure("W8", "get", "documents/s", Wanted.RATIO, 0.85),
    Figure("W9", "sqlite", "documents/s", Wanted.RATIO, 0.5),
    Figure("W9", "bulk", "documents/s", Wanted.RATIO, 0.5),
    Figure("W9", "tenants8", "documents/s", Wanted.RATIO, 0.5),
    Figure("W9", "inflight64", "documents/s", Wanted.LEAST, 5_000),
    Figure("W10", "replay", "changes/s", Wanted.LEAST, 50_000),
    Figure("W10", "live", "ms", Wanted.MOST, 10),
    # memory first: the server keeps what it once needed
    Figure("W11", "idle", "% of a core", Wanted.MOST, 0.1),
    Figure("W11", "pss", "MB", Wanted.MOST, 60),
    Figure("W11", "get", "requests/s", Wanted.LEAST, 3_000),
    Figure("W11", "put", "requests/s", Wanted.LEAST, 1_500),
    Figure("W11", "get_p50", "ms", Wanted.MOST, 5),
    Figure("W11", "get_p99", "ms", Wanted.MOST, 20),
    Figure("W11", "put_p50", "ms", Wanted.MOST, 5),
    Figure("W11", "put_p99", "ms", Wanted.MOST, 20),
    Figure("W11", "scrape", "ms", Wanted.MOST, 10),
    Figure("W11", "streams", "MB", Wanted.MOST, 150),
    Figure("W11", "page", "% of a core", Wanted.MOST, 2),
    Figure("W12", "tokens", "tokens/s", Wanted.LEAST, 2_000),
)

GROWN_FIGURES: Final = tuple(
    Figure(figure.work, figure.name, figure.unit, Wanted.RATIO, 0.7)
    for figure in FIGURES
    if figure.full_name in {"W1.single", "W1.bulk", "W6.get", "W6.query"}
)
"""With ``--documents``: a node that holds so many, and as its floor a node that holds DOCUMENTS."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How it is to be measured. ``scale`` makes every amount smaller, for a trial.

    ``tell`` shows how far it has come, on a line that the next one overwrites.
    """

    rounds: int
    scale: float
    tell: Callable[[str], None]
    postgres: str = ""
    """Address of the PostgreSQL for W9; empty: one is started."""

    def turns(self, what: str) -> Iterator[int]:
        """The numbers of the rounds; tells when each begins."""
        for number in range(1, self.rounds + 1):
            self.tell(f"\r{what}: round {number} of {self.rounds} ...")
            yield number

    def amount(self, whole: int) -> int:
        """So many of ``whole``."""
        return max(1, round(whole * self.scale))


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of what was measured. ``floor`` is None where there is nothing to compare with."""

    figure: Figure
    ours: float
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.floor is None else self.ours / self.floor

    @property
    def reached(self) -> bool:
        if self.figure.wanted is Wanted.MOST:
            return self.ours <= self.figure.bound
        if self.figure.wanted is Wanted.LEAST:
            return self.ours >= self.figure.bound
        if self.ratio is None:
            return False
        times = self.figure.wanted is Wanted.TIMES
        return self.ratio <= self.figure.bound if times else self.ratio >= self.figure.bound

    def fields(self) -> dict[str, Any]:
        """One element of ``results``."""
        return {
            "work": self.figure.work,
            "figure": self.figure.name,
            "ours": _rounded(self.ours),
            "floor": None if self.floor is None else _rounded(self.floor),
            "ratio": None if self.ratio is None else _rounded(self.ratio),
            "unit": self.figure.unit,
        }

    @property
    def full_name(self) -> str:
        return self.figure.full_name

    def headings(self) -> str:
        """Stand above lines of results."""
        return f"{'figure':<14} {'ours':>10} {'floor':>10} {'ratio':>6}  {'unit':<12} target"

    def line(self) -> str:
        """For a person."""
        floor = "" if self.floor is None else _shown(self.floor)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        figure = self.figure
        verdict = "reached" if self.reached else "missed"
        start = f"{figure.full_name:<14} {_shown(self.ours):>10} {floor:>10} {ratio:>6}"
        return f"{start}  {figure.unit:<12} {figure.target:<22} {verdict}"


def select(names: Iterable[str], figures: Sequence[Figure] = FIGURES) -> list[Figure]:
    """The figures that ``names`` (``W1``, ``W1.single``) mean, in their own order; all where there is none.

    Raises InvalidError for a name that is none of them.
    """
    wanted = list(names)
    known = {figure.work for figure in figures} | {figure.full_name for figure in figures}
    for name in wanted:
        if name not in known:
            raise InvalidError(f"{name} is not measured here", hint=f"one of {', '.join(sorted(known))}")
    return [f for f in figures if not wanted or f.work in wanted or f.full_name in wanted]


def percentile(values: Iterable[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of the values do not exceed: the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def in_turns(
    figure: Figure,
    rounds: Iterable[object],
    ours: Callable[[], float],
    floor: Callable[[], float] | None = None,
) -> Result:
    """The median of all turns of each; without a floor ours alone."""
    taken, floors = taken_in_turns(rounds, ours, floor)
    return Result(figure, statistics.median(taken), statistics.median(floors) if floors else None)


def taken_in_turns(
    rounds: Iterable[object], ours: Callable[[], T], floor: Callable[[], T] | None
) -> tuple[list[T], list[T]]:
    """Ours, the floor, ours again, in every round: what slows the machine down for a while slows both."""
    taken: list[T] = []
    floors: list[T] = []
    for _ in rounds:
        taken.append(ours())
        if floor is not None:
            floors.append(floor())
            taken.append(ours())
    return taken, floors


def _rounded(value: float) -> float:
    """Four digits that mean something."""
    return float(f"{value:.4g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
