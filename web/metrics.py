"""The figures of a node and of this server for Prometheus, in OpenMetrics.

Each scrape asks the node once for its status; nothing is kept in between but the requests of this server. A
figure that is not known is absent, never 0. ``docs/operations.md`` has every name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as plain
from prometheus_client.openmetrics.exposition import ALLOWUTF8, CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entgldb.messages.errors import EntglError
from entgldb.messages.limits import LSNS_BETWEEN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from entgldb.client.aio.database import Database

ACTORS: Final = ("store", "oplog", "sync", "election", "gateway")
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Buckets: a put takes about a millisecond where the disk is quick."""
_STORE: Final = {
    "entgldb_documents": ("documents", "Documents that are there, tombstones not counted"),
    "entgldb_log_entries": ("oplog_entries", "Entries of the log that are kept"),
    "entgldb_log_bytes": ("oplog_bytes", "Headers and bodies in the log"),
    "entgldb_conflicts": ("conflicts", "Versions that lost a concurrent write and wait for a decision"),
    "entgldb_held_entries": ("held", "Entries held back because their writer's clock runs ahead"),
    "entgldb_quarantined_entries": ("unfit", "Entries that cannot be applied here"),
    "entgldb_forked_origins": ("quarantined", "Logs of which two branches exist"),
    "entgldb_origins": ("origins", "Writers that are known"),
    "entgldb_wal_bytes": ("wal_bytes", "Size of the write-ahead log"),
    "entgldb_followers": ("followers", "Programs of this machine that are told of every commit"),
}
"""Gauge -> its field in the store's status, its meaning."""


_DISTRIBUTIONS: Final = {
    "entgldb_commit_seconds": (
        "commit_seconds",
        "Seconds of a transaction, all its requests together",
    ),
    "entgldb_fsync_seconds": ("fsync_seconds", "Seconds that SQLite took to make a transaction durable"),
    "entgldb_commit_requests": ("commit_requests", "Requests that one transaction carried out"),
}
"""Histogram -> its field in the store's status, its meaning."""


class Metrics:
    """The handler, over one database, and the counting of this server's own requests."""

    def __init__(self, db: Database, feed_clients: Callable[[], int]) -> None:
        """``feed_clients``: how many clients are sent events now."""
        self._db, self._feed_clients = db, feed_clients
        self._requests = Counter(
            "entgldb_http_requests", "Requests answered", ("method", "status"), registry=None
        )
        self._seconds = Histogram(
            "entgldb_http_request_seconds",
            "Seconds from a request to the head of its answer",
            ("method",),
            buckets=SECONDS,
            registry=None,
        )

        # looking a label up takes longer than counting
        self._answered = cache(lambda method, status: self._requests.labels(method, str(status)))
        self._took = cache(self._seconds.labels)

    def routes(self) -> list[Route]:
        """The path that it serves."""
        return [Route("/metrics", self.scrape, methods=["GET"])]

    async def scrape(self, request: Request) -> Response:
        """All figures, in OpenMetrics; to those who accept ``text/plain`` alone in Prometheus' older text."""
        try:
            status = await self._db.status("node")
        except EntglError:
            status = {}
        feeds = _gauge("entgldb_feed_clients", "Clients that are sent events", self._feed_clients())
        asked = CollectorRegistry()
        for one in (Given([*families(status), feeds]), self._requests, self._seconds):
            asked.register(one)
        accepted = request.headers.get("accept", "")
        if "text/plain" in accepted and "openmetrics" not in accepted:
            return Response(plain(asked), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
        # our names are plain: to have each looked at rune by rune would take as long as all the rest
        text: bytes = generate_latest(asked, escaping=ALLOWUTF8)  # type: ignore[no-untyped-call]  # the library types its other half
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The same application, its requests counted and timed."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begun, method = time.perf_counter(), _method(scope["method"])

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status: int = message["status"]
                    self._answered(method, status).inc()
                    self._took(method).observe(time.perf_counter() - begun)
                await send(message)

            await app(scope, receive, noted)

        return counted


class Given(Collector):
    """Families that are there already."""

    def __init__(self, given: list[Metric]) -> None:
        self._given = given

    def collect(self) -> Iterable[Metric]:
        return self._given


def families(status: dict[str, Any]) -> Iterator[Metric]:
    """The figures in the status of a node; of an empty one only that the node is not up."""
    yield _gauge("entgldb_up", "Whether the node answers", int(bool(status)))
    if not status:
        return
    up = GaugeMetricFamily("entgldb_actor_up", "Whether an actor answers", labels=["actor"])
    restarts = CounterMetricFamily(
        "entgldb_actor_restarts", "Times that an actor was started again", labels=["actor"]
    )
    reasons = CounterMetricFamily(
        "entgldb_reasons", "Things that an actor dropped, delayed or refused", labels=["actor", "reason"]
    )
    for actor in ACTORS:
        up.add_metric([actor], int(status.get(actor) is not None))
        restarts.add_metric([actor], (status.get("restarts") or {}).get(actor, 0))
        for reason, times in ((status.get(actor) or {}).get("counts") or {}).items():
            reasons.add_metric([actor, reason], times)
    yield from (up, restarts, reasons)
    alarms = GaugeMetricFamily("entgldb_alarms", "Alarms that stand now", labels=["code"])
    codes = [str(alarm.get("code")) for alarm in status.get("alarms") or []]
    for code in sorted(set(codes)):
        alarms.add_metric([code], codes.count(code))
    yield alarms
    if status.get("http"):
        yield CounterMetricFamily(
            "entgldb_http_restarts",
            "Times that this server was started again",
            value=status["http"]["restarts"],
        )
    yield from _of_store(status.get("store") or {})
    yield from _of_tenants(status)
    yield from _of_log(status.get("oplog") or {})
    yield from _of_peers(status)
    yield from _of_election(status.get("election") or {})


def _of_store(store: dict[str, Any]) -> Iterator[Metric]:
    for name, (field, meaning) in _STORE.items():
        if store.get(field) is not None:
            yield _gauge(name, meaning, store[field])
    for name, (field, meaning) in _DISTRIBUTIONS.items():
        if store.get(field) is not None:
            made = HistogramMetricFamily(name, meaning)
            _add_distribution(made, [], store[field])
            yield made
    if store.get("written") is not None:
        yield CounterMetricFamily(
            "entgldb_writes", "Documents that this node has written by itself", value=store["written"]
        )
    disk, clock = store.get("disk") or {}, store.get("clock") or {}
    if disk.get("free_bytes") is not None:
        yield _gauge("entgldb_disk_free_bytes", "Bytes free on the disk of the file", disk["free_bytes"])
    if clock.get("offset_ms") is not None:
        yield _gauge(
            "entgldb_clock_offset_seconds", "Peers' clocks against this one's", clock["offset_ms"] / 1000
        )
    if clock.get("ahead_ms") is not None:
        yield _gauge("entgldb_stamps_ahead_seconds", "How far stamps run ahead", clock["ahead_ms"] / 1000)


def _of_tenants(status: dict[str, Any]) -> Iterator[Metric]:
    """How many there are, and figures of those that the node tells of: a bounded number."""
    store, sync = status.get("store") or {}, status.get("sync") or {}
    told = store.get("tenants")
    if not told:
        return
    states = GaugeMetricFamily("entgldb_tenants", "Tenants in the catalogue", labels=["state"])
    for state, number in told["states"].items():
        states.add_metric([state], number)
    yield states
    yield _gauge("entgldb_tenants_open", "Tenants that are open", store["tenants_open"])
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        "documents": GaugeMetricFamily("entgldb_tenant_documents", "Documents of it", labels=["tenant"]),
        "oplog_entries": GaugeMetricFamily(
            "entgldb_tenant_log_entries", "Entries of its log that are kept", labels=["tenant"]
        ),
        "lsn": CounterMetricFamily("entgldb_tenant_entries", "Entries taken in so far", labels=["tenant"]),
        "refused": CounterMetricFamily(
            "entgldb_tenant_refused", "Batches that crossed a quota", labels=["tenant"]
        ),
    }
    for row in told["rows"]:
        for field, family in families.items():
            family.add_metric([row["name"]], row[field] % LSNS_BETWEEN)
    yield from families.values()
    links = GaugeMetricFamily("entgldb_tenant_links", "Links of it that are open", labels=["tenant"])
    for tenant, number in (sync.get("tenant_links") or {}).items():
        links.add_metric([tenant], number)
    yield links


def _of_log(log: dict[str, Any]) -> Iterator[Metric]:
    if log.get("lsn") is not None:
        # all that was ever taken in by this file, its own writes and others'
        yield CounterMetricFamily(
            "entgldb_entries", "Entries taken in so far", value=log["lsn"] % LSNS_BETWEEN
        )
    held = GaugeMetricFamily(
        "entgldb_held_back_entries", "Log entries kept for the sake of a member", labels=["peer"]
    )
    for name, kept in (log.get("held_back_by") or {}).items():
        held.add_metric([name], kept.get("entries") or 0)
    yield held


def _of_peers(status: dict[str, Any]) -> Iterator[Metric]:
    """Links to LAN peers and clouds, and lag each way: ``in`` this node lacks it, ``out`` the peer does."""
    rows = [("lan", row) for row in (status.get("sync") or {}).get("peers") or []]
    rows += [("cloud", row) for row in (status.get("gateway") or {}).get("links") or []]
    links = GaugeMetricFamily(
        "entgldb_link_up", "Whether the link to a peer is open", labels=["peer", "kind"]
    )
    behind = GaugeMetricFamily(
        "entgldb_behind_operations", "Operations that are missing", labels=["peer", "direction"]
    )
    seconds = GaugeMetricFamily(
        "entgldb_behind_seconds", "Age of the oldest operation that is missing", labels=["peer", "direction"]
    )
    spread = HistogramMetricFamily(
        "entgldb_propagation_seconds",
        "Age of writes when they are committed on the other side",
        labels=["peer", "direction"],
    )
    tokens = GaugeMetricFamily(
        "entgldb_token_expires_timestamp_seconds", "When the token of a link ends", labels=["peer"]
    )
    seen = set[str]()
    for kind, row in sorted(rows, key=lambda one: one[1].get("state") != "connected"):
        name = str(row.get("node_id") or "")
        if not name or name in seen:
            continue  # a second link to the same peer, or one of which it is not known yet who is there
        seen.add(name)
        links.add_metric([name, kind], int(row.get("state") == "connected"))
        if row.get("token_expires") is not None:
            tokens.add_metric([name], row["token_expires"])
        for way, report in (row.get("propagation") or {}).items():
            _add_distribution(spread, [name, way], report)
        for way in ("in", "out"):
            if row.get(f"behind_{way}") is not None:
                behind.add_metric([name, way], row[f"behind_{way}"])
            if row.get(f"seconds_{way}") is not None:
                seconds.add_metric([name, way], row[f"seconds_{way}"])
    yield from (links, behind, seconds, spread, tokens)


def _of_election(election: dict[str, Any]) -> Iterator[Metric]:
    if election.get("is_gateway") is not None:
        yield _gauge(
            "entgldb_is_gateway", "Whether this node speaks to the clouds", int(election["is_gateway"])
        )
    if election.get("epoch") is not None:
        yield _gauge("entgldb_epoch", "Number of the present gateway's term", election["epoch"])
    if "gateway" in election:
        yield _gauge("entgldb_has_gateway", "Whether a gateway is known", int(bool(election["gateway"])))


def _add_distribution(made: HistogramMetricFamily, labels: list[str], report: dict[str, Any]) -> None:
    bounds = [*(str(float(bound)) for bound in report["le"]), "+Inf"]
    buckets = list(zip(bounds, accumulate(report["counts"]), strict=True))
    made.add_metric(labels, buckets, report["sum"])


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _method(word: str) -> str:
    """A method of HTTP; any other word is one more label that a client could invent."""
    return word if word in ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE") else "other"
