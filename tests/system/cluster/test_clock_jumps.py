"""The wall clock of a running node jumps by an hour, forward and back, while writes flow."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.administration import AcceptClock
from entgldb.messages.errors import EntglError
from tests.system.support.load import COLLECTION, flowing, until_equal
from tests.system.support.processes import until

pytestmark = pytest.mark.slow
HOUR_NS = 3_600_000_000_000
JUMPING = """
import os, time
real = time.time_ns
def time_ns():
    with open(os.environ["JUMPING_CLOCK"]) as file:
        return real() + int(file.read())
time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
"""
"""Python runs a ``sitecustomize`` that it finds: the wall clock of a node, and nothing else, is ours."""


def jump(member: Member, nanoseconds: int) -> None:
    """Set how far a node's wall clock is off."""
    new = member.directory.with_suffix(".new")
    new.write_text(str(nanoseconds))
    new.replace(member.directory.with_suffix(".clock"))


@contextmanager
def jumping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int) -> Iterator[Playground]:
    """A cluster of nodes whose wall clocks can be set."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMPING)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    )
    with Playground(tmp_path / "nodes") as made:
        made.root.mkdir()
        made.make_lan(nodes)
        for member in made.lan:
            jump(member, 0)
            monkeypatch.setenv("JUMPING_CLOCK", str(member.directory.with_suffix(".clock")))
            member.start()
        for member in made.lan:
            assert member.node is not None
            member.node.wait_ready()
        yield made


@pytest.fixture
def playground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    with jumping(tmp_path, monkeypatch, 2) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    with jumping(tmp_path, monkeypatch, 3) as made:
        yield made


def peers(member: Member) -> list[object]:
    """Those it is linked to."""
    found = member.db.status("sync")["peers"]
    assert isinstance(found, list)
    return found


def clock_state(member: Member) -> object:
    """The state of a node's clock, as its store tells it."""
    found = member.db.status("store")["clock"]
    assert isinstance(found, dict)
    return found["state"]


def refused(member: Member) -> bool:
    """Whether a write is refused because of the clock."""
    try:
        member.db[COLLECTION].put("refused", {"by": member.node_id})
    except EntglError as fault:
        assert (fault.code, fault.definite) == ("clock", True)  # noqa: PT017 -- a helper, called until true
        return True
    return False


def test_a_node_off_against_both_others_stops_writing_until_it_agrees_or_is_told_to_go_on(
    three: Playground,
) -> None:
    off, *others = three.lan
    until(lambda: all(len(peers(member)) == 2 for member in three.lan), 15.0, "all links")
    jump(off, -HOUR_NS)
    until(lambda: refused(off), 15.0, "a refusal")
    assert [clock_state(member) for member in three.lan] == ["off", "ok", "ok"]
    others[0].db[COLLECTION].put("meanwhile", {"n": 1})
    off.db.request(AcceptClock())
    off.db[COLLECTION].put("accepted", {"n": 2})
    assert clock_state(off) == "accepted"
    jump(off, 0)
    until(lambda: clock_state(off) == "ok", 10.0, "agreement")
    off.db[COLLECTION].put("agreed", {"n": 3})
    until_equal(three)
    for member in three.lan:
        assert {"meanwhile", "accepted", "agreed"} <= {found.key for found in member.db[COLLECTION].find()}


def stamps(member: Member, prefix: str) -> list[int]:
    """The hybrid clock's readings of all writes of one load, in the order they were written."""
    with closing(sqlite3.connect(f"file:{member.directory}/entgldb.db?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT hlc FROM _entgldb_documents WHERE collection = ? AND key GLOB ? ORDER BY origin, seq",
            (COLLECTION, f"{prefix}*"),
        )
        return [hlc for (hlc,) in rows]


def election(playground: Playground) -> list[tuple[object, object]]:
    """The gateway and epoch, as each node tells them."""
    found = [member.db.status("election") for member in playground.lan]
    return [(said["gateway"], said["epoch"]) for said in found]


def held(member: Member) -> int:
    """How many entries wait for time to catch up."""
    return int(str(member.db.status("store")["held"]))


def test_an_hour_back_and_an_hour_forward_lose_nothing_and_move_no_gateway(playground: Playground) -> None:
    jumping, other = playground.lan
    until(lambda: len(set(election(playground))) == 1 and election(playground)[0][0], 15.0, "one gateway")
    before = election(playground)
    with flowing(jumping.directory, "back-") as load:
        jump(jumping, -HOUR_NS)
        load.more(500)
        jump(jumping, 0)
        load.more(200)
    until_equal(playground)
    assert held(other) == 0
    with flowing(jumping.directory, "ahead-") as load, flowing(other.directory, "there-", 200.0) as there:
        jump(jumping, HOUR_NS)
        load.more(500)
        until(lambda: held(other) > 0, 5.0, "entries that are held")
        jump(jumping, 0)
        load.more(200)  # still ahead: the hybrid clock does not go back
        there.more(100)
    counts = other.db.status("store")["counts"]
    assert isinstance(counts, dict)
    assert int(str(counts["held-clock"])) > 0
    assert election(playground) == before
    for prefix in ("back-", "ahead-"):
        found = stamps(jumping, prefix)
        assert found == sorted(set(found)), "the hybrid clock went back"
    jump(other, HOUR_NS)  # an hour later
    until_equal(playground)
    assert held(other) == 0
    assert election(playground) == before
