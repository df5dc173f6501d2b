"""Snapshots under faults: a node that comes back too late for the log ends like all others, and loses
nothing."""

from __future__ import annotations

import functools
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from entgldb.messages.errors import Reason
from entgldb.storage.repair.rewrite import Tail
from entgldb.storage.rules import retention
from entgldb.storage.rules.header import MERGE, Header
from entgldb.storage.rules.retention import Seqs, Survey, Voice
from entgldb.storage.snapshot import freeze, install
from entgldb.storage.snapshot.install import Merger
from tests.simulation.away import (
    COUNTED,
    DELETING_SEEDS,
    EXPIRING,
    EXPIRING_SEEDS,
    LARGE_SEEDS,
    PICKY_SEEDS,
    REACHED,
    RETENTION_SEEDS,
    AwayRun,
    run,
)
from tests.simulation.events.rewind import EVERY, REMAINDERS
from tests.simulation.mutants.keeping import quarantine_pruned, quarantine_pruned_by_one
from tests.simulation.mutants.noticing import Mutant
from tests.simulation.run import MERGING_SEEDS, Result
from tests.simulation.world.options import Options

FAST = (1, 4)
SEEDS = (9, 11, 140, 237, 319, 512, 750, 758)
"""With those above they go each way twice, and have each trait and each option; ``make soak`` runs more."""
lived = functools.cache(run)


def check(result: Result) -> None:
    assert result.violations == [], f"seed {result.seed}: {result.options}"
    assert result.acknowledged > 100


@pytest.mark.parametrize("seed", FAST)
def test_seed(seed: int) -> None:
    check(lived(seed))


def test_the_same_seed_is_the_same_history() -> None:
    assert run(1).trace == lived(1).trace


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_seeds_keep_every_promise_and_reach_every_branch(capsys: pytest.CaptureFixture[str]) -> None:
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(run, SEEDS, chunksize=1))
    results += map(lived, FAST)
    reached: Counter[str] = Counter()
    for result in results:
        check(result)
        reached.update({name: result.reached[name] for name in REACHED})
        reached.update({name: result.counts[name] for name in COUNTED})
    with capsys.disabled():
        print(f"\n{len(results)} seeds: {dict(reached)}")
    # an actor has to die in the very second in which it is asked for a chunk
    rare = Reason.SNAPSHOT_GONE.value
    assert reached[rare] > 0
    assert min(reached[name] for name in (*REACHED, *COUNTED) if name != rare) >= 2


@contextmanager
def cloud_forgets_by_rows() -> Iterator[None]:
    """A cloud forgets a delete that all have whom it has heard lately, whoever says what."""

    def careless(ours: Seqs, counted: Sequence[Voice], old: Seqs, clusters: Sequence[Voice]) -> Survey:
        return retention.survey(ours, counted, old)

    with patch.object(retention, "survey_of_cloud", careless):
        yield


@contextmanager
def what_was_deleted_is_kept() -> Iterator[None]:
    """A version that the snapshot covers and has not stays."""
    with patch.object(install, "_GONE", install._GONE.replace("s.seq <= l.theirs", "0")):
        yield


@contextmanager
def moments_lost() -> Iterator[None]:
    """What a snapshot brings does not expire."""
    with patch.object(install, "_PUT", install._PUT.replace("s.stamps, s.expires", "s.stamps, NULL")):
        yield


@contextmanager
def tail_dropped() -> Iterator[None]:
    """Own unsent writes are not issued again."""
    with patch.object(Tail, "write_again", lambda self, new, now_ms, *, ends: 0):
        yield


@contextmanager
def end_untold() -> Iterator[None]:
    """Nobody hears that a log has ended of which the rest is issued again."""
    write_again = Tail.write_again

    def careless(self: Tail, new: str, now_ms: int, *, ends: bool) -> int:
        return write_again(self, new, now_ms, ends=False)

    with patch.object(Tail, "write_again", careless):
        yield


@contextmanager
def vector_before_rows() -> Iterator[None]:
    """The snapshot counts as received before its rows are looked at."""
    prepare = Merger.prepare

    def careless(self: Merger) -> None:
        self._join()
        prepare(self)

    with patch.object(Merger, "prepare", careless):
        yield


@contextmanager
def whole_writes_only_renamed() -> Iterator[None]:
    """Of a tail only the merges are merged again, not what the same key was put before and after."""
    merge_again = Tail._merge_again

    def careless(self: Tail, old: Header, made: Header, text: str | None, lsn: int) -> None:
        if old.op == MERGE:
            merge_again(self, old, made, text, lsn)
            return
        for table in ("_entgldb_documents", "_entgldb_conflicts"):
            self.connection.execute(
                f"UPDATE {table} SET origin = ?, seq = ?, hlc = ?"
                " WHERE collection = ? AND key = ? AND origin = ? AND seq = ?",
                (
                    self.batch.state.origins[made.origin].number,
                    made.seq,
                    made.hlc,
                    old.collection,
                    old.key,
                    self.number,
                    old.seq,
                ),
            )

    with patch.object(Tail, "_merge_again", careless):
        yield


@contextmanager
def frozen_beside_quarantine() -> Iterator[None]:
    """A snapshot is made of documents that lack what is in quarantine."""
    with patch.object(freeze, "_refuse_with_quarantine", lambda source: None):
        yield


@contextmanager
def set_aside_and_pruned() -> Iterator[None]:
    """An entry that a snapshot covers stays in quarantine, without its place in the log."""
    with patch.object(Merger, "_let_go", lambda self: None):
        yield


def small(seed: int, options: Options) -> bool:
    """Large documents notice no more than others, and take five times as long."""
    return seed % LARGE_SEEDS != 5


def deletes(seed: int, options: Options) -> bool:
    """The others delete documents that the node which is away has, and forget them."""
    return small(seed, options) and seed % DELETING_SEEDS == 5


def expires(seed: int, options: Options) -> bool:
    """Documents expire."""
    return small(seed, options) and seed % EXPIRING_SEEDS == EXPIRING


def cloud_forgets(seed: int, options: Options) -> bool:
    """A cloud decides itself about forgetting."""
    return small(seed, options) and options.cloud and seed % RETENTION_SEEDS == 0


def rolls_back_beside_a_cloud(seed: int, options: Options) -> bool:
    """The disk of the node that is away goes back in time."""
    return small(seed, options) and options.cloud and seed % EVERY in REMAINDERS


def merges(seed: int, options: Options) -> bool:
    """Documents merge."""
    return small(seed, options) and seed % MERGING_SEEDS == 1


def has_quarantine(seed: int, options: Options) -> bool:
    """A node cannot apply all that the others write."""
    return small(seed, options) and seed % PICKY_SEEDS == 0


def forgets_beside_quarantine(seed: int, options: Options) -> bool:
    """So does it in these, where the nodes themselves decide about forgetting."""
    return has_quarantine(seed, options) and seed % RETENTION_SEEDS == 0


MUTANTS = [
    Mutant(cloud_forgets_by_rows, (36, 76, 14, 80), cloud_forgets, AwayRun),
    Mutant(what_was_deleted_is_kept, (11, 17, 23, 35), deletes, AwayRun),
    Mutant(moments_lost, (20, 28), expires, AwayRun),
    Mutant(end_untold, (279,), rolls_back_beside_a_cloud, AwayRun),
    Mutant(tail_dropped, (4, 6, 1, 2), small, AwayRun),
    Mutant(vector_before_rows, (1, 6, 7, 2), small, AwayRun),
    Mutant(whole_writes_only_renamed, (127, 97), merges, AwayRun),
    Mutant(frozen_beside_quarantine, (36, 12), forgets_beside_quarantine, AwayRun),
    Mutant(set_aside_and_pruned, (27, 60, 66, 87), has_quarantine, AwayRun),
    Mutant(quarantine_pruned, (36, 102), forgets_beside_quarantine, AwayRun),
    Mutant(quarantine_pruned_by_one, (36, 102), forgets_beside_quarantine, AwayRun),
]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.make.__name__)
def test_mutant_is_caught(mutant: Mutant) -> None:
    assert next(mutant.noticing(), None) is not None
