"""The way to the cloud is cut, garbled and silent, under a running cluster: what the gateway makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.support.cloud_trial import Trial
from tests.system.support.cluster_fixture import Cluster, sessions
from tests.system.support.kernel_view import eventually
from tests.unit.actors.tls.link_proxy import DOWN, UP, Harm, LinkProxy, SlowLine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, method="signal")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), lan=2, clouds=1) as made:
        yield made


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[LinkProxy]:
    with LinkProxy(cluster.clouds[0].port) as made:
        cluster.add_cloud(cluster.lan[1], cluster.clouds[0], made.address)
        yield made


@pytest.fixture(scope="module")
def trial(cluster: Cluster, proxy: LinkProxy) -> Iterator[Trial]:
    with Trial(cluster) as made:
        yield made


def comes_back(trial: Trial, proxy: LinkProxy, pipes: int) -> None:
    """Over a new connection, and the cloud knows of one session alone."""
    eventually(lambda: len(proxy.pipes) > pipes and trial.link["state"] == "connected", "a new link", 30.0)
    trial.seconds_to(trial.cloud)
    names = [trial.gateway_node.name]
    eventually(lambda: sessions(trial.cluster.clouds[0]) == names, "the cloud has one session")


def test_a_cut_is_counted_and_what_was_written_meanwhile_arrives(trial: Trial, proxy: LinkProxy) -> None:
    trial.is_well()
    pipes, before = len(proxy.pipes), trial.count("peer-closed") + trial.count("tls-refused")
    with proxy.apart():
        eventually(lambda: trial.link["state"] != "connected", "the gateway notices")
        trial.member["notes"].put("meanwhile", {"n": 1})
        trial.lan_is_untouched()
    comes_back(trial, proxy, pipes)
    assert trial.cloud["notes"].get("meanwhile") is not None
    assert trial.count("peer-closed") + trial.count("tls-refused") > before


def test_a_garbled_record_is_refused_and_the_link_made_anew(trial: Trial, proxy: LinkProxy) -> None:
    trial.is_well()
    pipe, pipes, before = proxy.pipes[-1], len(proxy.pipes), trial.count("tls-refused")
    proxy.harm = Harm(DOWN, pipe.records[DOWN] + 1, "corrupt")
    eventually(lambda: trial.count("tls-refused") > before, "the gateway refuses it")
    trial.lan_is_untouched()
    comes_back(trial, proxy, pipes)


def test_silence_is_noticed_and_ends_with_the_silence(trial: Trial, proxy: LinkProxy) -> None:
    trial.is_well()
    pipes, lan_before = len(proxy.pipes), trial.lan_faults()
    with proxy.stalled(UP, DOWN):
        trial.member["notes"].put("in the silence", {"n": 1})
        eventually(lambda: trial.link["reason"] == "heartbeat-lost", "silence is shown")
        trial.lan_is_untouched()
    comes_back(trial, proxy, pipes)
    assert trial.cloud["notes"].get("in the silence") is not None
    assert trial.lan_faults() == lan_before


def test_a_line_of_60_kilobytes_a_second_carries_what_waits_and_nothing_flaps(
    trial: Trial, proxy: LinkProxy
) -> None:
    """Last: all later links go over it too."""
    trial.is_well()
    pipes = len(proxy.pipes)
    proxy.line = SlowLine(60_000)
    proxy.cut()
    comes_back(trial, proxy, pipes)
    pipes, before = len(proxy.pipes), trial.count("heartbeat-lost")
    for start in range(0, 500, 100):
        trial.member["notes"].put_many({f"slow{n}": {"t": "x" * 1000} for n in range(start, start + 100)})
    trial.member["notes"].put("large", {"t": "x" * 300_000})
    eventually(lambda: trial.cloud["notes"].get("large") is not None, "all is at the cloud", 60.0)
    assert trial.cloud["notes"].get("slow499") is not None
    assert len(proxy.pipes) == pipes
    assert trial.count("heartbeat-lost") == before
