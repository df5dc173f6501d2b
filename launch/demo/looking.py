"""The cluster of the demo, kept up for a person to look at: the dashboard of one node, and a little life."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from entgldb.launch.playground.cluster import Playground
from entgldb.messages.errors import EntglError

PAUSE_SECONDS: Final = 1.0
"""Between two writes, each on another node."""
PLACES: Final = 100
"""Documents that are written again and again."""


def look(playground: Playground, http: str, tell: Callable[[str], None]) -> None:
    """Serve HTTP at ``http`` (``host:port``) on the first node, ``tell`` its URL, write until interrupted.

    Raises EntglError where the place is taken.
    """
    member = playground.lan[0]
    member.stop()
    member.http = http
    playground.start([member])
    assert member.node is not None
    tell(str(member.node.record["http"]))
    with suppress(KeyboardInterrupt):
        number = 0
        while True:
            at = playground.lan[number % len(playground.lan)]
            with suppress(EntglError):  # a person may have stopped or retired it
                at.db["visits"].put(f"visit-{number % PLACES}", {"node": at.node_id, "number": number})
            number += 1
            time.sleep(PAUSE_SECONDS)
