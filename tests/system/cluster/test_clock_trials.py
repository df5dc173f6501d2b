"""Bad times on real nodes: a board in 1970, one clock a month ahead, a whole site a month ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.administration import Compact
from entgldb.messages.errors import EntglError
from tests.system.cluster.test_clock_jumps import clock_state, held, jump, jumping, peers, refused
from tests.system.support.load import COLLECTION, until_equal
from tests.system.support.processes import until

pytestmark = pytest.mark.slow
DAY_NS = 24 * 3_600_000_000_000
MONTH_NS = 31 * DAY_NS
MINUTE = 60.0


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    with jumping(tmp_path, monkeypatch, 2) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    with jumping(tmp_path, monkeypatch, 3) as made:
        yield made


def put(member: Member, key: str, number: int = 1) -> None:
    """Write as soon as the node takes writes."""

    def done() -> bool:
        try:
            member.db[COLLECTION].put(key, {"n": number})
        except EntglError as fault:
            if fault.code == "clock":
                return False
            raise
        return True

    until(done, MINUTE, f"{member.node_id} takes {key}")


def everywhere(playground: Playground, key: str, number: int = 1) -> None:
    for member in playground.lan:
        until(
            lambda member=member: member.db[COLLECTION].get(key) == {"n": number},  # type: ignore[misc]  # bound now
            MINUTE,
            f"{key} {number} on {member.node_id}",
        )


def linked(playground: Playground) -> None:
    count = len(playground.lan) - 1
    until(lambda: all(len(peers(member)) == count for member in playground.lan), MINUTE, "all links")


def entries(member: Member) -> int:
    """The number of log entries once everything that may be forgotten is forgotten."""
    member.db.ask("oplog", Compact(), timeout=30.0)
    return int(str(member.db.status("store")["oplog_entries"]))


def nobody_absent(playground: Playground) -> None:
    def heard() -> bool:
        rows = [row for member in playground.lan for row in member.db.nodes.all()]
        return len(rows) == len(playground.lan) ** 2 and all(row.state == "live" for row in rows)

    until(heard, MINUTE, "everybody is live for everybody")


def leaf(member: Member) -> x509.Certificate:
    return x509.load_pem_x509_certificate((member.directory / "node.crt").read_bytes())


@pytest.mark.timeout(240)
def test_a_board_that_boots_in_1970_and_learns_the_time_is_linked_with_a_certificate_of_today(
    two: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, board = two.lan
    linked(two)
    put(known, "before")
    put(board, "board")
    until_equal(two)
    before = [entries(member) for member in two.lan]
    board.stop()
    jump(board, -time.time_ns())
    monkeypatch.setenv("JUMPING_CLOCK", str(board.directory.with_suffix(".clock")))
    two.start([board])
    assert board.db[COLLECTION].get("before") == {"n": 1}
    jump(board, 0)
    linked(two)
    now = datetime.now(UTC)
    assert leaf(board).not_valid_before_utc < now < leaf(board).not_valid_after_utc
    assert [entries(member) >= count for member, count in zip(two.lan, before, strict=True)] == [True, True]
    nobody_absent(two)
    put(board, "after")
    everywhere(two, "after")


@pytest.mark.timeout(240)
def test_one_clock_of_three_a_month_ahead_has_its_node_forget_nothing(
    three: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    off, *others = three.lan
    linked(three)
    for number in range(20):
        put(others[0], f"k{number}", number)
    everywhere(three, "k19", 19)
    until_equal(three)
    before = entries(off)
    others[1].stop()
    put(others[0], "unseen by the third")
    jump(off, MONTH_NS)
    assert entries(off) >= before
    again(others[1], monkeypatch)
    until(lambda: refused(off), MINUTE, "a refusal")
    assert entries(off) >= before
    jump(off, 0)
    until(lambda: clock_state(off) == "ok", MINUTE, "agreement")
    put(off, "after")
    everywhere(three, "unseen by the third")
    assert entries(off) >= before


@pytest.mark.timeout(240)
def test_after_its_clock_ran_ahead_one_of_two_goes_on_with_right_stamps(
    two: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead, other = two.lan
    linked(two)
    put(ahead, "k", 1)
    everywhere(two, "k", 1)
    jump(ahead, 10 * DAY_NS)
    put(ahead, "k", 2)
    put(ahead, "unseen")
    jump(ahead, 0)
    put(ahead, "k", 3)
    until(lambda: held(other) == 3, MINUTE, "what is stamped ahead is held")
    until(lambda: verb(capsys, ahead, "status", "--check") == (5, True), MINUTE, "status says so")
    code, _ = verb(capsys, ahead, "clock", "--reset")
    assert code == 0
    everywhere(two, "k", 3)
    everywhere(two, "unseen")
    put(other, "k", 4)
    everywhere(two, "k", 4)
    until_equal(two)
    assert held(other) == 0
    until(lambda: verb(capsys, ahead, "status", "--check") == (0, False), MINUTE, "status is content")


def verb(capsys: pytest.CaptureFixture[str], member: Member, *arguments: str) -> tuple[int, bool]:
    """Exit code of a verb, and whether it names the remedy."""
    code = run(entgldb, [*arguments, "-d", str(member.directory)])
    return code, "clock --reset" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_a_site_that_was_a_month_ahead_writes_and_replicates_when_its_clocks_are_right(
    three: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked(three)
    put(three.lan[0], "k", 1)
    everywhere(three, "k", 1)
    for member in three.lan:
        jump(member, MONTH_NS)
    put(three.lan[0], "k", 2)
    everywhere(three, "k", 2)
    for member in three.lan:
        jump(member, 0)
    for number, member in enumerate(three.lan, 3):
        put(member, "k", number)
        everywhere(three, "k", number)
    assert [held(member) for member in three.lan] == [0, 0, 0]
    again(three.lan[1], monkeypatch)
    put(three.lan[1], "k", 9)
    everywhere(three, "k", 9)
    until_equal(three)


def again(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart, which changes nothing."""
    member.stop()
    monkeypatch.setenv("JUMPING_CLOCK", str(member.directory.with_suffix(".clock")))
    member.start()
    assert member.node is not None
    member.node.wait_ready()
