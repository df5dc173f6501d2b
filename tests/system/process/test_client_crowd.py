"""Crowds of clients at real nodes: who waits, makes room, or is dropped; and the largest transactions."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import entgldb
from entgldb.client.wire import SOCKET_NAME, framed
from entgldb.launch.playground.cluster import Playground
from entgldb.messages.client import Status
from entgldb.messages.errors import NoAnswerError
from entgldb.messages.limits import CLIENTS_MAX, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX
from tests.system.support.load import pid
from tests.system.support.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240, method="signal")]


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("crowd")) as made:
        made.make_lan(2)
        made.start()
        yield made


def call(directory: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(30)
    made.connect(str(directory / SOCKET_NAME))
    return made


def test_two_hundred_clients_wait_for_a_store_that_is_stopped(playground: Playground) -> None:
    directory = playground.lan[0].directory
    store = pid(playground.lan[0], "store")
    os.kill(store, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(200) as threads:

            def put(number: int) -> int:
                with entgldb.connect(directory, timeout=120) as db:
                    return db["crowd"].put(f"k{number}", {}).seq

            asked = [threads.submit(put, number) for number in range(200)]
            with pytest.raises(TimeoutError):
                asked[0].result(1.5)
            os.kill(store, signal.SIGCONT)
            assert len({one.result(120) for one in asked}) == 200
    finally:
        os.kill(store, signal.SIGCONT)


def test_silent_connections_keep_nobody_out(playground: Playground) -> None:
    directory = playground.lan[0].directory
    silent = [call(directory) for _ in range(CLIENTS_MAX)]
    try:
        with entgldb.connect(directory, timeout=60) as db:
            db["crowd"].put("k", {"in": True})
            assert db.status("store")["counts"]["idle"] >= 1
    finally:
        for one in silent:
            one.close()


def test_whoever_does_not_read_holds_nobody_up(playground: Playground) -> None:
    directory = playground.lan[0].directory
    flood = call(directory)
    flood.setblocking(False)
    waiting = framed(Status(), 1) * 20_000
    try:
        with entgldb.connect(directory, timeout=60) as db:

            def dropped() -> bool:
                nonlocal waiting
                try:
                    waiting = waiting[flood.send(waiting) :] if waiting else waiting
                except BlockingIOError:
                    pass
                except OSError:
                    return True
                db["crowd"].put("k", {})
                return "slow-reader" in db.status("store")["counts"]

            until(dropped, 60.0, "it is dropped, while another client writes")
    finally:
        flood.close()


def test_the_largest_transactions_are_one_on_every_node(playground: Playground) -> None:
    first, second = playground.lan
    large = {f"k{number}": {"text": "x" * 400_000} for number in range(10)}
    full = {f"k{number}": {"text": "y" * (GROUP_BYTES_MAX // 17 - 11)} for number in range(17)}
    many = {f"k{number}": {"n": number} for number in range(GROUP_ENTRIES_MAX)}
    with entgldb.connect(first.directory, timeout=60) as db, entgldb.connect(second.directory) as other:
        for name, documents in (("large", large), ("full", full), ("many", many)):
            assert db[name].put_many(documents, atomic=True) == len(documents)
            seen = set[int]()

            def whole(name: str = name, seen: set[int] = seen, size: int = len(documents)) -> bool:
                seen.add(other[name].count())
                return size in seen

            until(whole, 90.0, f"{name} is there")
            assert seen <= {0, len(documents)}


def test_a_write_to_a_stopped_store_is_repeated_as_the_same(playground: Playground) -> None:
    directory = playground.lan[0].directory
    store = pid(playground.lan[0], "store")
    os.kill(store, signal.SIGSTOP)
    try:
        with entgldb.connect(directory, timeout=1.0) as db:
            with pytest.raises(NoAnswerError, match="no answer from the node") as caught:
                db["stopped"].put("k", {"v": 1})
            os.kill(store, signal.SIGCONT)
    finally:
        os.kill(store, signal.SIGCONT)
    assert not caught.value.definite
    # the first may be done before this one, or after it: it is one write
    with entgldb.connect(directory, timeout=60) as db:
        version = db["stopped"].put("k", {"v": 1}, request=caught.value.request)
        assert db["stopped"].put("k", {"v": 1}, request=caught.value.request) == version
        db.status("store")
        assert [past.version for past in db["stopped"].history("k").versions] == [version]
