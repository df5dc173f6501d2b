"""An entry's place in its chain, and its effect on the versions of its key."""

from __future__ import annotations

import pytest

from entgldb.messages.model import Version
from entgldb.storage.rules.header import DELETE, PUT, Header
from entgldb.storage.rules.merge import NO_HEAD, Current, Head, Keep, Link, Merge, link, merge

NOW = 1_790_000_000_000
A = "a/" + "0" * 32
B = "b/" + "1" * 32
HASH = bytes(32)


def entry(
    origin: str = B, seq: int = 5, hlc: int = 10, op: int = PUT, parent: Version | None = None
) -> Header:
    return Header(origin, seq, hlc, "c", "k", op, parent, 0, 1, HASH, HASH)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (Head(4, HASH), Link.NEXT),
        (Head(4, b"x" * 32), Link.FORK),
        (Head(3, HASH), Link.GAP),
        (NO_HEAD, Link.GAP),
        (Head(5, HASH), Link.KNOWN),
        (Head(9, HASH), Link.KNOWN),
        (Head(4, HASH, forked=True), Link.FORKED),
        (Head(9, HASH, forked=True), Link.KNOWN),
        (Head(4, HASH, hlc=9), Link.NEXT),
        (Head(4, HASH, hlc=10), Link.BACKWARDS),
        (Head(4, b"x" * 32, hlc=10), Link.FORK),
    ],
)
def test_the_chain(head: Head, found: Link) -> None:
    assert link(entry(), head) is found


def test_the_first_entry_needs_no_head() -> None:
    assert link(entry(seq=1)._replace(prev_hash=b""), NO_HEAD) is Link.NEXT


def test_the_first_version_of_a_key_wins() -> None:
    assert merge(entry(), None, parent_covered=True) == Merge(wins=True)


def test_what_is_stamped_before_the_version_that_it_replaces_loses_against_it() -> None:
    backwards = entry(hlc=8, parent=Version(A, 3))
    found = merge(backwards, Current(A, 3, 9, True), parent_covered=True)
    assert found == Merge(wins=False, keep=Keep.INCOMING)


def test_a_successor_replaces_and_clears_nothing() -> None:
    assert merge(entry(parent=Version(A, 3)), Current(A, 3, 9, True), parent_covered=True) == Merge(True)


@pytest.mark.parametrize(
    ("header", "current", "decision"),
    [
        (entry(), Current(A, 3, 9, True), Merge(True, Keep.CURRENT)),
        (entry(), Current(A, 3, 11, True), Merge(False, Keep.INCOMING)),
        (entry(), Current(A, 3, 10, True), Merge(True, Keep.CURRENT)),
        (entry(origin=A), Current(B, 3, 10, True), Merge(False, Keep.INCOMING)),
        (entry(), Current(A, 3, 9, False), Merge(True)),
        (entry(), Current(A, 3, 11, False), Merge(False, Keep.INCOMING)),
        (entry(op=DELETE), Current(A, 3, 9, True), Merge(True, Keep.CURRENT)),
        (entry(op=DELETE), Current(A, 3, 11, True), Merge(False)),
        (entry(parent=Version(A, 2)), Current(A, 3, 9, True), Merge(True, Keep.CURRENT)),
        (
            entry(op=DELETE, parent=Version(A, 2)),
            Current(A, 3, 11, True),
            Merge(False, Keep.NOTHING),
        ),
    ],
)
def test_concurrent_writes(header: Header, current: Current, decision: Merge) -> None:
    assert merge(header, current, parent_covered=True) == decision


@pytest.mark.parametrize(("hlc", "wins"), [(9, True), (11, False)])
def test_an_absent_parent_leaves_no_row(hlc: int, wins: bool) -> None:
    header = entry(parent=Version(A, 99))
    assert merge(header, Current(A, 3, hlc, True), parent_covered=False) == Merge(wins, parent_absent=True)


def test_what_an_entry_names_beside_its_parent_it_replaces_too() -> None:
    header = entry(parent=Version(A, 99))._replace(seen=(Version(A, 3),))
    assert merge(header, Current(A, 3, 9, True), parent_covered=True) == Merge(True)
