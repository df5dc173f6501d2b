"""An entry's place in its chain."""

from __future__ import annotations

import pytest

from entgldb.messages.model import Version
from entgldb.storage.rules.chain import NO_HEAD, Head, Link, link
from entgldb.storage.rules.header import PUT, Header

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
