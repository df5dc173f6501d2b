"""Lanes between the actors of one node: order, bounds, an end that dies, and whoever else may try."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from entgldb.actors.host import lane as host_lane
from entgldb.actors.host.lane import Back, Lane

FRAME_MAX = 4 * 1024 * 1024
SECONDS = 10.0
Make = Callable[[str], Lane]


def taken(lane: Lane, count: int, *others: Lane) -> list[bytes]:
    """The next ``count`` messages of a lane, while ``others`` go on writing."""
    return [payload for payload, _ in arrived(lane, count, *others)]


def arrived(lane: Lane, count: int, *others: Lane) -> list[tuple[bytes, Back | None]]:
    """The same, each with its way back."""
    found: list[tuple[bytes, Back | None]] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
        select.select([lane], [], [], 0.05)
        found += lane.turn()
        for other in others:
            assert other.turn() == []
    return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(Lane(tmp_path, name, FRAME_MAX, lambda: None)))


def test_messages_arrive_in_the_order_of_their_sender(make: Make) -> None:
    store, sync, oplog = make("store"), make("sync"), make("oplog")
    for lane in (sync, oplog):
        lane.meet({"store": b"1"})
    for number in range(100):
        assert sync.send("store", b"s%d" % number)
        assert oplog.send("store", b"o%d" % number)
    arrived = taken(store, 200)
    for letter in (b"s", b"o"):
        assert [m for m in arrived if m[:1] == letter] == [b"%s%d" % (letter, n) for n in range(100)]


def test_more_than_the_kernel_takes_waits_and_goes_out_as_it_is_read(make: Make) -> None:
    store, sync = make("store"), make("sync")
    sync.meet({"store": b"1"})
    large = [bytes([number]) * 3_000_000 for number in range(8)]
    for payload in large:
        assert sync.send("store", payload)
    assert taken(store, 8, sync) == large
    assert not select.select([sync], [], [], 0)[0], "an empty queue must not keep the actor awake"


def test_a_queue_is_bounded_and_what_finds_it_full_is_counted(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lane, "QUEUE_BYTES_MAX", 2_000_000)
    dropped: list[int] = []
    store = make("store")
    with closing(Lane(tmp_path, "sync", FRAME_MAX, lambda: dropped.append(1))) as sync:
        sync.meet({"store": b"1"})
        for number in range(10):
            assert sync.send("store", bytes([number]) * 1_000_000)
        kept = 10 - len(dropped)
        assert 1 <= kept < 10
        assert [m[0] for m in taken(store, kept, sync)] == list(range(kept))
        assert sync.send("store", b"again")
        assert taken(store, 1) == [b"again"]


def test_where_nobody_listens_there_is_no_lane(make: Make) -> None:
    sync = make("sync")
    sync.meet({"store": b"1"})
    assert not sync.send("store", b"x")


def test_an_actor_started_again_is_met_again(tmp_path: Path, make: Make) -> None:
    sync = make("sync")
    with closing(Lane(tmp_path, "store", FRAME_MAX, lambda: None)):
        sync.meet({"store": b"1"})
        assert sync.send("store", b"lost with it")
    assert not sync.send("store", b"nobody")
    store = make("store")  # over the socket file of its life before
    sync.meet({"store": b"2"})
    assert sync.send("store", b"new")
    assert taken(store, 1) == [b"new"]
    sync.meet({})
    assert not sync.send("store", b"gone")


def test_an_answer_comes_back_the_way_of_its_question(make: Make) -> None:
    store, sync, oplog = make("store"), make("sync"), make("oplog")
    for lane in (sync, oplog):
        lane.meet({"store": b"1"})
    store.meet({"sync": b"2"})
    assert sync.send("store", b"question")
    ((_, back),) = arrived(store, 1)
    assert back is not None
    assert store.send("sync", b"told before")
    back(b"a" * 3_000_000)
    came = dict(arrived(sync, 2, store))
    assert came.keys() == {b"told before", b"a" * 3_000_000}
    assert came[b"told before"] is not None
    assert came[b"a" * 3_000_000] is None
    assert oplog.turn() == []
    assert not select.select([store], [], [], 0)[0], "an empty queue must not keep the actor awake"


def test_an_answer_to_a_life_that_has_ended_goes_to_nobody(tmp_path: Path, make: Make) -> None:
    store = make("store")
    with closing(Lane(tmp_path, "sync", FRAME_MAX, lambda: None)) as sync:
        sync.meet({"store": b"1"})
        assert sync.send("store", b"question")
        ((_, back),) = arrived(store, 1)
    assert back is not None
    sync = make("sync")
    sync.meet({"store": b"1"})
    for _ in range(2):  # the first finds out, the second finds it known
        back(b"answer")
    assert store.turn() == []
    assert sync.send("store", b"next question")
    ((_, back),) = arrived(store, 1)
    assert back is not None
    back(b"next answer")
    assert taken(sync, 1) == [b"next answer"]


def test_answers_that_nobody_takes_are_bounded_and_counted(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lane, "QUEUE_BYTES_MAX", 2_000_000)
    dropped: list[int] = []
    sync = make("sync")
    with closing(Lane(tmp_path, "store", FRAME_MAX, lambda: dropped.append(1))) as store:
        sync.meet({"store": b"1"})
        assert sync.send("store", b"question")
        ((_, back),) = arrived(store, 1)
        assert back is not None
        for number in range(10):
            back(bytes([number]) * 1_000_000)
        kept = 10 - len(dropped)
        assert 1 <= kept < 10
        assert [m[0] for m in taken(sync, kept, store)] == list(range(kept))


def test_a_child_that_closes_the_lane_of_its_parent_ends_nothing_and_keeps_nothing(
    tmp_path: Path, make: Make
) -> None:
    store = make("store")
    with closing(Lane(tmp_path, "node", FRAME_MAX, lambda: None)) as node, ExitStack() as stack:
        node.meet({"store": b"1"})
        store.meet({"node": b"1"})
        assert store.send("node", b"before")
        assert taken(node, 1) == [b"before"]
        closed, end = os.pipe()
        held, ours = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            node.close()
            os.write(end, b"x")
            os.read(held, 1)  # until the parent has seen enough
            os._exit(0)
        stack.callback(os.waitpid, child, 0)
        stack.callback(os.close, ours)
        for fd in (end, closed, held):
            stack.callback(os.close, fd)
        assert os.read(closed, 1) == b"x"
        assert node.send("store", b"still")
        assert taken(store, 1) == [b"still"]
        assert store.send("node", b"here")
        assert taken(node, 1) == [b"here"]
        node.close()
        ended = time.monotonic() + SECONDS
        while store.send("node", b"over") and time.monotonic() < ended:
            assert store.turn() == []
        assert not store.send("node", b"over"), "the child holds the lane of its parent"


def test_a_frame_beyond_its_limit_ends_that_lane_alone(tmp_path: Path, make: Make) -> None:
    store, sync = make("store"), make("sync")
    sync.meet({"store": b"1"})
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / host_lane.LANE_FOLDER / "store"))
        stranger.sendall((FRAME_MAX + 1).to_bytes(4, "big"))
        stranger.settimeout(SECONDS)
        assert sync.send("store", b"good")
        assert taken(store, 1) == [b"good"]
        ended = time.monotonic() + SECONDS
        while select.select([stranger], [], [], 0)[0] == [] and time.monotonic() < ended:
            assert store.turn() == []
        assert stranger.recv(1) == b""


def test_another_user_finds_no_way_in(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make("sync")
    assert (tmp_path / host_lane.LANE_FOLDER).stat().st_mode & 0o777 == 0o700
    store = make("store")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    monkeypatch.setattr(host_lane, "ROOT", -1)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / host_lane.LANE_FOLDER / "store"))
        stranger.settimeout(SECONDS)
        assert select.select([store], [], [], SECONDS)[0]
        assert store.turn() == []
        assert stranger.recv(1) == b""
