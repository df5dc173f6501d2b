"""Two nodes of a LAN and what can be wrong with them: a conflict, held and unfit entries, a fork, peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entgldb.launch.playground.cluster import Playground, wait_for
from tests.support.troubles import keep_waiting, write_apart

CLOUDS = ("cloud-off", "cloud-away")
SECONDS = START_SECONDS = 60.0


@contextmanager
def troubled(root: Path) -> Iterator[Playground]:
    """The cluster, when the first node knows of all its troubles."""
    with Playground(root) as made:
        made.make_lan(2)
        first, second = made.lan
        keep_waiting(first.directory, "lan-1", forked=True)
        write_apart(first.directory, "lan-1", "users", "ada", b'{"name":"Ada","city":"London"}')
        write_apart(second.directory, "lan-2", "users", "ada", b'{"name":"Ada","city":"Torino"}')
        made.start(seconds=START_SECONDS)
        for name in CLOUDS:
            # nobody listens on port 1: the link to the one that is enabled stays down
            first.db.peers.add_cloud_peer(
                name,
                "127.0.0.1:1",
                authority="http://127.0.0.1:1",
                client_id="shop",
                client_secret="env:NO_SUCH_SECRET",
                enabled=name == "cloud-away",
            )
        wait_for("the conflict", first.db.conflicts, SECONDS)
        wait_for("the gateway", lambda: first.db.status("election")["gateway"] == "lan-1", SECONDS)
        yield made
