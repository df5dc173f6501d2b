"""Reach outlives a link for a while, and is hard to get back for who lost it as gateway."""

from __future__ import annotations

import itertools

from entgldb.actors.session.reach import (
    IN_VAIN_SECONDS_MAX,
    PROOF_SECONDS,
    PROOFS_FIRST,
    PROOFS_MAX,
    PROVED_SECONDS_MAX,
    REACHED_SECONDS,
    STEADY_SECONDS,
    Reach,
)
from entgldb.messages.limits import CLOUDS_TOLD_MAX
from entgldb.messages.local.actors import Fitness, ProbeDone, ProveReach, TokenIssued
from tests.unit.actors.gateway.gateway_parts import Rig, peer

GOOD, BAD = ({"name": "hello", "ok": True},), ({"name": "hello", "ok": False},)


def test_reach_outlives_a_link_for_a_while() -> None:
    reach = Reach()
    reach.look(["c1", "c2"], ["c1"], 0.0)
    assert reach.count(0.0) == 1
    reach.look(["c1", "c2"], [], REACHED_SECONDS)
    assert reach.count(REACHED_SECONDS) == 1
    assert reach.count(REACHED_SECONDS + 1) == 0
    reach.look(["c2"], ["c2"], 50.0)
    assert reach.count(50.0) == 1


def proofs(reach: Reach, began: float) -> int:
    """Good probes until the peer counts as reached."""
    for number in range(1, 2 * PROOFS_MAX):
        reach.probed("c1", began + number * PROOF_SECONDS, good=True)
        if reach.count(began + number * PROOF_SECONDS):
            return number
    raise AssertionError("never")


def test_one_good_probe_is_enough_for_a_newcomer_and_one_bad_one_against_it() -> None:
    reach = Reach()
    reach.look(["c1"], [], 0.0)
    assert proofs(reach, 0.0) == 1
    reach.probed("c1", 20.0, good=False)
    reach.probed("gone", 20.0, good=True)
    assert reach.count(20.0) == 0


def test_a_cloud_that_was_proved_is_probed_ever_more_seldom_and_counts_all_the_while() -> None:
    reach, asked = Reach(), []
    reach.look(["c1", "down"], [], 0.0)
    for number in range(240):
        now = number * PROOF_SECONDS
        if reach.may_probe("c1", now):
            asked.append(now)
            reach.probed("c1", now, good=True)
        assert reach.count(now) == 1
    apart = [after - before for before, after in itertools.pairwise(asked)]
    assert apart[:5] == [15.0, 30.0, 60.0, 120.0, 240.0]
    assert set(apart[5:]) == {PROVED_SECONDS_MAX}
    now = asked[-1] + PROVED_SECONDS_MAX
    assert reach.count(now + REACHED_SECONDS) == 1
    assert reach.count(now + REACHED_SECONDS + 1) == 0
    reach.probed("c1", now, good=False)
    assert reach.count(now) == 0
    assert reach.may_probe("c1", now + PROOF_SECONDS)


def test_each_loss_as_gateway_asks_for_twice_as_many_proofs_until_a_link_is_steady() -> None:
    reach, now, needed = Reach(), 0.0, []
    for _ in range(7):
        reach.look(["c1"], ["c1"], now)
        now += REACHED_SECONDS + 1
        reach.look(["c1"], [], now)
        reach.lost(now)
        needed.append(proofs(reach, now))
        now += 1000.0
    assert needed == [PROOFS_FIRST, 4, 8, 16, 32, PROOFS_MAX, PROOFS_MAX]
    for second in range(int(STEADY_SECONDS) + 1):
        reach.look(["c1"], ["c1"], now + second)
    now += STEADY_SECONDS + REACHED_SECONDS + 1
    reach.look(["c1"], [], now)
    reach.lost(now)
    assert proofs(reach, now) == PROOFS_FIRST


def test_a_node_that_does_not_lead_proves_its_reach_by_a_probe_of_each_peer() -> None:
    rig = Rig()
    rig.secrets.missing = {"c2"}
    rig.reconfigure(peer("c1"), peer("c2"), peer("c3", enabled=False), gateway="lan-2")
    for _ in range(3):
        rig.ctx.hand(ProveReach())
    ((ticket, target, _),) = rig.prober.probes
    assert target.node_id == "c1"
    rig.ctx.hand(ProbeDone(ticket, GOOD))
    assert rig.ctx.take(Fitness)[-1] == Fitness(1, reach=1)
    rig.ctx.hand(ProveReach())
    rig.ctx.hand(ProbeDone(rig.prober.probes[-1][0], BAD))
    assert rig.ctx.take(Fitness)[-1] == Fitness(1, reach=0)
    rig.ctx.hand(ProveReach())
    assert len(rig.prober.probes) == 2, "what was in vain is tried again later"
    rig.ctx.run(PROOF_SECONDS)
    rig.reconfigure(peer("c1"))
    rig.ctx.hand(ProveReach())
    assert len(rig.prober.probes) == 2, "a gateway has links for that"


def test_probes_in_vain_become_rare_and_a_good_one_makes_them_frequent_again() -> None:
    reach, now, waits = Reach(), 0.0, []
    reach.look(["c1"], [], now)
    for _ in range(6):
        assert reach.may_probe("c1", now)
        reach.probed("c1", now, good=False)
        began = now
        while not reach.may_probe("c1", now):
            now += 1.0
        waits.append(now - began)
    assert waits == [PROOF_SECONDS, 2 * PROOF_SECONDS, *[IN_VAIN_SECONDS_MAX] * 4]
    reach.probed("c1", now, good=True)
    assert reach.may_probe("c1", now)
    assert not reach.may_probe("nobody", now)


def test_a_gateway_tells_what_is_wrong_at_once_and_that_it_is_over() -> None:
    rig = Rig()
    rig.connect(peer("cloud-node"), expires_in=1.0)
    assert rig.ctx.take(Fitness)[-1] == Fitness(1, ("cloud-node",), reach=1)
    rig.ctx.run(0.9)
    rig.refuse("authority-refused")
    told = rig.ctx.take(Fitness)[-1]
    assert told == Fitness(1, ("cloud-node",), (("cloud-node", "authority-refused"),), 1)
    rig.ctx.run(1.0)
    rig.issue()
    assert rig.ctx.take(Fitness)[-1] == Fitness(1, ("cloud-node",), reach=1)


def test_more_links_than_a_claim_names_count_as_reached() -> None:
    rig, names = Rig(), [f"c{number:02}" for number in range(CLOUDS_TOLD_MAX + 2)]
    rig.reconfigure(*map(peer, names))
    for node_id, ticket, _ in list(rig.tokens.requests):
        rig.ctx.hand(TokenIssued(node_id, ticket, "t0k", 3000.0))
        rig.hello(rig.up())
    rig.reconfigure(*map(peer, names))
    told = rig.ctx.take(Fitness)[-1]
    assert (told.resolvable, told.reach) == (len(names), len(names))
    assert told.connected == tuple(names[:CLOUDS_TOLD_MAX])
