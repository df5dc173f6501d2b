"""Figures in OpenMetrics: every name is documented, what is not known is absent."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from entgldb.launch.node.process import start_detached, stop_node
from entgldb.messages.limits import LSNS_BETWEEN
from entgldb.web.metrics import families
from tests.unit.web.serving import served

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
BINS = {"le": [0.001, 1.0], "counts": [2, 0, 1], "sum": 7.5}
ROWS = [
    {"name": "shop-1", "documents": 3, "oplog_entries": 4, "lsn": 5, "refused": 6},
    {"name": "shop-2", "documents": 0, "oplog_entries": 0, "lsn": 0, "refused": 0},
]
TENANTS = {"tenants_open": 7, "tenants": {"states": {"active": 8, "deleted": 1}, "rows": ROWS}}
STATUS = {
    "http": {"restarts": 3},
    "restarts": {"sync": 2},
    "alarms": [{"code": "no-progress"}, {"code": "no-progress"}, {"code": "not-heard"}],
    "store": {
        "documents": 3,
        "counts": {"invalid": 1},
        "written": 7,
        "commit_seconds": BINS,
        "disk": {},
        "clock": {"offset_ms": None, "ahead_ms": 5},
        **TENANTS,
    },
    "oplog": {"lsn": LSNS_BETWEEN + 9, "held_back_by": {"lan-3": {"entries": 4}}},
    "sync": {
        "peers": [
            {
                "node_id": "lan-2",
                "state": "connected",
                "behind_in": 0,
                "behind_out": None,
                "propagation": {"in": BINS},
            },
            {"node_id": "lan-2", "state": "connecting"},
            {"node_id": ""},
        ],
        "tenant_links": {"shop-1": 2},
    },
    "gateway": {
        "links": [
            {
                "node_id": "cloud-1",
                "state": "backoff",
                "behind_in": None,
                "seconds_out": 1.5,
                "token_expires": 9.5,
                "propagation": None,
            }
        ]
    },
    "election": {"gateway": "", "is_gateway": False, "epoch": 4},
}


def samples(status: dict[str, object]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and label values -> value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families(status)
        for sample in family.samples
    }


def test_the_figures_of_a_status() -> None:
    found = samples(STATUS)
    assert found["entgldb_up", ()] == 1
    assert found["entgldb_actor_restarts_total", ("sync",)] == 2
    assert found["entgldb_alarms", ("no-progress",)] == 2
    assert found["entgldb_reasons_total", ("store", "invalid")] == 1
    assert found["entgldb_entries_total", ()] == 9
    assert found["entgldb_held_back_entries", ("lan-3",)] == 4
    assert (found["entgldb_link_up", ("lan-2", "lan")], found["entgldb_link_up", ("cloud-1", "cloud")]) == (
        1,
        0,
    )
    assert (found["entgldb_is_gateway", ()], found["entgldb_has_gateway", ()]) == (0, 0)


def test_tenants_are_counted_and_those_that_the_node_tells_of_have_figures() -> None:
    found = {key: value for key, value in samples(STATUS).items() if key[0].startswith("entgldb_tenant")}
    assert found == {
        ("entgldb_tenants", ("active",)): 8,
        ("entgldb_tenants", ("deleted",)): 1,
        ("entgldb_tenants_open", ()): 7,
        ("entgldb_tenant_documents", ("shop-1",)): 3,
        ("entgldb_tenant_documents", ("shop-2",)): 0,
        ("entgldb_tenant_log_entries", ("shop-1",)): 4,
        ("entgldb_tenant_log_entries", ("shop-2",)): 0,
        ("entgldb_tenant_entries_total", ("shop-1",)): 5,
        ("entgldb_tenant_entries_total", ("shop-2",)): 0,
        ("entgldb_tenant_refused_total", ("shop-1",)): 6,
        ("entgldb_tenant_refused_total", ("shop-2",)): 0,
        # of others it is not known here
        ("entgldb_tenant_links", ("shop-1",)): 2,
    }


def test_distributions_are_told_as_they_add_up() -> None:
    found = samples(STATUS)
    assert [found["entgldb_commit_seconds_bucket", (le,)] for le in ("0.001", "1.0", "+Inf")] == [2, 2, 3]
    assert (found["entgldb_commit_seconds_count", ()], found["entgldb_commit_seconds_sum", ()]) == (3, 7.5)
    assert found["entgldb_propagation_seconds_count", ("lan-2", "in")] == 3
    assert ("entgldb_propagation_seconds_count", ("lan-2", "out")) not in found
    assert found["entgldb_token_expires_timestamp_seconds", ("cloud-1",)] == 9.5
    assert (found["entgldb_writes_total", ()], found["entgldb_http_restarts_total", ()]) == (7, 3)


def test_what_is_not_known_is_absent_and_never_0() -> None:
    found = samples(STATUS)
    lag = {labels: value for (name, labels), value in found.items() if name.startswith("entgldb_behind")}
    assert lag == {("lan-2", "in"): 0, ("cloud-1", "out"): 1.5}
    assert ("entgldb_clock_offset_seconds", ()) not in found
    assert ("entgldb_disk_free_bytes", ()) not in found
    assert samples({}) == {("entgldb_up", ()): 0}


def test_every_name_is_on_the_page_and_every_name_on_the_page_is_one() -> None:
    page = PAGE.read_text()
    told = set(re.findall(r"^\| `(entgldb_[a-z_]+)`", page, re.MULTILINE))
    status = {**STATUS, "store": {**_whole_store(), "counts": {}}}
    names = {family.name for family in families(status)}
    names |= {"entgldb_feed_clients", "entgldb_http_requests", "entgldb_http_request_seconds"}
    assert told == names
    for rule in re.findall(r"expr: (.+)", page):
        used = set(re.findall(r"entgldb_[a-z_]+", rule))
        assert {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in used} <= names, rule


def _whole_store() -> dict[str, object]:
    fields = ("documents", "oplog_entries", "oplog_bytes", "conflicts", "held", "unfit", "quarantined")
    return {
        **dict.fromkeys((*fields, "origins", "wal_bytes", "written", "followers"), 1),
        **dict.fromkeys(("commit_seconds", "fsync_seconds", "commit_requests"), BINS),
        "disk": {"free_bytes": 1},
        "clock": {"offset_ms": 1, "ahead_ms": 1},
        **TENANTS,
    }


def scraped(http: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_a_scrape_of_a_real_node_and_of_one_that_is_gone(directory: Path) -> None:
    with served(directory) as http:
        http.put("/v1/collections/c/documents/k", json={})
        http.get("/v1/collections/c/documents/none")
        found = scraped(http)
        assert (found["entgldb_up", ()], found["entgldb_documents", ()] >= 1) == (1, True)
        assert all(found["entgldb_actor_up", (actor,)] == 1 for actor in ("store", "sync", "gateway"))
        assert found["entgldb_http_requests_total", ("PUT", "200")] == 1
        assert found["entgldb_http_requests_total", ("GET", "404")] == 1
        assert found["entgldb_http_request_seconds_count", ("PUT",)] == 1
        assert found["entgldb_writes_total", ()] == 1
        assert found["entgldb_fsync_seconds_sum", ()] > 0
        assert found["entgldb_commit_requests_count", ()] == found["entgldb_commit_seconds_count", ()] >= 1
        old = http.get("/metrics", headers={"Accept": "text/plain"})
        assert old.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "entgldb_writes_total 1.0" in old.text
        assert stop_node(directory) is not None
        assert scraped(http)["entgldb_up", ()] == 0
        start_detached(directory)
