"""Faults of the review of 2026-11-27, each put back: the test of its mend notices it.

The letters are the rows of that review; those that only a whole cluster shows are mutants of the simulation.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entgldb.messages.errors import EntglError, InvalidError
from entgldb.storage.authorship import identity
from entgldb.storage.file import open as opening
from entgldb.storage.file.scratch import TABLES
from entgldb.storage.file.state import State
from entgldb.storage.log import append, apply, evicting, prune, requests
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.held import Held
from entgldb.storage.repair import healing
from entgldb.storage.repair.applying import Applying
from entgldb.storage.repair.installing import Installing
from entgldb.storage.repair.strangers import Strangers
from entgldb.storage.rules.chain import Link
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.rules.header import Header
from entgldb.storage.snapshot import freeze
from entgldb.storage.store import Store
from tests.contract import test_clock_marks, test_naming
from tests.contract.test_store import NOW, Bench
from tests.simulation.mutants.keeping import under_the_number_of_its_log_row
from tests.unit.storage.documents import test_feed
from tests.unit.storage.file import test_database
from tests.unit.storage.log import test_limits, test_prune, test_requests, test_unfit_batches
from tests.unit.storage.repair import test_healing
from tests.unit.storage.snapshot import test_large_rows, test_snapshots_apart

Patch = pytest.MonkeyPatch
NOT_RAISED = pytest.fail.Exception


class Mutant(NamedTuple):
    """A mend that is undone."""

    where: object
    name: str
    mistake: Callable[..., Any]
    """Takes what stands there; gives what stood there before the mend."""
    because: str
    """What the test finds: a regular expression."""
    notices: Callable[[Patch, Path], None]


def backwards_is_next(link: Any) -> Any:
    def mistaken(*given: Any) -> Link:
        found: Link = link(*given)
        return Link.NEXT if found is Link.BACKWARDS else found

    return mistaken


def not_emptied(_: Any) -> Any:
    def mistaken(connection: sqlite3.Connection, *names: str) -> None:
        for name in names:
            connection.execute(f"CREATE TEMP TABLE {name} {TABLES[name]}")

    return mistaken


def by_own_number(_: Any) -> Any:
    def mistaken(connection: sqlite3.Connection, state: State) -> None:
        while state.conflicts > evicting.CONFLICTS_KEPT_MAX:
            state.conflicts -= connection.execute(
                "DELETE FROM _entgldb_conflicts WHERE id = (SELECT id FROM _entgldb_conflicts"
                " ORDER BY hlc, origin, seq LIMIT 1)"
            ).rowcount

    return mistaken


def written_over(prepare: Any) -> Any:
    def mistaken(connection: sqlite3.Connection, *given: Any) -> None:
        prepare(connection, *given)
        connection.execute("PRAGMA secure_delete = ON")

    return mistaken


def all_at_once(forget: Any) -> Any:
    def mistaken(*given: Any) -> None:
        for _ in range(9):
            forget(*given)

    return mistaken


def again_and_again(_: Any) -> Any:
    """Anew for each twenty bad entries: for each one it would take seconds."""

    def mistaken(self: Applying, work: Callable[[bool], Any]) -> Any:
        before, allowed = self._transaction.state.unfit, 0
        while True:
            with contextlib.suppress(InvalidError), self._transaction.savepoint():
                done = work(True)
                need(self._transaction.state.unfit - before <= allowed)
                return done
            allowed += 20

    return mistaken


def need(good: bool) -> None:
    if not good:
        raise InvalidError("once more, without those that could not be merged")


def memory() -> Bench:
    return Bench(lambda name: Store.memory(name, name.encode(), NOW))


MUTANTS = {
    "S1 a row travels whole": Mutant(
        chunks,
        "pieces",
        lambda _: lambda payload: [payload],
        r"\d{7} <= \(2 \* 262144\)",
        lambda patch, folder: (
            test_large_rows.test_what_several_writers_made_large_together_travels_in_small_chunks(2)
        ),
    ),
    "S1 a row has the bound of one writer": Mutant(
        chunks,
        "ROW_BYTES_MAX",
        lambda _: 512 * 1024,
        "a snapshot has a bad stamps",
        lambda patch, folder: test_large_rows.test_the_tombstone_of_a_large_document_that_merges_travels(),
    ),
    "S3 stamps need not grow": Mutant(
        apply,
        "link",
        backwards_is_next,
        r"== 'bad-entry'",
        lambda patch, folder: (
            test_clock_marks.test_stamps_have_to_grow_along_a_chain_however_its_head_came_here(
                memory(), "known"
            )
        ),
    ),
    "S5 rows of another branch are taken": Mutant(
        Installing,
        "_branches",
        lambda _: lambda self, head: {},
        r"== 'quarantined'",
        lambda patch, folder: (
            test_snapshots_apart.test_a_snapshot_of_another_branch_of_an_origin_in_quarantine_takes_nothing_away(
                1
            )
        ),
    ),
    "S6 what was only recorded counts as whole": Mutant(
        freeze,
        "vouches",
        lambda _: lambda connection: True,
        r"system=True",
        lambda patch, folder: (
            test_snapshots_apart.test_who_has_only_recorded_a_peer_takes_it_away_from_nobody(pruned=False)
        ),
    ),
    "S7 a temporary table is left": Mutant(
        healing,
        "empty",
        not_emptied,
        r"table touched already exists",
        lambda patch, folder: test_healing.test_one_healing_leaves_nothing_that_harms_the_next(),
    ),
    "S8 a healed row keeps its number": Mutant(
        healing,
        "write_row",
        lambda write: lambda batch, place, row, lsn, **given: write(batch, place, row, 1, **given),
        "what shows again",
        lambda patch, folder: test_feed.test_what_the_healing_of_a_fork_changes_is_told(before=True),
    ),
    "S8 an entry from quarantine is shown under its old number": Mutant(
        Applier,
        "merge",
        under_the_number_of_its_log_row,
        r"assert {'k1': .* == {",
        lambda patch, folder: test_feed.test_an_entry_that_can_be_applied_at_last_is_told(patch),
    ),
    "S8 what was only recorded is shown under its old number": Mutant(
        Applier,
        "merge",
        under_the_number_of_its_log_row,
        r"assert {} == {'p'",
        lambda patch, folder: test_feed.test_what_was_only_recorded_is_told_when_it_is_supplied(),
    ),
    "S8 a file that was put back keeps its name": Mutant(
        identity,
        "_GONE_BACK",
        lambda _: frozenset(),
        r"DID NOT RAISE",
        lambda patch, folder: test_feed.test_a_file_that_is_not_what_it_was_refuses_the_tokens_of_before(
            folder, "put back"
        ),
    ),
    "S9 an entry names one version": Mutant(
        Header,
        "named",
        lambda _: property(lambda self: frozenset(() if self.parent is None else (self.parent,))),
        r"== \[\]",
        lambda patch, folder: test_naming.test_whoever_shows_a_conflict_ends_it_by_writing({"who": "again"}),
    ),
    "S10 a number of this file decides": Mutant(
        append,
        "evict",
        by_own_number,
        r"lan-3/\w+', seq=1\) != Version\(origin='lan-2/",
        lambda patch, folder: test_limits.test_which_conflicts_go_first_does_not_depend_on_who_came_first(
            patch
        ),
    ),
    "B1 what is deleted is written over": Mutant(
        opening,
        "_prepare",
        written_over,
        r"\(1,\) == \(0,\)",
        lambda patch, folder: test_database.test_what_is_deleted_is_not_written_over(folder),
    ),
    "B1 a step goes by rows alone": Mutant(
        prune._Room,
        "admits",
        lambda admits: lambda self, size: admits(self, 0),
        r"more=True",
        lambda patch, folder: test_prune.test_a_step_is_bounded_by_what_its_rows_hold(
            test_prune.Bench(), patch
        ),
    ),
    "B2 a batch is done anew for each bad entry": Mutant(
        Applying,
        "_setting_aside",
        again_and_again,
        r"480 <= \(2 \* 120\)",
        lambda patch, folder: test_unfit_batches.test_a_batch_of_bad_entries_is_done_twice_at_most(
            patch, grouped=False
        ),
    ),
    "B3 answers are forgotten in one go": Mutant(
        requests,
        "_forget",
        all_at_once,
        r"10 == 79",
        lambda patch, folder: test_requests.test_forgetting_goes_by_small_steps(
            Store.memory("lan-1", b"lan-1", NOW), patch
        ),
    ),
    "B4 any number is held": Mutant(
        Held,
        "full",
        lambda _: lambda self: False,
        r"{'held-clock': 5}",
        lambda patch, folder: test_limits.test_only_so_much_is_held_and_the_rest_is_taken_when_it_comes_again(
            test_limits.make("lan-1"), patch, "HELD_ENTRIES_MAX"
        ),
    ),
    "B5 strangers are taken without end": Mutant(
        Strangers,
        "admits",
        lambda _: lambda self, *given: True,
        r"both entries are left out",
        lambda patch, folder: (
            test_limits.test_of_too_many_origins_only_those_are_left_out_that_no_member_calls_its_own(
                test_limits.make("lan-1"), patch
            )
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mend_that_is_undone_is_noticed(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.where, mutant.name, mutant.mistake(getattr(mutant.where, mutant.name)))
    with pytest.raises((AssertionError, EntglError, sqlite3.Error, NOT_RAISED), match=mutant.because):
        mutant.notices(monkeypatch, tmp_path)
