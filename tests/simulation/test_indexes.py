"""Indexes that are made and dropped everywhere, on any node, while the network and the nodes fail."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from entgldb.launch.testing.cluster import Cluster, Node
from entgldb.messages.errors import EntglError, ExistsError, NotFoundError
from entgldb.messages.model import INDEXES

SEEDS = range(8)
STEPS = 30
NAMES = [f"i{number}" for number in range(4)]
PATHS = ["n", "s", ["s", "-n"]]
BUILT_SECONDS = 60.0


class History:
    """Whatever a seed says, until all is calm."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = Cluster(3, seed=seed)
        self.written = 0

    def up(self) -> Node:
        """Any node that runs."""
        return self.random.choice([node for node in self.cluster.nodes if node.up])

    def step(self) -> None:
        """One of the things that happen."""
        work = self.random.choice((self.make, self.make, self.drop, self.write, self.write, self.fail))
        work()
        self.cluster.run(self.random.choice((0.0, 0.05, 1.0, 5.0)))

    def make(self) -> None:
        """An index, with what its name may stand for elsewhere, too."""
        name, path = self.random.choice(NAMES), self.random.choice(PATHS)
        with suppress(ExistsError):
            self.up().db["c"].create_index(path, name=name, everywhere=True)

    def drop(self) -> None:
        """One that is there, or not."""
        with suppress(NotFoundError):
            self.up().db["c"].drop_index(self.random.choice(NAMES))

    def write(self) -> None:
        """Documents, new and old ones."""
        documents = {
            f"k{self.random.randrange(200)}": {"n": self.random.randrange(9), "s": self.random.choice("ab")}
            for _ in range(20)
        }
        self.up().db["c"].put_many(documents)

    def fail(self) -> None:
        """The network is cut or heals; a node dies or comes back, one at a time."""
        down = [node for node in self.cluster.nodes if not node.up]
        kind = self.random.randrange(4)
        if kind == 0:
            self.cluster.partition([self.random.randrange(3)])
        elif kind == 1:
            self.cluster.heal()
            self.cluster.lose(self.random.choice((0.0, 0.2)))
        elif down:
            down[0].start()
        else:
            self.up().crash()
        self.cluster.run(0.5)

    def calm(self) -> None:
        """All nodes run, all reach each other, and nothing is left to be built."""
        self.cluster.heal()
        for node in self.cluster.nodes:
            node.start()
        self.cluster.run(5.0)
        self.cluster.settle()
        self.cluster.run(BUILT_SECONDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_nodes_have_the_indexes_that_are_wanted_and_find_by_them(seed: int) -> None:
    history = History(seed)
    with history.cluster as cluster:
        for _ in range(STEPS):
            # a node that has just started may not answer yet
            with suppress(EntglError):
                history.step()
        history.calm()

        wanted = {key: dict(one) for one in cluster[0].db[INDEXES].find() if (key := one.key)}
        for node in cluster.nodes:
            collection = node.db["c"]
            assert {one.key: dict(one) for one in node.db[INDEXES].find()} == wanted
            assert {f"c/{index.name}": index.ready for index in collection.indexes()} == dict.fromkeys(
                wanted, True
            )
            everything = [(document.key, dict(document)) for document in collection.find()]
            for n in range(9):
                found = [(one.key, dict(one)) for one in collection.find({"n": n})]
                assert found == [pair for pair in everything if pair[1]["n"] == n]
            # keys go the way of the last field
            falling = sorted(everything, key=lambda pair: (pair[1]["n"], pair[0]), reverse=True)
            by_text = [one.key for one in collection.find({"s": "a"}, sort="-n")]
            assert by_text == [key for key, fields in falling if fields["s"] == "a"]
