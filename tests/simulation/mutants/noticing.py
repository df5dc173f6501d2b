"""Which seeds notice a mistake: a few that are known to, then others that can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count, islice
from random import Random
from typing import Final, NamedTuple

from tests.simulation.run import LARGE_SEEDS, Run, broken, options_of
from tests.simulation.world.options import Options

MORE: Final = 20
"""Other seeds that are tried: every change of timing changes what a seed meets."""

ITS_OWN: Final = ("TypeError", "refused a write: internal")
"""A mistake whose stand-in does not fit what it stands for fails by itself, and is noticed by nobody."""


def always(seed: int, options: Options) -> bool:
    """Seeds of large documents notice no more than others, and take five times as long."""
    return seed % LARGE_SEEDS != 5


class Mutant(NamedTuple):
    """A mistake, and the seeds that look for it."""

    make: Callable[[], AbstractContextManager[None]]
    known: tuple[int, ...]
    """Each of them noticed it when they were looked for; the quickest comes first."""
    can: Callable[[int, Options], bool] = always
    """Whether a seed can meet what it takes."""
    lives: Callable[[int], Run] = Run
    """Makes the history of a seed."""

    def seeds(self) -> Iterator[int]:
        """In the order in which they are tried."""
        yield from self.known
        others = (seed for seed in count(1) if self.can(seed, options_of(seed, Random(seed))))
        yield from islice((seed for seed in others if seed not in self.known), MORE)

    def noticing(self) -> Iterator[tuple[int, str]]:
        """Seeds that notice it, each with the first promise that is broken."""
        with self.make():
            for seed in self.seeds():
                if why := broken(self.lives(seed)):
                    assert not any(words in why for words in ITS_OWN), f"it does not fit any more: {why}"
                    yield seed, why
