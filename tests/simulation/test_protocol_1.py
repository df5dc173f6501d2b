"""A node of this release in a session with a node of protocol 1, as that one was recorded."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import msgpack

from entgldb.messages import codec, wire
from entgldb.messages.local.actors import FrameIn, LinkUp
from entgldb.messages.schema import Channel, Message
from tests.simulation.run import Run
from tests.simulation.test_calm import quiet
from tests.simulation.world.network import VirtualLinks, Weather
from tests.simulation.world.node import CLUSTER

SESSION = Path(__file__).parents[1] / "corpus" / "protocol-1" / "session.txt"
LINK = 1_000_000
LAST_TAG = 15
"""Of protocol 1 without features."""


def of_our_cluster(frame: bytes) -> bytes:
    """The frame; a Hello says the name that the simulated cluster has today."""
    items = msgpack.unpackb(frame)
    return msgpack.packb([CLUSTER if item == "simulated cluster" else item for item in items])


def test_a_recorded_peer_without_signatures_is_heard_and_nothing_of_it_is_taken() -> None:
    """Nor is anything said that it would not know; it gets what this node writes."""
    run = Run(1, options=quiet(2))
    run.network.weather = Weather(latency=0.001)
    node = run.lan[1]
    said: list[Message] = []

    def send(self: VirtualLinks, link: int, message: Message) -> bool:
        said.append(message)
        return link == LINK

    with patch.object(VirtualLinks, "send", send):
        node.start()
        run.world.run(2.0)
        node.deliver("sync", LinkUp(LINK, True, "10.0.0.2:7001", "lan-1"))
        for line in SESSION.read_text().splitlines()[:-1]:
            node.deliver("sync", FrameIn(LINK, of_our_cluster(bytes.fromhex(line.split()[1]))))
            run.world.run(0.3)
        for key in ("first", "reply"):
            run.clients[1].write_now(key)  # the recorded peer says that it has one entry of this node
            run.world.run(1.0)
    assert [node.store.get("users", key) for key in ("before", "live")] == [None, None]
    assert node.all_counts()["not-attested"] > 0
    assert node.all_counts()["malformed"] == node.all_counts()["unknown-message"] == 0
    tags = {msgpack.unpackb(codec.encode(message))[0] for message in said}
    assert {1, 2, 4, 7} <= tags
    assert max(tags) <= LAST_TAG
    pushed = [m for m in said if isinstance(m, wire.Entries)]
    assert any(b"reply" in entry.header for entries in pushed for entry in entries.entries)
    assert run.world.violations == []


def test_what_a_later_release_may_say_is_counted_and_ignored() -> None:
    run = Run(1, options=quiet(2))
    node = run.lan[1]
    node.start()
    run.world.run(2.0)
    node.deliver("sync", LinkUp(LINK, True, "10.0.0.2:7001", "lan-1"))
    frame = of_our_cluster(bytes.fromhex(SESSION.read_text().split()[1]))
    hello = codec.decode(frame, Channel.PEER).message
    future = [*msgpack.unpackb(codec.encode(hello)), "a field of the future"]
    node.deliver("sync", FrameIn(LINK, msgpack.packb(future)))
    node.deliver("sync", FrameIn(LINK, msgpack.packb([39, 0, "a message of the future"])))
    run.world.run(0.5)
    counts = node.all_counts()
    assert (counts["trailing-field"], counts["unknown-message"], counts["malformed"]) == (1, 1, 0)
