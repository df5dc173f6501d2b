"""W10: how fast one consumer reads all changes, and how soon a live query tells one."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from entgldb.client.database import connect
from entgldb.client.feeds.live import Live
from entgldb.launch.bench.sides import COLLECTION, INDEXED, NodeSide, document, key, lone_node
from entgldb.launch.bench.works import DOCUMENTS, Bench, Figure, Result, in_turns, percentile
from entgldb.messages.errors import EntglError

CHANGES: Final = 200
PAUSE_SECONDS: Final = 0.02
"""Between two writes, so that each is told by itself."""
GROUP: Final = 1
TOP: Final = 20
"""Documents of the live query: the newest of one group."""
PATIENCE_SECONDS: Final = 30.0


def feeds(bench: Bench, root: Path, figures: Sequence[Figure]) -> Iterator[Result]:
    """A node with DOCUMENTS: its whole feed, and a live query of which each write changes the result."""
    documents, changes = bench.amount(DOCUMENTS), bench.amount(CHANGES)
    with lone_node(root, documents) as side:
        fresh = iter(range(documents, 2**31))
        for figure in figures:
            rounds = bench.turns(figure.full_name)
            if figure.name == "replay":
                yield in_turns(figure, rounds, lambda: _replay(side, documents))
            else:
                numbers = [[next(fresh) for _ in range(changes)] for _ in range(bench.rounds)]
                ways = [percentile(_told(side, numbers[turn - 1]), 0.5) for turn in rounds]
                yield Result(figure, statistics.median(ways))


def _replay(side: NodeSide, documents: int) -> float:
    """Changes a second, from the first on."""
    begun = time.perf_counter()
    with connect(side.directory) as database:
        read = sum(1 for _ in database.changes())
    if read < documents:
        raise EntglError(f"the feed had {read} changes of {documents}")
    return read / (time.perf_counter() - begun)


def _told(side: NodeSide, numbers: Sequence[int]) -> list[float]:
    """Milliseconds of each write, from calling put until the live query gives a result that has it."""
    told: dict[int, float] = {}
    with connect(side.directory) as database:
        live = database[COLLECTION].live({INDEXED: GROUP}, sort="-number", limit=TOP)
        next(live)
        follower = threading.Thread(target=_follow, args=(live, numbers[-1], told), daemon=True)
        follower.start()
        begun = []
        for number in numbers:
            begun.append(time.perf_counter())
            side.put(key(number), {**document(number), INDEXED: GROUP})
            time.sleep(PAUSE_SECONDS)
        follower.join(PATIENCE_SECONDS)
        if follower.is_alive():
            raise EntglError("the live query did not tell the last change")
    # one that came late is told together with the next
    return [
        (min(at for number, at in told.items() if number >= mine) - since) * 1000
        for mine, since in zip(numbers, begun, strict=True)
    ]


def _follow(live: Live, last: int, told: dict[int, float]) -> None:
    for found in live:
        newest = found[0]["number"]
        assert isinstance(newest, int)
        told[newest] = time.perf_counter()
        if newest == last:
            live.close()
            return
