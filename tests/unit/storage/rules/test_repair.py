"""Which of two rows is right: never both sides, never the older one, never a guess."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from entgldb.messages.model import Vector
from entgldb.messages.wire import Copy
from entgldb.storage.rules.comparing.repair import Decision, Side, covers_copy, decide, is_sound
from entgldb.storage.rules.header import PUT, Header, digest

NOW = 1_790_000_000_000

BODY, OTHER = b'{"a":1}', b'{"a":2}'
A, B = "a/" + "0" * 32, "b/" + "0" * 32
BOTH: Vector = {A: (5, b"A"), B: (5, b"B")}


def copy(origin: str = A, seq: int = 1, hlc: int = 10, body: bytes | None = BODY) -> Copy:
    return Copy("users", "u1", origin, seq, hlc, body, b"" if body is None else digest(body))


@pytest.mark.parametrize(
    ("mine", "theirs", "decision"),
    [
        # both have taken in both versions: the greater was to win
        (Side(copy(A, 1, 10), BOTH), Side(copy(B, 1, 11), BOTH), Decision.TAKE),
        (Side(copy(A, 1, 12), BOTH), Side(copy(B, 1, 11), BOTH), Decision.KEEP),
        (Side(copy(A, 1, 10), BOTH), Side(copy(B, 1, 10), BOTH), Decision.TAKE),
        # one of them is still on its way
        (Side(copy(A, 1, 10), {A: (5, b"A")}), Side(copy(B, 1, 11), BOTH), Decision.WAIT),
        (Side(copy(A, 6, 12), BOTH | {A: (6, b"x")}), Side(copy(B, 1, 11), BOTH), Decision.WAIT),
        # lost here, or deleted here: only who has all that we have can tell
        (Side(None, BOTH), Side(copy(), BOTH), Decision.TAKE),
        (Side(None, BOTH), Side(copy(), {A: (5, b"A")}), Decision.WAIT),
        (Side(None, {}), Side(copy(), BOTH), Decision.WAIT),
        (Side(None, BOTH), Side(copy(body=None), BOTH), Decision.EQUAL),
        # absent there: never a reason to delete
        (Side(copy(), BOTH), Side(None, BOTH), Decision.KEEP),
        (Side(copy(), {A: (5, b"A")}), Side(None, BOTH), Decision.WAIT),
        (Side(copy(body=None), BOTH), Side(None, BOTH), Decision.EQUAL),
        # a tombstone is a version like another
        (Side(copy(A, 1, 10), BOTH), Side(copy(B, 2, 11, None), BOTH), Decision.TAKE),
        # one version, two bodies: the one its digest was made for
        (Side(copy(), BOTH, sound=False), Side(copy(body=OTHER), BOTH), Decision.TAKE),
        (Side(copy(), BOTH), Side(copy(body=OTHER), BOTH, sound=False), Decision.KEEP),
        (Side(copy(), BOTH), Side(copy(body=OTHER), BOTH), Decision.UNDECIDED),
        (Side(copy(), BOTH), Side(copy(), BOTH), Decision.EQUAL),
        # the greater is damaged: nobody knows what it was
        (Side(copy(A, 1, 10), BOTH), Side(copy(B, 1, 11), BOTH, sound=False), Decision.UNDECIDED),
        (Side(None, BOTH), Side(copy(), BOTH, sound=False), Decision.UNDECIDED),
        # two logs under one name have their own way out
        (Side(copy(), BOTH), Side(copy(body=OTHER), BOTH | {A: (5, b"fork")}), Decision.WAIT),
    ],
)
def test_the_rule(mine: Side, theirs: Side, decision: Decision) -> None:
    assert decide(mine, theirs) is decision


def test_a_merged_body_waits_for_equal_vectors() -> None:
    merged = replace(copy(), stamps=b"s")
    theirs = replace(copy(body=OTHER), stamps=b"t")
    assert decide(Side(merged, BOTH), Side(theirs, BOTH | {B: (6, b"y")})) is Decision.WAIT
    assert decide(Side(merged, BOTH), Side(theirs, BOTH)) is Decision.UNDECIDED


SIDES = st.builds(
    Side,
    st.none()
    | st.builds(
        copy,
        st.sampled_from([A, B]),
        st.integers(1, 3),
        st.integers(10, 12),
        st.sampled_from([BODY, OTHER, None]),
    ),
    st.fixed_dictionaries(
        {A: st.tuples(st.integers(0, 3), st.just(b"")), B: st.tuples(st.integers(0, 3), st.just(b""))}
    ),
    st.booleans(),
)


@given(SIDES, SIDES)
def test_at_most_one_side_takes_and_then_the_other_keeps(one: Side, two: Side) -> None:
    if one.copy is None and two.copy is None:
        return
    # nobody has a version that its own vector does not cover
    assume(all(side.copy is None or covers_copy(side.vector, side.copy) for side in (one, two)))
    here, there = decide(one, two), decide(two, one)
    assert not (here is there is Decision.TAKE)
    assert not (here is there is Decision.KEEP)
    if here is Decision.TAKE and one.copy is not None and two.copy is not None:
        assert there is Decision.KEEP


def test_a_row_is_sound_when_body_digest_and_header_agree() -> None:
    header = Header(A, 1, 10, "users", "u1", PUT, None, 0, 1, digest(BODY), b"")
    assert is_sound(copy(), header, NOW)
    assert is_sound(copy(), None, NOW)
    assert not is_sound(replace(copy(), body=OTHER), None, NOW)
    assert not is_sound(copy(body=OTHER), header, NOW)
    assert not is_sound(replace(copy(), body=None), None, NOW)
    assert not is_sound(replace(copy(), key="u2"), header, NOW)
    assert not is_sound(replace(copy(), hlc=11), header, NOW)
    assert is_sound(replace(copy(body=OTHER), stamps=b"s"), header, NOW)
