"""A cloud node serves one cluster, the first that a client brings; and believes nobody before that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.sync.strangers import COMES_NO_MORE, TOLD_MAX
from entgldb.messages import codec, wire
from entgldb.messages.administration import UnpinCluster
from entgldb.messages.client import Refused, Report, Status
from entgldb.messages.limits import NAME_CHARS_MAX
from entgldb.messages.local.actors import ClusterPinned, FrameIn, LinkUp, PinCluster, TokenChecked
from entgldb.messages.schema import Message
from entgldb.messages.settings import SyncSettings
from tests.support.fake_context import FakeContext
from tests.support.keys import Trusting
from tests.support.no_snapshots import NoSnapshots
from tests.unit.actors.session.test_session_fences import LanLinks
from tests.unit.actors.store.test_store_keeper import Bench


class DoorLinks(LanLinks):
    def good_until_ms(self) -> int:
        return 0

    def admit(self, link: int, client_id: str) -> None:
        """Frames have no limit here."""


class Checker:
    """Accepts every token, when asked to."""

    def __init__(self) -> None:
        self.asked: Iterator[Any] = iter(())

    def check(self, link: int, ticket: int, token: str) -> None:
        self.asked = iter(((link, ticket),))


class Cloud:
    """The SyncActor of a cloud node beside its store."""

    def __init__(self, *, shared: bool = False) -> None:
        self.bench = Bench("cloud-1", role="cloud")
        self.ctx, self.links, self.checker = FakeContext(), DoorLinks(), Checker()
        settings = SyncSettings("cloud-1", "", "cloud", "", "h:1", shared=shared)
        self.sync = Sync(settings, self.bench.store, Trusting(), self.links, self.checker, NoSnapshots())
        self.ctx.behaviour = self.sync
        self.sync.start(self.ctx)

    def hear(self, link: int, message: Message) -> None:
        self.ctx.hand(FrameIn(link, codec.encode(message)))

    def come(self, link: int, cluster: str, client_id: str) -> None:
        """A client says Hello; its token is accepted; the store is through with what it was told."""
        self.ctx.hand(LinkUp(link, True, f"10.0.0.{link}:5", ""))
        self.hear(link, wire.Hello(1, 1, "lan-1", "lan-1/" + "ab" * 16, cluster, (), 0, "lan", "t0k"))
        for number, ticket in self.checker.asked:
            self.ctx.hand(TokenChecked(number, ticket, client_id, 2e9, "", ""))
        for order in self.ctx.take(PinCluster):
            self.bench.ask(order)
        for _, told in self.bench.told(ClusterPinned):
            self.ctx.hand(told)

    def said(self, link: int) -> list[str]:
        """Hello, or the reason of Bye."""
        return [
            message.reason if isinstance(message, wire.Bye) else type(message).__name__
            for message in self.links.take(link)
            if isinstance(message, (wire.Hello, wire.Bye))
        ]

    def status(self) -> dict[str, Any]:
        report = self.ctx.ask(Status())
        assert isinstance(report, Report)
        return report.body


def test_the_first_cluster_pins_the_cloud_and_another_is_refused_and_told() -> None:
    cloud = Cloud()
    cloud.come(1, "shop-a", "client-a")
    assert cloud.said(1) == ["Hello"]
    assert cloud.status()["cluster"] == {"id": "shop-a", "client_id": "client-a", "shared": False}
    cloud.come(2, "shop-b", "client-b")
    assert cloud.said(2) == ["other-cluster"]
    assert cloud.sync.counts["other-cluster"] == 1
    assert [alarm["code"] for alarm in cloud.status()["alarms"]] == ["other-cluster"]
    # a client that is renamed at the authority is still of that cluster
    cloud.come(3, "shop-a", "client-renamed")
    assert cloud.said(3) == ["Hello"]
    assert cloud.status()["cluster"]["client_id"] == "client-a"


def test_what_can_be_no_name_of_a_cluster_pins_nothing() -> None:
    cloud = Cloud()
    cloud.come(1, "c" * (NAME_CHARS_MAX + 1), "shop-1")
    assert cloud.links.closed == [(1, "malformed")]
    assert cloud.bench.store.pinned_cluster() == ("", "")


def test_of_two_that_come_at_once_one_pins_and_the_other_is_refused() -> None:
    cloud = Cloud()
    for link, cluster in ((1, "shop-a"), (2, "shop-b")):
        cloud.ctx.hand(LinkUp(link, True, f"10.0.0.{link}:5", ""))
        cloud.hear(link, wire.Hello(1, 1, "lan-1", "lan-1/" + "ab" * 16, cluster, (), 0, "lan", "t0k"))
        for number, ticket in cloud.checker.asked:
            cloud.ctx.hand(TokenChecked(number, ticket, cluster, 2e9, "", ""))
    cloud.bench.ask(*cloud.ctx.take(PinCluster))
    for _, told in cloud.bench.told(ClusterPinned):
        cloud.ctx.hand(told)
    assert (cloud.said(1), cloud.said(2)) == (["Hello"], ["other-cluster"])


@pytest.mark.parametrize(("shared", "said"), [(False, "other-cluster"), (True, "Hello")])
def test_who_names_no_cluster_is_served_only_where_clusters_mix(shared: bool, said: str) -> None:
    cloud = Cloud(shared=shared)
    cloud.come(1, "", "client-a")
    assert cloud.said(1) == [said]


def test_clusters_mix_where_the_operator_says_so() -> None:
    cloud = Cloud(shared=True)
    for link, cluster in ((1, "shop-a"), (2, "shop-b")):
        cloud.come(link, cluster, f"client-{link}")
        assert cloud.said(link) == ["Hello"]
    assert cloud.status()["cluster"] == {"id": "", "client_id": "", "shared": True}


def test_nobody_retires_a_cloud_node_by_saying_so() -> None:
    cloud = Cloud()
    cloud.come(1, "shop-a", "client-a")
    cloud.ctx.hand(LinkUp(2, True, "10.0.0.2:5", ""))
    for link in (1, 2):
        cloud.hear(link, wire.Bye("retired", ""))
    assert cloud.status()["retired"] is False


def test_after_an_unpin_the_next_cluster_is_served_and_the_other_refused() -> None:
    cloud = Cloud()
    cloud.come(1, "old-key", "shop")
    cloud.come(2, "new-key", "shop-2")
    assert cloud.said(2) == ["other-cluster"]
    (alarm,) = cloud.status()["alarms"]
    assert "entgldb unpin-cluster" in alarm["text"]
    assert cloud.bench.ask(UnpinCluster()) == [Report({"cluster": "old-key", "client_id": "shop"})]
    assert cloud.status()["alarms"] == []
    assert cloud.bench.ask(UnpinCluster()) == [Report({"cluster": "", "client_id": ""})]
    cloud.said(1)
    cloud.come(3, "new-key", "shop-2")
    assert cloud.said(3) == ["Hello"]
    # whoever was served until then is not mixed with it
    assert cloud.said(1) == ["other-cluster"]
    assert cloud.status()["cluster"]["id"] == "new-key"


def test_a_node_of_the_lan_has_nothing_to_unpin() -> None:
    (refused,) = Bench("lan-1").ask(UnpinCluster())
    assert isinstance(refused, Refused)
    assert refused.code == "not-allowed"


def test_a_stranger_that_comes_no_more_is_told_of_no_more() -> None:
    cloud = Cloud()
    cloud.come(1, "shop-a", "client-a")
    cloud.come(2, "shop-b", "client-b")
    cloud.ctx.run(COMES_NO_MORE / 2)
    cloud.come(3, "shop-b", "client-b")
    cloud.ctx.run(COMES_NO_MORE / 2)
    assert len(cloud.status()["alarms"]) == 1
    cloud.ctx.run(COMES_NO_MORE / 2)
    assert cloud.status()["alarms"] == []


def test_of_very_many_strangers_the_last_are_told_of() -> None:
    cloud = Cloud()
    cloud.come(1, "shop-a", "client-a")
    for number in range(TOLD_MAX + 1):
        cloud.come(2 + number, "shop-b", f"client-{number}")
    told = [alarm["subject"] for alarm in cloud.status()["alarms"]]
    assert len(told) == TOLD_MAX
    assert "client-0" not in told
