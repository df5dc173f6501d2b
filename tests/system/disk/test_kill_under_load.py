"""Processes of a node are killed while a thousand writes a second flow into it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest

from entgldb.launch.node.files import read_record, running
from entgldb.launch.playground.cluster import Member, Playground
from tests.system.support.load import answers, flowing, pid, until_equal
from tests.system.support.processes import all_gone, until

pytestmark = pytest.mark.slow
CHILDREN = ["store", "oplog", "sync", "election", "gateway"]


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("load")) as made:
        made.make_lan(2)
        made.start()
        yield made


@pytest.fixture
def node(playground: Playground) -> Member:
    return playground.members[0]


@pytest.mark.parametrize("actor", CHILDREN)
def test_an_actor_killed_under_load_is_back_and_nothing_is_lost_or_done_twice(
    playground: Playground, node: Member, actor: str
) -> None:
    moments = random.Random(actor)
    with flowing(node.directory, f"{actor}-") as load:
        for _ in range(3):
            load.more(moments.randrange(50, 500))
            before = until(lambda: pid(node, actor), 5.0, f"the pid of {actor}")
            os.kill(before, signal.SIGKILL)
            all_gone([before])
            until(lambda: answers(node, actor), 30.0, f"{actor} answering again")
        load.more(200)
    until_equal(playground)


def test_the_node_actor_killed_under_load_comes_back_with_all_it_supervises(
    playground: Playground, node: Member
) -> None:
    with flowing(node.directory, "node-") as load:
        before = node.pids()
        record = read_record(node.directory)
        os.kill(record["pids"]["node"], signal.SIGKILL)
        all_gone([record["pids"]["node"]])
        load.more(300)
        left = node.pids() & before
        assert {record["pid"], record["pids"]["admin"]} <= left
        assert len(left) == 2
    until_equal(playground)


@pytest.mark.parametrize("root", ["admin", "launcher"])
def test_a_root_killed_under_load_leaves_no_process_and_no_hole(
    playground: Playground, node: Member, root: str
) -> None:
    with flowing(node.directory, f"{root}-") as load:
        everything = node.pids()
        record = read_record(node.directory)
        os.kill(record["pid"] if root == "launcher" else record["pids"]["admin"], signal.SIGKILL)
        all_gone(sorted(everything))
        until(lambda: not running(node.directory), 2.0, "the release of the lock")
        node.stop()
        playground.start([node])
        load.more(200)
    until_equal(playground)
