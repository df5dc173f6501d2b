"""The election among several nodes: one gateway, whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

from entgldb.actors.session.claims import EPOCH_MAX
from entgldb.messages.client import Report, StandDown, Status
from entgldb.messages.limits import CLOUDS_TOLD_MAX
from entgldb.messages.local.actors import ClaimHeard, Fitness, ProveReach
from entgldb.messages.wire import Claim, Rank
from tests.unit.actors.election.election_net import Net


def three(takeover: float = 10.0) -> Net:
    net = Net()
    for name in ("a", "b", "c"):
        net.add(name, takeover=takeover)
    net.mesh("a", "b", "c")
    net.run(3)
    return net


def test_a_lone_node_leads_itself_within_two_seconds() -> None:
    net = Net()
    net.add("only")
    net.run(2.1)
    assert net.leaders() == ["only"]
    assert [(o.epoch, o.gateway) for o in net.nodes["only"].outcomes] == [(1, "only")]


def test_the_smallest_node_id_leads_and_all_follow_it() -> None:
    net = three()
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}


def test_priority_and_resolvable_peers_come_before_the_node_id() -> None:
    net = Net()
    for name, priority in (("a", 0), ("b", 5), ("c", 0)):
        net.add(name, priority=priority)
    net.mesh("a", "b", "c")
    net.nodes["c"].ctx.hand(Fitness(1))
    net.run(3)
    assert net.leaders() == ["c"]
    net.kill("c")
    net.run(3)
    assert net.leaders() == ["b"]


@pytest.mark.parametrize("order", ["abc", "acb", "cba", "cab", "bac", "bca"])
def test_the_order_of_starting_does_not_matter(order: str) -> None:
    net = Net()
    for index, name in enumerate(order):
        net.add(name)
        for other in order[:index]:
            net.link(name, other)
        net.run(0.8)
    net.run(2.5)
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}


def test_a_gateway_that_has_ended_is_replaced_within_a_second_and_a_half() -> None:
    net = three()
    net.kill("a")
    net.run(1.5)
    assert net.leaders() == ["b"]
    assert net.followed() == {"b"}
    assert net.nodes["b"].outcomes[-1].epoch == 2


def test_a_gateway_that_hangs_is_replaced_within_five_seconds_and_steps_down_when_it_wakes() -> None:
    net = three()
    net.stopped.add("a")
    net.run(5)
    assert net.leaders() == ["a", "b"]
    net.stopped.discard("a")
    net.run(1.2)
    assert net.leaders() == ["b"]
    assert net.followed() == {"b"}


def test_the_better_node_returns_and_leads_only_after_the_takeover_delay() -> None:
    net = three()
    net.kill("a")
    net.run(3)
    net.add("a")
    net.mesh("a", "b")
    net.link("a", "c")
    net.run(9)
    assert net.leaders() == ["b"]
    net.run(5)
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}
    assert net.nodes["a"].outcomes[-1].epoch == 3


def test_a_node_that_flaps_never_takes_over() -> None:
    net = three()
    net.kill("a")
    net.run(3)
    for _ in range(6):
        net.add("a")
        net.link("a", "b")
        net.link("a", "c")
        net.run(6)
        assert net.leaders() == ["b"]
        net.kill("a")
        net.run(1)
    assert net.nodes["b"].outcomes[-1].epoch == 2


def test_a_chain_has_one_gateway_at_either_end_and_through_a_failure() -> None:
    net = Net()
    for name in ("a", "d", "c", "b"):
        net.add(name)
    net.link("a", "d")
    net.link("d", "c")
    net.link("c", "b")
    net.run(5)
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}
    net.run(30)
    assert net.leaders() == ["a"], "the far end must not lose the beat"
    net.kill("a")
    net.run(8)
    assert net.leaders() == ["b"]
    assert net.followed() == {"b"}


def test_a_cut_between_two_of_three_changes_nothing() -> None:
    net = three()
    net.cut("a", "c")
    net.run(20)
    assert net.leaders() == ["a"]
    assert [o.gateway for o in net.nodes["c"].outcomes] == ["a"]


def test_two_partitions_have_a_gateway_each_and_one_when_healed() -> None:
    net = Net()
    for name in ("a", "b", "c", "d"):
        net.add(name)
    net.mesh("a", "b", "c", "d")
    net.run(3)
    for one in "ab":
        for two in "cd":
            net.cut(one, two)
    net.run(4)
    assert net.leaders() == ["a", "c"]
    for one in "ab":
        for two in "cd":
            net.link(one, two)
    net.run(1.2)
    assert net.leaders() == ["c"], "the higher epoch leads first"
    net.run(13)
    assert net.leaders() == ["a"], "the better one takes over"
    assert net.followed() == {"a"}


def test_a_gateway_whose_election_restarts_leads_again_with_a_new_epoch() -> None:
    net = three()
    net.add("a")
    net.run(4)
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}
    assert net.nodes["b"].outcomes[-1].epoch == 2


def test_standing_down_hands_over_at_once_and_ends_by_itself() -> None:
    net = three(takeover=2.0)
    net.nodes["a"].ctx.hand(StandDown(20.0))
    net.run(1.2)
    assert net.leaders() == ["b"]
    net.run(17)
    assert net.leaders() == ["b"]
    net.run(8)
    assert net.leaders() == ["a"]


def test_a_better_rank_takes_over_when_peers_become_resolvable_elsewhere() -> None:
    net = three()
    net.nodes["c"].ctx.hand(Fitness(2))
    net.run(9)
    assert net.leaders() == ["a"]
    net.run(4)
    assert net.leaders() == ["c"]


def test_a_change_that_all_nodes_see_within_seconds_moves_no_gateway() -> None:
    net = three()
    for name in ("c", "b", "a"):
        net.nodes[name].ctx.hand(Fitness(1))
        net.run(4)
    net.run(15)
    assert net.leaders() == ["a"]
    assert net.nodes["a"].outcomes[-1].epoch == 1


class Uplinks:
    """The words of a net's gateways: a node reaches the cloud while its way out works."""

    def __init__(self, net: Net, *names: str) -> None:
        self.net, self.works = net, set(names)
        self.probes = 0
        for name in net.nodes:
            self.tell(name)

    def tell(self, name: str, *, proved: bool = False) -> None:
        linked = self.net.leaders() == [name] or proved
        reach = int(name in self.works and linked)
        self.net.nodes[name].ctx.hand(Fitness(1, reach=reach))

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.net.run(1.0)
            for leader in self.net.leaders():
                self.tell(leader)
            for name, node in self.net.nodes.items():
                for _ in node.ctx.take(ProveReach):
                    self.probes += 1
                    self.tell(name, proved=True)


def test_who_reaches_no_cloud_yields_to_who_does_and_leads_again_when_it_does() -> None:
    net = three()
    uplinks = Uplinks(net, "a", "b", "c")
    uplinks.run(30)
    assert (net.leaders(), uplinks.probes) == (["a"], 0)
    uplinks.works = {"c"}
    uplinks.run(20)
    assert net.leaders() == net.nodes["b"].bully.claims.gateway.split() == ["c"]
    epoch = net.nodes["c"].bully.claims.epoch_seen
    uplinks.run(300)
    assert (net.leaders(), net.nodes["c"].bully.claims.epoch_seen) == (["c"], epoch)
    uplinks.works = {"a", "b", "c"}
    uplinks.run(40)
    assert net.leaders() == ["a"]


def test_where_nobody_reaches_a_cloud_nothing_changes() -> None:
    net = three()
    uplinks = Uplinks(net, "a", "b", "c")
    uplinks.run(10)
    uplinks.works = set()
    uplinks.run(300)
    assert net.leaders() == ["a"]
    assert {node.bully.claims.epoch_seen for node in net.nodes.values()} == {1}


def test_every_node_tells_what_is_wrong_with_the_gateways_links() -> None:
    net = three()
    net.nodes["a"].ctx.hand(Fitness(1, ("cloud-1",), (("cloud-1", "authority-refused"),)))
    net.run(0.5)
    for node in net.nodes.values():
        report = node.ctx.ask(Status())
        assert isinstance(report, Report)
        assert report.body["troubles"] == {"cloud-1": "authority-refused"}


@pytest.mark.parametrize(
    "told",
    [
        {"connected": ("c",) * (CLOUDS_TOLD_MAX + 1)},
        {"troubles": (("c", "why"),) * (CLOUDS_TOLD_MAX + 1)},
        {"troubles": (("c" * 65, "why"),)},
    ],
)
def test_a_claim_that_is_larger_than_an_honest_one_is_not_repeated(told: dict[str, Any]) -> None:
    net = three()
    net.nodes["b"].inbox.append(ClaimHeard("a", Claim(9, Rank(0, 0, "ghost"), 1, **told)))
    net.run(0.1)
    assert net.nodes["b"].bully.claims.gateway == "a"
    assert net.nodes["b"].bully.counts["malformed"] == 1


def test_the_cloud_role_elects_nobody() -> None:
    net = Net()
    net.add("cloud", role="cloud")
    net.run(10)
    assert net.leaders() == []
    assert net.nodes["cloud"].outcomes == []


def test_a_claim_of_the_highest_epoch_leaves_one_leader_and_further_elections() -> None:
    net = three()
    net.nodes["b"].inbox.append(ClaimHeard("a", Claim(EPOCH_MAX, Rank(0, 0, "ghost"), 1)))
    net.run(30)
    assert net.leaders() == ["a"]
    assert net.followed() == {"a"}
    net.kill("a")
    net.run(10)
    assert net.leaders() == ["b"]
    assert net.followed() == {"b"}
    net.nodes["c"].ctx.hand(Fitness(1))
    net.run(30)
    assert net.leaders() == ["c"]
    assert net.followed() == {"c"}
