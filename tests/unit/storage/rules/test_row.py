"""Whole writes: which of two stands, what is lost, and what an entry replaces."""

from __future__ import annotations

import pytest

from entgldb.messages.model import Version
from entgldb.storage.rules.merging.row import Current, Operation, absorb, put_operation
from entgldb.storage.rules.merging.stored import Tip
from tests.unit.storage.rules.merge_rig import ORIGINS


def plain(origin: str, seq: int, hlc: int, text: str | None, *named: Version) -> Operation:
    return put_operation(Tip(origin, seq, hlc), frozenset(named), text)


A3 = Version(ORIGINS[0], 3)


@pytest.mark.parametrize(
    ("hlc", "text", "there", "stands", "lost"),
    [
        (9, "{}", "{}", True, "there"),
        (11, "{}", "{}", False, "incoming"),
        (10, "{}", "{}", True, "there"),
        (9, "{}", None, True, ""),
        (11, "{}", None, False, "incoming"),
        (9, None, "{}", True, "there"),
        (11, None, "{}", False, ""),
        (9, None, None, True, ""),
    ],
)
def test_of_two_whole_writes_that_do_not_know_each_other_the_greater_stands(
    hlc: int, text: str | None, there: str | None, stands: bool, lost: str
) -> None:
    """``hlc``: of the row that the second writer's entry, stamped 10, meets."""
    before = plain(ORIGINS[0], 3, hlc, there).row
    after = absorb(before, plain(ORIGINS[1], 5, 10, text))
    assert (after.stored.newest.origin == ORIGINS[1]) is stands
    origins = {"there": [ORIGINS[0]], "incoming": [ORIGINS[1]], "": []}
    assert [loser.tip.origin for loser in after.losers] == origins[lost]
    assert all(loser.whole for loser in after.losers)


def test_what_an_entry_names_it_replaces_and_no_conflict_is_left() -> None:
    before = plain(ORIGINS[0], 3, 9, '{"n": 1}').row
    after = absorb(before, plain(ORIGINS[1], 5, 10, '{"n": 2}', Version(ORIGINS[0], 99), A3))
    assert (after.stored.text, after.losers) == ('{"n": 2}', ())


def test_what_is_stamped_before_the_version_that_it_replaces_loses_against_it() -> None:
    before = plain(ORIGINS[0], 3, 9, "{}").row
    after = absorb(before, plain(ORIGINS[1], 5, 8, "{}", A3))
    assert after.stored == before
    assert [loser.tip.origin for loser in after.losers] == [ORIGINS[1]]


@pytest.mark.parametrize(
    ("current", "named", "yields"),
    [
        (Current(ORIGINS[0], 3, 9, True), (A3,), True),
        (Current(ORIGINS[0], 3, 9, True), (), False),
        (Current(ORIGINS[0], 3, 9, False), (), True),
        (Current(ORIGINS[0], 3, 11, True), (A3,), False),
        (Current(ORIGINS[0], 3, 9, True, merged=True), (A3,), False),
    ],
)
def test_a_version_yields_to_a_whole_write_that_is_later_and_knew_it(
    current: Current, named: tuple[Version, ...], yields: bool
) -> None:
    assert current.yields_to((10, ORIGINS[1]), named) is yields
