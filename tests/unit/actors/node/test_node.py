"""NodeActor's behaviour: starts, restarts, repeats, reconfigures, stops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entgldb.messages.administration import Happened
from entgldb.messages.client import Done, Refused, Reload, Report, Status, Stop, WhoIs
from entgldb.messages.local.actors import (
    Addresses,
    ApplyInitialPeers,
    Boot,
    ChildExited,
    Configure,
    ElectionOutcome,
    InitialPeersApplied,
    KnownPeers,
    PeerDown,
    PeerUp,
    Ready,
    Reconfigure,
    RemotePeersChanged,
    SessionEnded,
    StaticPeers,
    StopNow,
    Stopped,
)
from entgldb.messages.local.members import NoteSelf
from entgldb.messages.settings import ElectionSettings
from tests.support.fake_context import FakeAsker
from tests.unit.actors.node.node_rig import CHILDREN, Rig, settings

STATIC = {
    "NodeId": "s1",
    "Address": "lan.example:7000",
    "Type": 1,
    "OAuth2Json": None,
    "IsEnabled": True,
}
INITIAL = ({"node_id": "c1"},)


def test_the_store_starts_alone_and_the_rest_when_it_serves() -> None:
    rig = Rig()
    assert rig.spawned == ["store"]
    rig.ready("store")
    assert rig.spawned == CHILDREN
    assert rig.configured() == CHILDREN


def test_boot_is_answered_when_all_serve() -> None:
    rig = Rig()
    for name in CHILDREN:
        assert rig.boot.answers == []
        rig.ready(name)
    assert rig.boot.answers == [
        Ready("node", 99, {"pid": 99, "address": "4099", "origin": "n1/00", "port": 7000})
    ]


def test_boot_is_answered_by_what_keeps_the_store_from_starting() -> None:
    rig = Rig()
    fault = Refused("corrupt", "entgldb.db fails its checks")
    rig.hand(fault)
    assert rig.boot.answers == [fault]


def test_boot_is_answered_by_what_keeps_any_other_from_starting() -> None:
    rig = Rig()
    rig.ready("store")
    fault = Refused("config", "port 7000 is taken")
    rig.hand(fault)
    rig.all_ready()
    rig.hand(Refused("config", "later"))
    assert rig.boot.answers == [fault]


def test_every_child_is_told_where_the_others_are() -> None:
    rig = Rig().all_ready()
    latest = {actor: m for actor, m in rig.told if isinstance(m, Addresses)}
    assert set(latest) == set(CHILDREN)
    assert latest["store"].actors["gateway"] == b"4004"
    assert latest["store"].pids["node"] == 99
    assert rig.ask(WhoIs()) == latest["store"]


def test_a_dead_child_leaves_the_table_and_is_started_and_configured_again() -> None:
    rig = Rig().all_ready()
    rig.told.clear()
    rig.hand(ChildExited("oplog"))
    assert all("oplog" not in m.actors for m in rig.take(Addresses))
    rig.run(0.1)
    assert rig.spawned[-1] == "oplog"
    assert [m.oplog for m in rig.take(Configure, "oplog")] == [rig.node.settings.oplog]


@pytest.mark.parametrize("name", ["sync", "gateway"])
def test_sessions_that_died_with_their_actor_are_forgotten_before_it_has_new_ones(name: str) -> None:
    rig = Rig().all_ready()
    rig.told.clear()
    rig.hand(ChildExited(name))
    rig.run(0.1)
    order = [(to, type(m)) for to, m in rig.told if isinstance(m, (SessionEnded, Configure))]
    assert order == [("oplog", SessionEnded), ("store", SessionEnded), (name, Configure)]
    assert {m.session for m in rig.take(SessionEnded)} == {name}


def test_backoff_doubles_and_begins_anew_after_a_healthy_minute() -> None:
    rig = Rig().all_ready()
    delays = []
    for _ in range(12):
        rig.spawned.append("-")
        before = rig.monotonic()
        rig.hand(ChildExited("gateway"))
        while rig.spawned[-1] != "gateway":
            rig.run(0.01)
        delays.append(round(rig.monotonic() - before, 2))
        rig.ready("gateway")
    assert delays[:5] == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32], abs=0.011)
    assert delays[-1] == pytest.approx(5.0, abs=0.011)
    rig.run(60.0)
    rig.spawned.append("-")
    rig.hand(ChildExited("gateway"))
    rig.run(0.02)
    assert rig.spawned[-1] == "gateway"
    assert len(rig.boot.answers) == 1


def test_outcome_or_peers_reconfigure_the_gateway() -> None:
    rig = Rig().all_ready()
    rig.hand(ElectionOutcome(3, "n1"))
    assert rig.take(Reconfigure) == []  # nobody knows the peers yet
    rig.hand(RemotePeersChanged((STATIC,)))
    rig.hand(RemotePeersChanged((STATIC,)))
    rig.hand(ElectionOutcome(4, "n2"))
    assert rig.take(Reconfigure, "gateway") == [
        Reconfigure("n1", 3, (STATIC,), "peers"),
        Reconfigure("n2", 4, (STATIC,), "election"),
    ]


@pytest.mark.parametrize("change", [{"IsEnabled": False}, {"Type": 2}, {"Address": "nonsense"}])
def test_only_enabled_static_peers_are_dialled_by_every_node(change: dict[str, object]) -> None:
    rig = Rig().all_ready()
    rig.told.clear()
    rig.hand(RemotePeersChanged((STATIC,)))
    rig.hand(RemotePeersChanged(({**STATIC, **change},)))
    assert rig.take(StaticPeers) == [StaticPeers({"s1": "lan.example:7000"}), StaticPeers({})]


def test_a_restarted_child_hears_again_what_it_needs() -> None:
    rig = Rig(known={"n2": "10.0.0.2:7000"}).all_ready()
    rig.hand(RemotePeersChanged((STATIC,)))
    rig.hand(ElectionOutcome(3, "n1"))
    rig.hand(PeerUp("n2"))
    rig.told.clear()
    rig.ready("gateway")
    assert rig.take(Reconfigure) == [Reconfigure("n1", 3, (STATIC,), "restart")]
    rig.ready("sync")
    assert rig.take(StaticPeers) == [StaticPeers({"s1": "lan.example:7000"})]
    assert rig.take(KnownPeers) == [KnownPeers({"n2": "10.0.0.2:7000"})]
    rig.ready("election")
    assert rig.take(PeerUp, "election") == [PeerUp("n2")]


@pytest.mark.parametrize("linked", [True, False])
def test_a_store_that_died_is_told_again_to_say_what_it_is(*, linked: bool) -> None:
    rig = Rig().all_ready()
    if linked:
        rig.hand(PeerUp("n2"))
    rig.told.clear()
    rig.hand(ChildExited("store"))
    rig.run(5.0)
    rig.ready("store")
    assert len(rig.take(NoteSelf)) == linked


def test_links_that_died_with_sync_are_reported_down_to_election() -> None:
    rig = Rig().all_ready()
    rig.hand(PeerUp("n2"))
    rig.hand(PeerUp("n3"))
    rig.hand(PeerDown("n3", "peer-closed"))
    rig.hand(ChildExited("sync"))
    assert rig.take(PeerDown, "election") == [PeerDown("n2", "stopping")]


def test_initial_peers_wait_for_all_that_a_first_peer_has() -> None:
    rig = Rig(settings(initial_peers=INITIAL, seeds=("10.0.0.2:7000",))).all_ready()
    rig.run(20.0)
    assert rig.take(ApplyInitialPeers) == []
    rig.synced = False
    rig.hand(PeerUp("n2"))
    rig.run(5.0)
    assert rig.take(ApplyInitialPeers) == []
    rig.synced = True
    rig.run(1.0)
    rig.hand(InitialPeersApplied(1))
    rig.hand(PeerUp("n3"))
    rig.run(60.0)
    assert rig.take(ApplyInitialPeers, "store") == [ApplyInitialPeers(INITIAL, 1)]


def test_initial_peers_are_said_again_until_the_store_has_answered() -> None:
    rig = Rig(settings(initial_peers=INITIAL, config_file="/d/entgldb.toml")).all_ready()
    rig.run(32.0)
    assert rig.take(ApplyInitialPeers) == [ApplyInitialPeers(INITIAL, 1)] * 5
    rig.hand(Boot(replace(rig.node.settings, initial_peers=())))
    rig.hand(Boot(replace(rig.node.settings, initial_peers=INITIAL)))
    rig.told.clear()
    rig.hand(InitialPeersApplied(1))  # of the list before the reload
    rig.run(6.0)
    assert rig.take(ApplyInitialPeers) == [ApplyInitialPeers(INITIAL, 3)]
    rig.hand(InitialPeersApplied(3))
    rig.told.clear()
    rig.run(60.0)
    assert rig.take(ApplyInitialPeers) == []


def test_initial_peers_of_a_lone_first_node_come_after_ten_seconds() -> None:
    rig = Rig(settings(initial_peers=INITIAL)).all_ready()
    rig.run(9.9)
    assert rig.take(ApplyInitialPeers) == []
    rig.run(0.2)
    assert rig.take(ApplyInitialPeers) == [ApplyInitialPeers(INITIAL, 1)]
    lonely = Rig(settings(initial_peers=INITIAL), known={"n2": "10.0.0.2:7000"}).all_ready()
    lonely.run(60.0)
    assert lonely.take(ApplyInitialPeers) == []


def test_status_holds_all_actors_and_null_for_one_that_is_silent() -> None:
    rig = Rig().all_ready()
    rig.deaf.add("gateway")
    rig.hand(ChildExited("oplog"))
    rig.run(1.0)
    asker = FakeAsker()
    rig.asker = asker
    rig.hand(Status())
    assert asker.answers == []
    rig.run(2.0)
    (report,) = asker.answers
    assert isinstance(report, Report)
    assert report.body["store"] == {"is": "store"}
    assert report.body["oplog"] is None
    assert report.body["gateway"] is None
    assert report.body["restarts"]["oplog"] == 1


def test_stop_ends_the_links_then_the_store_then_tells_the_launcher() -> None:
    rig = Rig().all_ready()
    rig.told.clear()
    assert rig.ask(Stop()) == Done()
    assert rig.take(Happened, "store") == [Happened("node", "stop", "begun")]
    stops = [(actor, type(m)) for actor, m in rig.told if isinstance(m, StopNow | Stopped)]
    assert stops == [(name, StopNow) for name in [*CHILDREN[1:], "store"]] + [("launcher", Stopped)]
    rig.hand(ChildExited("sync"))
    rig.run(10.0)
    assert rig.spawned == CHILDREN


def test_a_child_that_hangs_delays_a_stop_by_little() -> None:
    rig = Rig().all_ready()
    rig.deaf |= {"sync", "store"}
    assert rig.ask(Stop()) == Done()
    rig.run(1.3)
    assert rig.take(Stopped, "launcher") == [Stopped("node")]
    rig.run(5.0)
    assert rig.take(Stopped, "launcher") == []


def test_reload_brings_only_changed_slices() -> None:
    rig = Rig(settings(config_file="/d/entgldb.toml")).all_ready()
    asker = FakeAsker()
    rig.asker = asker
    rig.hand(Reload())
    rig.asker = None
    assert rig.take(Reload, "launcher") == [Reload()]
    rig.told.clear()
    changed = replace(rig.node.settings, election=ElectionSettings("n1", "lan", priority=7))
    rig.hand(Boot(changed))
    assert asker.answers == [Report({"changed": ["election.priority"], "restart_needed": []})]
    told = "changed ['election.priority'], restart needed for []"
    assert rig.take(Happened, "store") == [Happened("node", "reload", told)]
    assert [(a, m.election) for a, m in rig.told if isinstance(m, Configure)] == [
        ("election", changed.election)
    ]


def test_reload_of_a_bad_file_says_so() -> None:
    rig = Rig(settings(config_file="/d/entgldb.toml")).all_ready()
    asker = FakeAsker()
    rig.asker = asker
    rig.hand(Reload())
    rig.asker = None
    fault = Refused("config", "election_priority is no number")
    rig.hand(fault)
    assert asker.answers == [fault]
