"""The plugin for pytest: fixtures for the tests of applications. pytest imports it by its entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from entgldb.launch.testing.cluster import Cluster


@pytest.fixture
def entgldb_cluster() -> Iterator[Callable[..., Cluster]]:
    """Makes clusters in this process, on a virtual clock: ``entgldb_cluster(3, seed=1)``; see ``Cluster``."""
    # whoever does not ask for it does not wait for its import
    from entgldb.launch.testing.cluster import Cluster

    made: list[Cluster] = []

    def make(nodes: int = 3, *, seed: int = 0) -> Cluster:
        made.append(Cluster(nodes, seed=seed))
        return made[-1]

    yield make
    for one in made:
        one.close()
