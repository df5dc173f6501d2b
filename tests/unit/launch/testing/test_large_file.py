"""What a node reads when it starts, and while nothing happens, does not grow with its documents."""

from __future__ import annotations

from contextlib import closing

import pytest

from entgldb.launch.testing.cluster import Cluster
from entgldb.storage.log.read import LogReader

FEW, MANY = 500, 2_500
STEPS = 10
"""Instructions of SQLite between two looks of the counter."""
LOOKS = 35.0
"""Virtual seconds in which each actor has taken each of its regular looks."""
SPARE = 1_500
"""Instructions by which two starts may differ; one look at each of the additional rows takes 6,000."""


def _steps_of_a_start(documents: int) -> dict[str, int]:
    """Instructions of SQLite that a node needs for its start, and for half a minute of rest."""
    with closing(Cluster(2)) as cluster:
        here = cluster[0]
        for first in range(0, documents, 500):
            here.db["notes"].put_many({f"{one:08}": {"number": one} for one in range(first, first + 500)})
        cluster.settle()
        here.crash()
        node = cluster._simulated[0]
        with node.store.group():
            # as at a stop in good order: what a crash leaves to be read is bounded by SAVE_ROWS
            node.store.state.loose = True
        count = 0

        def look() -> int:
            nonlocal count
            count += STEPS
            return 0

        node.store.connection.set_progress_handler(look, STEPS)
        node.log = LogReader(node.store.connection)
        found = {}
        for name, seconds in (("start", 1.0), ("rest", LOOKS)):
            count = 0
            if name == "start":
                here.start()
            cluster.run(seconds)
            found[name] = count
        node.store.connection.set_progress_handler(None, 0)
        return found


@pytest.mark.timeout(60)
def test_a_start_and_the_looks_after_it_read_no_more_rows_of_a_large_file() -> None:
    few, many = _steps_of_a_start(FEW), _steps_of_a_start(MANY)

    assert few["start"] > STEPS < few["rest"]
    assert many["start"] < few["start"] + SPARE
    assert many["rest"] < few["rest"] + SPARE
