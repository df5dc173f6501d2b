"""The set of answers is closed, and total in the code: whatever delays or drops an entry has one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entgldb.messages.errors import Reason
from entgldb.messages.model import REMOTE_PEERS, Version
from entgldb.storage.rules.why import EXPLAINS, KeyState, Other, Ourselves, WhyReason, here, of_version, there

A = Version("a/" + "0" * 32, 3)
B = Version("b/" + "0" * 32, 1)
SHOWN = KeyState("users", A, live=True, newest=A)
GONE = KeyState("users", A, newest=A)
PAST = KeyState("users", A, newest=A, expired=True)
NOTHING = KeyState("users")


def test_every_reason_of_the_code_has_its_answer() -> None:
    missing = {reason.value for reason in set(Reason) - EXPLAINS.keys()}
    assert missing == set(), (
        "say in storage/rules/why.py which answer of `entgldb why` it belongs to, or None"
    )


def test_the_set_is_the_promised_one() -> None:
    words = "peer-offline not-yet-sent held-clock quarantined overwritten deleted expired filtered auth"
    assert " ".join(WhyReason) == f"{words} disk-full behind-snapshot unknown"


@pytest.mark.parametrize(
    ("known", "us", "answer"),
    [
        (SHOWN, Ourselves(disk_full=True, behind_in=5), None),
        (GONE, Ourselves(behind_in=5), WhyReason.DELETED),
        (PAST, Ourselves(behind_in=5), WhyReason.EXPIRED),
        (KeyState("users", newest=A, held=True), Ourselves(), WhyReason.HELD_CLOCK),
        (KeyState("users", newest=A, unfit=True), Ourselves(), WhyReason.QUARANTINED),
        (KeyState("users", newest=A, recorded=True), Ourselves(), WhyReason.FILTERED),
        (NOTHING, Ourselves(disk_full=True, behind_in=1), WhyReason.DISK_FULL),
        (NOTHING, Ourselves(behind_snapshot=True), WhyReason.BEHIND_SNAPSHOT),
        (NOTHING, Ourselves(behind_in=1), WhyReason.NOT_YET_SENT),
        (NOTHING, Ourselves(absent=(Other("x"), Other("y", reason="token-refused"))), WhyReason.AUTH),
        (NOTHING, Ourselves(absent=(Other("x"),)), WhyReason.PEER_OFFLINE),
        (NOTHING, Ourselves(), WhyReason.UNKNOWN),
    ],
)
def test_here(known: KeyState, us: Ourselves, answer: WhyReason | None) -> None:
    assert here(known, us) is answer


@pytest.mark.parametrize(
    ("known", "other", "answer"),
    [
        (SHOWN, Other("x", {A.origin: 3}), None),
        (SHOWN, Other("x", {A.origin: 2}, linked=True), WhyReason.NOT_YET_SENT),
        (SHOWN, Other("x", {A.origin: 2}), WhyReason.PEER_OFFLINE),
        (SHOWN, Other("x", None, reason="authority-refused"), WhyReason.AUTH),
        (SHOWN, Other("x", None, reason="a newer word"), WhyReason.PEER_OFFLINE),
        (SHOWN, Other("x", None, linked=True), WhyReason.UNKNOWN),
        (SHOWN, Other("x", {}, linked=True, held={A.origin: 3}), WhyReason.HELD_CLOCK),
        (SHOWN, Other("x", {}, linked=True, behind_floor=True), WhyReason.BEHIND_SNAPSHOT),
        (GONE, Other("x", {A.origin: 3}), WhyReason.DELETED),
        (PAST, Other("x", {A.origin: 3}), WhyReason.EXPIRED),
        (
            KeyState(REMOTE_PEERS, A, live=True, newest=A),
            Other("x", {A.origin: 3}, cloud=True),
            WhyReason.FILTERED,
        ),
        (KeyState("users", newest=A, unfit=True), Other("x", {}, linked=True), WhyReason.QUARANTINED),
        (NOTHING, Other("x", {}, linked=True), WhyReason.UNKNOWN),
    ],
)
def test_there(known: KeyState, other: Other, answer: WhyReason | None) -> None:
    assert there(known, other) is answer


def test_a_version_is_shown_deleted_or_overwritten() -> None:
    assert of_version(A, SHOWN, delete=False) is None
    assert of_version(A, GONE, delete=True) is WhyReason.DELETED
    assert of_version(A, PAST, delete=False) is WhyReason.EXPIRED
    assert of_version(B, SHOWN, delete=False) is WhyReason.OVERWRITTEN


@given(
    st.builds(KeyState, st.sampled_from(["users", REMOTE_PEERS]), st.none() | st.just(A), st.booleans(),
              st.none() | st.sampled_from([A, B]), st.booleans(), st.booleans(), st.booleans()),
    st.builds(Other, st.just("x"), st.none() | st.dictionaries(st.sampled_from([A.origin, B.origin]),
              st.integers(0, 4)), st.booleans(), st.sampled_from(["", *(one.value for one in Reason)]),
              st.booleans(), st.just({}), st.booleans()),
)  # fmt: skip
def test_there_is_always_one_answer(known: KeyState, other: Other) -> None:
    assert there(known, other) in {None, *WhyReason}
    assert here(known, Ourselves(absent=(other,))) in {None, *WhyReason}
