"""``python -m tests.simulation.cover --seeds N``: few of the seeds that reach what all of them reach, beside
those that ``make test`` runs first.

Each rare branch is reached by two of them, and each value of each option by one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "src"))

from tests.simulation.found import WHOLE
from tests.simulation.run import run
from tests.simulation.test_simulation import FAST
from tests.simulation.watch import branches

BRANCH_TIMES, OPTION_TIMES = 2, 1
CYCLE = 12
"""Of the seeds some traits come round: merging, islands, who is picky, a second cloud."""


def reached(seed: int) -> tuple[int, dict[str, int], float]:
    """What a seed reaches -> how many of the chosen should, and its seconds of processor time."""
    begun = time.process_time()
    result = run(seed)
    found = {name: BRANCH_TIMES for name, times in branches.total([result]).items() if times}
    found |= {f"{name} {value}": OPTION_TIMES for name, value in asdict(result.options).items()}
    found[f"{seed % CYCLE} of {CYCLE}"] = 1
    return seed, found, time.process_time() - begun


def chosen(seeds: list[tuple[int, dict[str, int], float]], begun: Collection[int]) -> list[int]:
    """Those to add to the seeds ``begun``: again and again the one that adds most for its seconds; then the
    dearest go for which the others, taken later, are enough."""
    of_all = Counter(name for _, found, _ in seeds for name in found)
    wanted = {name: min(times, of_all[name]) for _, found, _ in seeds for name, times in found.items()}
    in_all = dict(wanted)
    taken: list[int] = []
    while wanted:
        left = [one for one in seeds if one[0] not in taken]
        seed, found, _ = max(left, key=lambda one: (one[0] in begun, len(wanted.keys() & one[1]) / one[2]))
        taken.append(seed)
        for name in wanted.keys() & found:
            wanted[name] -= 1
        wanted = {name: times for name, times in wanted.items() if times}
    for seed, _, _ in sorted(seeds, key=lambda one: one[2], reverse=True):
        counted = Counter(
            name for other, found, _ in seeds if other in taken and other != seed for name in found
        )
        if seed in taken and seed not in begun and all(counted[name] >= in_all[name] for name in in_all):
            taken.remove(seed)
    return sorted(set(taken) - set(begun))


def main() -> None:
    """Run the seeds on all cores, and print those that are enough."""
    parser = argparse.ArgumentParser(prog="tests.simulation.cover", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    asked = parser.parse_args()
    with multiprocessing.get_context("fork").Pool() as pool:
        begun = {*FAST}
        seeds = {*begun, *WHOLE, *range(asked.first, asked.first + asked.seeds)}
        found = pool.map(reached, sorted(seeds), chunksize=1)
    print(*chosen(found, begun), sep=", ")


if __name__ == "__main__":
    main()
