"""Origins that nobody has heard of come with a snapshot as well as with entries, and are counted alike."""

from __future__ import annotations

from hashlib import sha256

import pytest

from entgldb.messages.errors import Reason
from entgldb.messages.model import Entry
from entgldb.messages.wire import Member
from entgldb.storage.repair import strangers
from entgldb.storage.rules.clock import from_ms
from entgldb.storage.rules.comparing import chunks
from entgldb.storage.rules.results import Installed
from entgldb.storage.snapshot.staging import Staging
from tests.support.merging import install_whole
from tests.unit.storage.snapshot.snapshots import memory
from tests.unit.storage.snapshot.test_snapshots import NOW, Side


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("STRANGERS_MAX", 8), ("STRANGERS_PER_PEER_MAX", 3), ("TAKEN_MAX", 12)):
        monkeypatch.setattr(strangers, name, most)


def head_of(side: Side, *origins: str, peer: str, cloud: bool = False) -> Installed:
    """Let ``side`` take a snapshot without rows that covers ``origins``."""
    name, connection = memory()
    staging = Staging(connection)
    marks = tuple(chunks.Mark(origin, 1, b"h" * 32, 0, 1) for origin in sorted(origins))
    head = chunks.encode_preface(chunks.Preface(marks, from_ms(NOW), True))
    staging.add_chunk(0, head, sha256(head).digest())
    staging.finish(chunks.snapshot_id([sha256(head).digest()]), whole=True)
    done = install_whole(side.store, name, b"e" * 32, NOW, cloud=cloud, peer=peer)
    connection.close()
    return done


def names(word: str, count: int) -> list[str]:
    return [f"{word}/{number:032x}" for number in range(count)]


def knowing() -> Side:
    """A node that has heard of one other already."""
    one, other = Side("one"), Side("other")
    other.put("k", "v")
    other.give(one)
    return one


@pytest.mark.parametrize("cloud", [False, True])
def test_a_snapshot_brings_no_more_strangers_than_entries_may(*, cloud: bool) -> None:
    one = knowing()
    before = one.store.vector()
    assert head_of(one, *names("a", 4), peer="bad", cloud=cloud).refused == Reason.TOO_MANY_ORIGINS.value
    assert one.store.vector() == before
    assert [alarm["code"] for alarm in one.store.status()["alarms"]] == ["too-many-origins"]  # type: ignore[union-attr]  # a list
    assert head_of(one, *names("a", 2), peer="bad", cloud=cloud).refused == ""
    assert head_of(one, *names("b", 2), peer="bad", cloud=cloud).refused == Reason.TOO_MANY_ORIGINS.value
    assert head_of(one, *names("b", 2), peer="good", cloud=cloud).refused == ""
    assert head_of(one, *names("c", 3), peer="third").refused == Reason.TOO_MANY_ORIGINS.value, "in all"
    new = Side("new")
    new.put("n", "n")
    new.give(one)
    assert one.shows()["n"] == "n", "an honest writer finds room"


def test_origins_that_members_call_their_own_are_no_strangers_in_a_snapshot() -> None:
    one = knowing()
    with one.store.group():
        one.store.remember_members([Member(o, 1, NOW, {}) for o in _apart(names("m", 6))], NOW, cloud=False)
    assert head_of(one, *_apart(names("m", 6)), *names("a", 3), peer="good").refused == ""
    assert head_of(one, *names("b", 1), peer="other").refused == Reason.TOO_MANY_ORIGINS.value


def _apart(origins: list[str]) -> list[str]:
    """Each of a node of its own: one node has one last word."""
    return [f"m{number}{origin[1:]}" for number, origin in enumerate(origins)]


def test_an_empty_node_takes_all_that_its_lan_knows_and_of_a_cloud_a_part() -> None:
    assert head_of(Side("new"), *names("a", 10), peer="giver").refused == ""
    assert head_of(Side("new"), *names("a", 12), peer="giver").refused == Reason.TOO_MANY_ORIGINS.value
    cloud = head_of(Side("new"), *names("a", 4), peer="giver", cloud=True)
    assert cloud.refused == Reason.TOO_MANY_ORIGINS.value
    assert head_of(Side("new"), *names("a", 3), peer="giver", cloud=True).refused == ""


def fails(state: object) -> None:
    raise OSError("no commit")


@pytest.mark.parametrize("times", [1, 3])
def test_a_snapshot_whose_commit_fails_has_brought_nobody(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = knowing()
    with monkeypatch.context() as broken:
        broken.setattr(one.store.transaction.signing, "before_commit", fails)
        for _ in range(times):
            with pytest.raises(OSError, match="no commit"):
                head_of(one, *names("a", 2), peer="good")
    assert head_of(one, *names("a", 2), peer="good").refused == ""
    assert head_of(one, *names("b", 1), peer="good").refused == ""
    assert head_of(one, *names("c", 1), peer="good").refused == Reason.TOO_MANY_ORIGINS.value


def test_entries_that_are_undone_and_come_again_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, new, three = knowing(), Side("new"), [Side(f"s{number}") for number in range(3)]
    new.put("n", "n")
    with monkeypatch.context() as broken:
        broken.setattr(one.store.transaction.signing, "before_commit", fails)
        for _ in range(4):
            with pytest.raises(OSError, match="no commit"):
                bring(one, new)
    for number, side in enumerate(three):
        side.put(f"k{number}", "v")
        bring(one, side)
    assert {"k0", "k1", "k2"} <= one.shows().keys()
    bring(one, new)
    assert "n" not in one.shows()


def bring(one: Side, other: Side) -> None:
    rows = [Entry(row.header, row.body) for row in other.store.rows(1, 10)]
    with one.store.group():
        one.store.apply(rows, NOW, peer="good")
