"""W11: the HTTP server of a node: requests a second, how long they take, and what it takes to be there."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from entgldb.launch.bench.cluster import QUIET_SECONDS, wait_connected
from entgldb.launch.bench.http_floor import bare_server
from entgldb.launch.bench.http_load import HOST, drive, read_until, request, streams
from entgldb.launch.bench.sides import COLLECTION, STRIDE, NodeSide, document, key
from entgldb.launch.bench.works import Bench, Figure, Result, in_turns, percentile, taken_in_turns
from entgldb.launch.node.web import require
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.launch.playground.processes import exact_cpu_seconds, pss_bytes, running

DOCUMENTS: Final = 20_000
REQUESTS: Final[dict[str, int]] = {"get": 12_000, "put": 6_000}
RATES: Final[dict[str, float]] = {"get": 1_500.0, "put": 750.0}
"""Half of what is wanted: at these the time of an answer is measured."""
SCRAPES: Final = 50
SCRAPE_RATE: Final = 20.0
"""Of /metrics, a second: none waits for the one before it."""
STREAMS: Final = 1_000
IDLE_SECONDS: Final = 20.0
FILES_BESIDE: Final = 100
MODULE: Final = "entgldb.web"


class _Served:
    """A node that serves HTTP, and requests to it."""

    def __init__(self, member: Member, side: NodeSide, documents: int) -> None:
        assert member.node is not None
        self.member, self._side, self._documents = member, side, documents
        self._fresh = count(documents)
        self.port = urlsplit(member.node.record["http"]).port or 0

    def pids(self) -> list[int]:
        """The process of the server."""
        return running(self.member.pids(), MODULE)

    def requests(self, method: str, amount: int) -> list[bytes]:
        """Of documents that are there, in no order, or of new ones."""
        path = f"/v1/collections/{COLLECTION}/documents/"
        if method == "get":
            numbers = (number * STRIDE % self._documents for number in range(amount))
            return [request("GET", path + key(number)) for number in numbers]
        fresh = (next(self._fresh) for _ in range(amount))
        return [request("PUT", path + key(one), json.dumps(document(one)).encode()) for one in fresh]

    def write_one(self) -> None:
        self._side.put("told", {"number": next(self._fresh)})


def web(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """A lone node for all but the page, which shows a cluster of three. Raises EntglError without [http]."""
    require()
    page = [figure for figure in figures if figure.name == "page"]
    alone = [figure for figure in figures if figure not in page]
    if alone:
        with _served(bench, root / "alone", 1) as served, bare_server() as bare:
            yield from _alone(bench, alone, served, bare)
    for figure in page:
        with _served(bench, root / "three", 3) as served, streams(served.port, "/ui/pulse", 1):
            yield Result(figure, _processor(bench, served, figure))


def _alone(bench: Bench, figures: Sequence[Figure], served: _Served, bare: int) -> Iterator[Result]:
    times: dict[str, tuple[list[list[float]], list[list[float]]]] = {}
    for figure in figures:
        method, _, part = figure.name.partition("_")
        if figure.name in RATES:
            yield in_turns(figure, bench.turns(figure.full_name), *_rates(bench, served, bare, method))
        elif method in RATES:
            if method not in times:
                times[method] = taken_in_turns(
                    bench.turns(figure.full_name), *_times(bench, served, bare, method)
                )
            share = float(part.removeprefix("p")) / 100
            ours, floor = (
                statistics.median(percentile(way, share) for way in side) for side in times[method]
            )
            yield Result(figure, ours, floor)
        elif figure.name == "scrape":
            yield in_turns(figure, bench.turns(figure.full_name), lambda: _scrape(bench, served))
        elif figure.name == "streams":
            yield in_turns(figure, bench.turns(figure.full_name), lambda: _streams(bench, served))
        else:
            yield Result(figure, _processor(bench, served, figure))


def _rates(
    bench: Bench, served: _Served, bare: int, method: str
) -> tuple[Callable[[], float], Callable[[], float]]:
    amount = bench.amount(REQUESTS[method])
    return (
        lambda: drive(served.port, served.requests(method, amount)).rate,
        lambda: drive(bare, served.requests(method, amount)).rate,
    )


def _times(
    bench: Bench, served: _Served, bare: int, method: str
) -> tuple[Callable[[], list[float]], Callable[[], list[float]]]:
    amount, rate = bench.amount(REQUESTS[method] // 2), RATES[method]
    return (
        lambda: drive(served.port, served.requests(method, amount), rate).ms,
        lambda: drive(bare, served.requests(method, amount), rate).ms,
    )


def _scrape(bench: Bench, served: _Served) -> float:
    """Milliseconds of one look at the figures of a lone node."""
    asked = [request("GET", "/metrics")] * bench.amount(SCRAPES)
    return percentile(drive(served.port, asked, SCRAPE_RATE).ms, 0.5)


def _streams(bench: Bench, served: _Served) -> float:
    """Megabytes of the server with so many followers of the feed, each of whom is told of a write."""
    amount = bench.amount(STREAMS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with streams(served.port, "/v1/changes?since=now", amount) as followers:
        served.write_one()
        for follower in followers:
            read_until(follower, b'"key": "told"')
        return pss_bytes(served.pids()) / 1e6


def _processor(bench: Bench, served: _Served, figure: Figure) -> float:
    """Of a server that nobody asks: percent of a core, or megabytes."""
    seconds = max(1.0, IDLE_SECONDS * bench.scale)
    time.sleep(QUIET_SECONDS)
    pids, taken = served.pids(), []
    if figure.name == "pss":
        return pss_bytes(pids) / 1e6
    for _ in bench.turns(figure.full_name):
        before, begun = exact_cpu_seconds(pids), time.perf_counter()
        time.sleep(seconds)
        taken.append(100 * (exact_cpu_seconds(pids) - before) / (time.perf_counter() - begun))
    return statistics.median(taken)


@contextmanager
def _served(bench: Bench, root: Path, nodes: int) -> Iterator[_Served]:
    """A cluster of so many nodes, of which the first serves HTTP."""
    documents = bench.amount(DOCUMENTS)
    with Playground(root) as playground:
        playground.make_lan(nodes)
        first = playground.lan[0]
        first.http = f"{HOST}:0"
        playground.start()
        wait_connected(playground.lan)
        side = NodeSide(first.db)
        if nodes == 1:
            side.fill(documents)
        yield _Served(first, side, documents)
