"""Lines that carry little: nodes on real TLS through a proxy with a bandwidth and a delay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.actors.sync import dialler
from entgldb.messages.errors import Reason
from tests.unit.actors.host.live_node import LiveNode, equal, until
from tests.unit.actors.tls.link_proxy import UP, LinkProxy, SlowLine

HEADER_BYTES = 250
"""Of an oplog entry, about."""


class SlowPair:
    """``near`` dials ``far`` through the proxy."""

    def __init__(self, folder: Path, line: SlowLine) -> None:
        self.far = LiveNode(folder / "far", "far", interval=1.0)
        self.proxy = LinkProxy(self.far.links.port(), line)
        self.near = LiveNode(
            folder / "near", "near", seeds=(self.proxy.address,), listens=False, interval=1.0
        )
        self.nodes = [self.near, self.far]

    def catch_up(self, *bodies: bytes, seconds: float) -> None:
        """``far`` gets all of it over one link, and little more than it goes over the line."""
        self.near.put(*bodies)
        until(self.nodes, lambda: equal(self.near, self.far), seconds)
        for node in self.nodes:
            assert node.sync.counts[Reason.HEARTBEAT_LOST] == 0
            assert node.sync.counts[Reason.GAP] == 0
        assert sum(1 for pipe in self.proxy.pipes if pipe.carried[UP] > 20_000) == 1
        content = sum(len(body) + HEADER_BYTES for body in bodies)
        assert self.proxy.pipes[-1].carried[UP] < 1.25 * content + 20_000


@pytest.fixture
def pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[SlowPair]:
    monkeypatch.setattr(dialler, "REDIAL_MAX", 0.5)
    made = SlowPair(tmp_path, request.param)
    with made.proxy:
        yield made
    for node in made.nodes:
        node.stop()


def body(size: int) -> bytes:
    return b'{"t": "%s"}' % (b"x" * size)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [SlowLine(50_000)], indirect=True)
def test_many_small_documents_over_50_kilobytes_a_second(pair: SlowPair) -> None:
    pair.catch_up(*[body(1000)] * 500, seconds=60.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [SlowLine(250_000)], indirect=True)
def test_one_large_document_over_250_kilobytes_a_second(pair: SlowPair) -> None:
    pair.catch_up(body(996_000), seconds=60.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pair", [SlowLine(15_000, 2.0)], indirect=True)
def test_15_kilobytes_a_second_with_two_seconds_of_delay(pair: SlowPair) -> None:
    pair.catch_up(*[body(1000)] * 100, body(60_000), seconds=90.0)
