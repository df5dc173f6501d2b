"""Processes of a node are stopped with SIGSTOP and woken again: late is not wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from entgldb.launch.node.files import read_record
from entgldb.launch.node.handle import ask
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.launch.playground.processes import connections_to
from entgldb.messages.client import Ping
from entgldb.messages.errors import EntglError, NoAnswerError
from tests.system.support.load import flowing, pid, until_equal
from tests.system.support.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("stopped")) as made:
        made.start_authority()
        made.make_lan(3)
        cloud = made.make_cloud()
        made.start()
        made.lan[0].db.peers.add_cloud_peer(
            cloud.node_id,
            cloud.address,
            authority=made.authority,
            client_id=made.client_id,
            client_secret=made.client_secret,
            ca_pem=made.ca_file.read_text(),
        )
        yield made


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Processes that do not move while the block runs."""
    held = sorted(pids)
    for one in held:
        os.kill(one, signal.SIGSTOP)
    try:
        until(
            lambda: all(
                Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] == "T" for one in held
            ),
            2.0,
            "all stopped",
        )
        yield
    finally:
        for one in held:
            with suppress(ProcessLookupError):  # one that was stopped for long is ended by its supervisor
                os.kill(one, signal.SIGCONT)


def leader(members: Iterable[Member]) -> str:
    """The gateway that these nodes agree on; empty while they do not."""
    try:
        found = {str(member.db.status("election").get("gateway") or "") for member in members}
    except EntglError:
        return ""
    return found.pop() if len(found) == 1 else ""


def links(member: Member) -> set[str]:
    """The nodes that one has a link with."""
    peers = member.db.status("sync")["peers"]
    assert isinstance(peers, list)
    return {str(peer["node_id"]) for peer in peers if isinstance(peer, dict)}


def holders(playground: Playground) -> list[str]:
    """The LAN nodes with a connection to the cloud node's port."""
    port = playground.clouds[0].port
    return [member.node_id for member in playground.lan if connections_to(port, member.pids())]


@pytest.mark.parametrize("actor", ["oplog", "sync", "election", "gateway", "node", "admin"])
def test_writes_go_on_while_another_process_is_stopped(playground: Playground, actor: str) -> None:
    node = playground.lan[0]
    held = read_record(node.directory)["pids"]["admin"] if actor == "admin" else pid(node, actor)
    with flowing(node.directory, f"{actor}-") as load:
        with stopped([held]):
            load.more(1000)
        load.more(200)
    until_equal(playground)


@pytest.mark.parametrize("name", ["launcher", "admin"])
def test_a_stopped_process_above_the_actors_is_told_in_status(playground: Playground, name: str) -> None:
    node = playground.lan[0]
    record = read_record(node.directory)
    held = record["pid"] if name == "launcher" else record["pids"]["admin"]

    def told() -> bool:
        alarms = node.db.status("node")["alarms"]
        assert isinstance(alarms, list)
        return any(isinstance(one, dict) and one["subject"] == name for one in alarms)

    with stopped([held]):
        until(told, 15.0, f"the alarm for {name}")
        node.db["users"].put(f"while {name} stands", {"n": 1})
        if name == "admin":
            with pytest.raises(NoAnswerError, match="admin does not answer"):
                ask(node.directory, "store", Ping(), timeout=1.0)
    until(lambda: not told(), 15.0, f"the end of the alarm for {name}")


def test_whoever_waits_for_a_stopped_store_is_answered_when_it_goes_on(playground: Playground) -> None:
    node = playground.lan[1]
    with flowing(node.directory, "late-") as load:
        with stopped([pid(node, "store")]), pytest.raises(NoAnswerError):
            node.db.ask("store", Ping(), timeout=1.5)
        load.more(200)
    until_equal(playground)


def test_a_sync_that_stops_long_is_taken_for_dead_and_met_again(playground: Playground) -> None:
    node, *others = playground.lan
    with flowing(node.directory, "cut-") as load:
        with stopped([pid(node, "sync")]):
            until(
                lambda: all(node.node_id not in links(other) for other in others), 10.0, "loss of the links"
            )
            load.more(100)
        until(lambda: all(node.node_id in links(other) for other in others), 10.0, "the links again")
    until_equal(playground)


@pytest.mark.parametrize("what", ["election", "all"])
def test_a_gateway_that_was_stopped_steps_down_and_lets_go_of_the_cloud(
    playground: Playground, what: str
) -> None:
    first = until(lambda: leader(playground.lan), 15.0, "a gateway")
    until(lambda: holders(playground) == [first], 15.0, "its link to the cloud")
    node = next(member for member in playground.lan if member.node_id == first)
    others = [member for member in playground.lan if member is not node]
    with flowing(others[0].directory, f"led-{what}-") as load:
        with stopped([pid(node, "election")] if what == "election" else node.pids()):
            second = until(
                lambda: found if (found := leader(others)) != first else "", 15.0, "another gateway"
            )
            load.more(100)
        until(lambda: holders(playground) == [second], 15.0, "one link to the cloud, of the new gateway")
        assert until(lambda: leader(playground.lan), 15.0, "agreement") == second
    until_equal(playground)
