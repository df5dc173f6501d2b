"""Thespian collapses when messages pile up in one actor: writing fast must not make them pile up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from entgldb.actors.host_system import attached
from entgldb.launch.init import Plan, init
from entgldb.launch.node import Node, launch
from entgldb.messages import codec
from entgldb.messages.client import Commit, CommitDone, Report, RequestId, Status, Write
from entgldb.messages.framing import FrameReader, frame
from entgldb.messages.schema import Channel
from tests.system.processes import until

pytestmark = pytest.mark.slow
DOCUMENTS = 20_000
IN_FLIGHT = 64
QUEUED_MAX = 20


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    root = tmp_path_factory.mktemp("q")
    first = init(Plan(root / "a", node_id="a", host="127.0.0.1"))
    seeds = (f"127.0.0.1:{first.port}",)
    second = init(
        Plan(root / "b", node_id="b", host="127.0.0.1", seeds=seeds, cluster_key_file=first.key_file)
    )
    with launch(first.directory) as one, launch(second.directory) as two:
        yield one, two


class Writer(threading.Thread):
    """Writes single documents, IN_FLIGHT of them unanswered, over one Unix socket."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(node.directory / "entgldb.sock"))
        self._sent = 0

    def run(self) -> None:
        frames = FrameReader()
        for _ in range(IN_FLIGHT):
            self._send()
        while self.acknowledged < DOCUMENTS:
            frames.feed(self._socket.recv(65536))
            for payload in frames:
                assert isinstance(codec.decode(payload, Channel.LOCAL).message, CommitDone)
                self.acknowledged += 1
                self._send()
        self._socket.close()

    def _send(self) -> None:
        if self._sent < DOCUMENTS:
            self._sent += 1
            write = Write("load", f"k{self._sent}", b'{"n":%d}' % self._sent)
            message = Commit(RequestId(b"w" * 16, self._sent), (write,))
            self._socket.sendall(frame(codec.encode(message, self._sent)))


def entries(node: Node) -> int:
    report = node.ask("store", Status())
    assert isinstance(report, Report)
    return int(report.body["oplog_entries"])


def test_twenty_thousand_single_documents_queue_nothing_up(pair: tuple[Node, Node]) -> None:
    one, two = pair
    writer = Writer(one)
    longest: dict[str, int] = {}
    writer.start()
    while writer.is_alive():
        for node in pair:
            ports = node.record["ports"]
            with attached(node.directory, ports["admin"], ports["node"]) as system:
                for actor in ("store", "oplog", "sync", "gateway"):
                    key = f"{node.directory.name}.{actor}"
                    longest[key] = max(longest.get(key, 0), system.queued(actor, 10.0))
    assert writer.acknowledged == DOCUMENTS
    until(lambda: entries(two) >= DOCUMENTS, 20.0, "the other node having all")
    assert max(longest.values()) <= QUEUED_MAX
