"""``python -m tests.soak HOURS``: fresh seeds and kills, hour after hour, each figure with its time.

Each turn is a share of an hour's work: seeds of the simulation on all cores, then rounds of kill -9. Turns
follow each other without a pause, so that an hour usually has more than it must have. It ends with 1 at the
first broken promise, naming the seed and the commit.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
# the checkout need not be installed
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.kills import rounds  # noqa: E402 -- only findable from here on
from tests.simulation import away, found  # noqa: E402 -- as above
from tests.simulation.crowd import crowd  # noqa: E402 -- as above
from tests.simulation.run import Result, run  # noqa: E402 -- as above
from tests.unit.actors.session.test_mutated_frames import send  # noqa: E402 -- as above

SEEDS_PER_HOUR: Final = 10_000
KILLS_PER_HOUR: Final = 1_000
AWAY_SEEDS: Final = 8
"""One of so many seeds has nodes that are away and come back to snapshots."""
TURNS_PER_HOUR: Final = 20
"""So many turns have an hour's seeds and kills."""
MUTATED_FRAMES: Final = 1_000_000
GENERATED: Final = {
    "ENTGLDB_FORGOTTEN": ("tests/system/disk/test_forgetting.py", 100_000),
    "ENTGLDB_FLIPS": ("tests/unit/storage/file/test_damage.py", 2_000),
    "ENTGLDB_HTTP_CASES": ("tests/unit/web/test_openapi.py", 10_000),
    "ENTGLDB_QUERY_CASES": ("tests/unit/storage/documents/test_query_oracle.py", 100_000),
    "ENTGLDB_COMPARED": ("tests/unit/actors/oplog/test_verifier.py", 200_000),
    "ENTGLDB_COUNTING_SEEDS": ("tests/simulation/test_counting.py", 200),
    "ENTGLDB_EXPELLING_SEEDS": ("tests/simulation/test_expelling.py", 60),
    "ENTGLDB_ROTATING_SEEDS": ("tests/simulation/test_rotating.py", 60),
    "ENTGLDB_MERGES": ("tests/unit/storage/rules/test_merge_algebra.py", 2_000),
    "ENTGLDB_PATTERNS": ("tests/unit/storage/rules/test_filter_regex.py", 5_000),
    "ENTGLDB_TEXTS": ("tests/unit/launch/test_texts.py", 3_000),
    "ENTGLDB_ORDERS": ("tests/unit/storage/log", 600),
    "ENTGLDB_POSTGRES_KILLS": ("tests/unit/storage/postgres/test_trips.py", 6),
    "ENTGLDB_POSTGRES_HISTORIES": ("tests/unit/storage/snapshot/test_snapshot_histories.py", 40),
    "ENTGLDB_SNAPSHOT_HISTORIES": ("tests/unit/storage/snapshot/test_snapshot_histories.py", 250),
    "ENTGLDB_TWO_WRITERS": ("tests/unit/storage/postgres/test_two_writers.py", 60),
    "ENTGLDB_FLOOD": ("tests/system/process/test_flood.py", 2_000),
}
"""Requests, queries, deaths of a server, histories, seconds of two writers, strangers, once: variable ->
tests, and how many cases they have."""
KNOWN_SEEDS: Final = 200
"""They come first, among them most of ``make test``; then seeds that nobody has seen."""


@dataclass
class Sum:
    """The work done until now."""

    seeds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    rounds: int = 0
    kills: int = 0
    kept: int = 0

    def text(self, seconds: float) -> str:
        """One line, with what it comes to in an hour."""
        hours = seconds / 3600
        return (
            f"{self.seeds} seeds ({self.seeds / hours:.0f}/h), {self.faults.total()} faults, {self.writes}"
            f" acknowledged writes; {self.kills} kills in {self.rounds} rounds ({self.kills / hours:.0f}/h),"
            f" {self.kept} acknowledged writes; {hours:.2f} h, 0 violations"
        )


def soak(hours: float, *, share: float = 1 / TURNS_PER_HOUR) -> int:
    """Turns until the time is over; the exit code. ``share``: of an hour's work in a turn."""
    begun, total, first = time.monotonic(), Sum(), int(time.time())
    say(f"commit {commit()}, seeds 1 to {KNOWN_SEEDS}, then from {first}")
    if hours:
        say(crowd().text())
        for text in _failed_once():
            say(f"VIOLATION at commit {commit()}: {text}")
            return 1
        say(f"{MUTATED_FRAMES:,} mutated frames: {send(MUTATED_FRAMES, first)}")
        for variable in GENERATED:
            if not generated(variable):
                say(f"VIOLATION at commit {commit()}: {' '.join(map(str, GENERATED[variable]))}")
                return 1
    while True:
        for text in _turn(total, first, share):
            say(f"VIOLATION at commit {commit()}: {text}")
            return 1
        spent = time.monotonic() - begun
        say(total.text(spent))
        if spent >= hours * 3600:
            return 0


def generated(variable: str) -> bool:
    """Whether all of so many generated cases came out as they should."""
    tests, cases = GENERATED[variable]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", tests]
    environment = {**os.environ, variable: str(cases)}
    return not subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def history(seed: int) -> Result:
    """One history of either kind."""
    return run(seed) if seed % AWAY_SEEDS else away.run(seed)


def _failed_once() -> Iterator[str]:
    """Every broken promise of the seeds that broke one before."""
    with multiprocessing.get_context("fork").Pool() as pool:
        for result in pool.imap_unordered(found.again, range(len(found.HISTORIES))):
            yield from _broken(result)
    say(f"{len(found.HISTORIES)} seeds that failed once: 0 violations")


def _turn(total: Sum, first: int, share: float) -> Iterator[str]:
    """One turn's work; every broken promise. ``first``: of the seeds that nobody has seen."""
    numbers = range(total.seeds, total.seeds + max(1, round(SEEDS_PER_HOUR * share)))
    seeds = [number + 1 if number < KNOWN_SEEDS else first + number - KNOWN_SEEDS for number in numbers]
    with multiprocessing.get_context("fork").Pool() as pool:
        for result in pool.imap_unordered(history, seeds, chunksize=4):
            yield from _broken(result)
            total.seeds += 1
            total.faults.update(result.faults)
            total.writes += result.acknowledged
    # some named places are not always come to: a tenth more rounds than kills
    figures = rounds.run(max(2, round(KILLS_PER_HOUR * share * 1.2)), first + total.seeds)
    yield from figures.violations
    total.rounds += figures.rounds
    total.kills += figures.kills.total()
    total.kept += figures.acknowledged


def _broken(result: Result) -> Iterator[str]:
    for text in result.violations:
        yield f"seed {result.seed} ({result.options}): {text}"


def commit() -> str:
    """The commit under test; marked where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """A line with its time."""
    print(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(soak(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
