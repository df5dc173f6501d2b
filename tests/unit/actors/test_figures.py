"""Distributions: every figure is counted once, peers that come and go take no memory for ever."""

from __future__ import annotations

import pytest

from entgldb.actors import figures
from entgldb.actors.figures import Histogram, Propagations, stamp_ms
from entgldb.launch.testing.cluster import Cluster, Node
from tests.support.fake_context import FakeContext


def test_a_figure_is_counted_at_the_first_bound_that_it_does_not_pass() -> None:
    made = Histogram((1.0, 2.0))
    for value in (-3.0, 0.5, 1.0, 1.5, 2.0, 9.0):
        made.add(value)
    assert made.report() == {"le": [1.0, 2.0], "counts": [3, 2, 1], "sum": 14.0}


def test_a_stamp_that_says_nothing_is_not_counted() -> None:
    assert stamp_ms(b"no header") == 0
    ctx = FakeContext()
    one = Propagations().of("lan-2")
    one.arrived("in", 0, ctx)
    one.arrived("in", ctx.now_ms() - 1500, ctx)
    told = one.report()
    assert told is not None
    assert told.keys() == {"in"}
    assert isinstance(told["in"], dict)
    assert (told["in"]["sum"], sum(told["in"]["counts"])) == (1.5, 1)


def test_of_more_peers_than_there_is_room_for_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PEERS_MAX", 2)
    known = Propagations()
    first, second = known.of("a"), known.of("b")
    assert known.of("a") is first
    known.of("c")
    assert known.of("b") is second
    assert known.of("a") is not first


def test_the_age_of_a_write_is_measured_on_both_sides() -> None:
    with Cluster(2, seed=3) as cluster:
        here, there = cluster[0], cluster[1]
        cluster.settle()
        before = counted(here, "out"), counted(there, "in")
        here.db["c"].put("k", {})
        cluster.settle()
        (out, took), (arrived, took_in) = counted(here, "out"), counted(there, "in")
        assert (out, arrived) == (before[0][0] + 1, before[1][0] + 1)
        assert 0 < took - before[0][1] < 1
        assert 0 < took_in - before[1][1] < 1


def counted(node: Node, way: str) -> tuple[int, float]:
    """How many batches went that way, and their ages together."""
    (peer,) = node.db.status("sync")["peers"]
    told = (peer["propagation"] or {}).get(way, {"counts": [], "sum": 0.0})
    return sum(told["counts"]), told["sum"]
