"""A cloud peer's client secret changes over while the authority lags, gateways change, nodes are down."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from entgldb.actors.gateway.changeover import CONFIRM_SECONDS, TRY_AGAIN_SECONDS, Changeover
from entgldb.messages.administration import RotateSecret
from entgldb.messages.client import RequestId
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.remote_peers import OAuth2, read_peer
from tests.simulation.events.faults import Nobody
from tests.simulation.run import Run
from tests.simulation.test_calm import calm, seconds_until_everywhere, settled_again
from tests.simulation.world.disks import Disks
from tests.simulation.world.node import SimulatedNode

HOUR_MS = 3_600_000


def begun(overlap_ms: int = HOUR_MS) -> Run:
    """A cluster in which one that does not lead has been told of another secret."""
    run = calm(3, cloud=True)
    rotate(run, 1, "second", overlap_ms)
    return run


def rotate(run: Run, number: int, secret: str, overlap_ms: int = HOUR_MS) -> None:
    order = RotateSecret(RequestId(b"r" * 16, number), cloud(run).name, secret, overlap_ms)
    assert others(run)[0].ask("store", order, Nobody())
    run.world.run(1.0)


def cloud(run: Run) -> SimulatedNode:
    assert run.cloud is not None
    return run.cloud


def gateway(run: Run) -> SimulatedNode:
    told = next(run._ask(node, "election") or {} for node in run.lan if node.up)
    return next(node for node in run.lan if node.name == told["gateway"])


def others(run: Run) -> list[SimulatedNode]:
    leads = gateway(run)
    return [node for node in run.lan if node is not leads and node.up]


def link(run: Run) -> dict[str, object]:
    (row,) = (run._ask(gateway(run), "gateway") or {})["links"]
    return dict(row)


def secrets(run: Run) -> set[tuple[str, str]]:
    """The two secrets of the peer, as each node has them."""
    found: list[OAuth2 | None] = [
        read_peer(json.loads(node.store.get(REMOTE_PEERS, cloud(run).name) or b"{}")).oauth2
        for node in run.lan
        if node.up
    ]
    return {(one.client_secret, one.previous_secret) for one in found if one is not None}


def alone(run: Run) -> bool:
    """Whether all nodes have the one new secret."""
    return len(secrets(run)) == 1 and not next(iter(secrets(run)))[1]


def until(run: Run, what: Callable[[], bool], seconds: float) -> None:
    began = run.world.time
    while not what():
        run.world.run(1.0)
        assert run.world.time - began < seconds


def test_the_link_stays_and_the_secret_before_goes_everywhere() -> None:
    run = begun()
    since = link(run)["since"]
    assert link(run)["secret"] == "new"
    until(run, lambda: alone(run), CONFIRM_SECONDS + 30)
    assert (link(run)["since"], link(run)["secret"]) == (since, "")
    assert run.finish().violations == []


def test_an_authority_that_hears_of_it_later_costs_no_write_its_way_to_the_cloud() -> None:
    run = calm(3, cloud=True)
    run.authority.refused = {"second"}
    rotate(run, 1, "second")
    since = link(run)["since"]
    assert link(run)["secret"] == "previous"
    run.world.run(2 * CONFIRM_SECONDS)
    assert seconds_until_everywhere(run, "by the one before", run.nodes) < 1.0
    assert not alone(run)
    run.authority.refused = {"simulated secret", "env:SECRET"}
    until(run, lambda: alone(run), TRY_AGAIN_SECONDS + CONFIRM_SECONDS + 30)
    assert link(run)["since"] == since
    assert run.finish().violations == []


def test_the_next_gateway_goes_on_and_one_that_was_down_hears_of_it() -> None:
    run = begun()
    run.world.run(CONFIRM_SECONDS / 2)
    first = gateway(run)
    first.crash()
    run.world.run(20.0)
    assert gateway(run) is not first
    until(run, lambda: alone(run), CONFIRM_SECONDS + 60)
    first.start()
    until(run, lambda: alone(run) and first.up, 30.0)
    assert run.finish().violations == []


def test_after_its_time_the_secret_before_is_gone_though_the_new_one_was_never_taken() -> None:
    run = calm(3, cloud=True)
    run.authority.refused = {"second"}
    rotate(run, 1, "second", 60_000)
    until(run, lambda: alone(run), 90.0)
    until(run, lambda: link(run)["reason"] == "authority-refused", 60.0)
    rotate(run, 2, "third")
    until(run, lambda: link(run)["state"] == "connected", 30.0)
    assert run.finish().violations == []


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("second", lambda changeover, oauth2, ctx: None),
        ("taken", lambda changeover, node_id, oauth2, ctx: float("inf")),
    ],
    ids=["the one before is not used", "it never goes"],
)
def test_a_mistake_in_the_rule_is_noticed(
    name: str, mistake: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Changeover, name, mistake)
    with pytest.raises(AssertionError):
        test_an_authority_that_hears_of_it_later_costs_no_write_its_way_to_the_cloud()


@pytest.mark.parametrize(
    ("who", "told"),
    [(gateway, False), (lambda run: others(run)[0], True)],
    ids=["gateway, untold", "writer, told"],
)
def test_a_database_of_before_learns_the_new_secret_from_the_others(
    who: Callable[[Run], SimulatedNode], *, told: bool
) -> None:
    run = calm(3, cloud=True)
    node, disks = who(run), Disks(run.world, run.watch)
    disks.copy(node)
    rotate(run, 1, "second")
    until(run, lambda: alone(run), CONFIRM_SECONDS + 30)
    run.authority.refused = {"simulated secret", "env:SECRET"}
    after = secrets(run)
    node.crash()
    disks.put_back(node, told=told)
    node.start()
    assert secrets(run) != after
    settled_again(run, 60.0)
    assert secrets(run) == after
    assert link(run)["state"] == "connected"
    assert seconds_until_everywhere(run, "after it", run.nodes) < 5.0
    assert run.finish().violations == []


def test_what_only_the_restored_node_knew_is_rotated_again() -> None:
    run = calm(3, cloud=True)
    node, disks = others(run)[0], Disks(run.world, run.watch)
    disks.copy(node)
    before = secrets(run)
    away = [other.name for other in run.nodes if other is not node]
    run.network.cuts = {(node.name, name) for name in away} | {(name, node.name) for name in away}
    rotate(run, 1, "second")
    assert secrets(run) > before
    run.authority.refused = {"simulated secret", "env:SECRET"}
    node.crash()
    disks.put_back(node, told=True)
    node.start()
    run.network.cuts = set()
    until(run, lambda: link(run)["reason"] == "authority-refused", 120.0)
    assert secrets(run) == before
    rotate(run, 1, "second")
    until(run, lambda: alone(run) and link(run)["state"] == "connected", TRY_AGAIN_SECONDS + CONFIRM_SECONDS)
    assert run.finish().violations == []
