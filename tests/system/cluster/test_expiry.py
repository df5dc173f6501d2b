"""Documents that expire, in a real cluster: all nodes hide them and tell their feeds; nothing travels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.support.cluster_fixture import Cluster
from tests.system.support.kernel_view import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100, method="signal")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("expiry"), lan=2) as made:
        yield made


def test_all_nodes_hide_it_and_tell_their_feeds(cluster: Cluster) -> None:
    first, second = cluster.lan
    with first.open() as a, second.open() as b:
        tokens = [a.token(), b.token()]
        stays = a["sessions"].put("stays", {"n": 1})
        version = a["sessions"].put("goes", {"n": 1}, expire_after=6)
        eventually(lambda: b["sessions"].get("goes") is not None, "lan-2 has the document")
        for db, token in zip((a, b), tokens, strict=True):
            eventually(lambda db=db: db["sessions"].get("goes") is None, "it has expired")  # type: ignore[misc]  # bound
            told = {change.key: change for change in db["sessions"].changes(since=token)}
            assert (told["goes"].document, told["goes"].version) == (None, version)
            assert (told["stays"].document, told["stays"].version) == ({"n": 1}, stays)
        for db in (a, b):
            # nobody has written a delete
            (past,) = db["sessions"].history("goes").versions
            assert (past.state, past.document) == ("expired", {"n": 1})


def test_the_rule_of_a_collection_is_kept_by_every_node(cluster: Cluster) -> None:
    first, second = cluster.lan
    assert first.run("collection", "codes", "--expire-after", "2s")[0]["changed"] is True
    with first.open() as a, second.open() as b:
        eventually(lambda: b.expiry("codes") == 2.0, "lan-2 knows the rule")
        b["codes"].put("short", {})
        b["codes"].put("long", {}, expire_after=3600)
        cluster.until_everywhere(
            lambda node: (
                node.document("codes", "long") is not None and node.document("codes", "short") is None
            ),
            "shows what lives alone",
        )
        assert [change.key for change in a["codes"].changes() if change.document is None] == ["short"]


def test_a_node_that_was_stopped_hides_it_when_it_is_back(cluster: Cluster) -> None:
    first, second = cluster.lan
    with first.open() as a:
        a["away"].put("k", {"n": 1}, expire_after=6)
    eventually(lambda: second.document("away", "k") is not None, "lan-2 has the document")
    second.stop()
    eventually(lambda: first.document("away", "k") is None, "it has expired on lan-1")
    assert second.document("away", "k") == {"n": 1}
    second.start()
    eventually(lambda: second.document("away", "k") is None, "it has expired on lan-2", seconds=40.0)
    done = first.run("verify", "--peer", second.name)
    assert done, "they were compared"
