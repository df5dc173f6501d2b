"""``python -m tests.simulation.belong --seeds N --first S``: nodes are expelled and join, and nothing else.

A history takes some 2 s of the processor. The last line sums up.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "src"))

from entgldb.launch.testing.world import no_collector
from tests.simulation.test_expelling import Expelling, Unknown
from tests.simulation.test_joining import Joining

KINDS = {kind.__name__.lower(): kind for kind in (Expelling, Unknown, Joining)}


def main() -> int:
    """Live through the seeds of each kind; exit 1 if any broke a promise."""
    parser = argparse.ArgumentParser(prog="tests.simulation.belong", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of them, with commas")
    chosen = parser.parse_args()
    lived, broken, waits = 0, 0, (0.0, 0.0)
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        for name in chosen.kinds.split(","):
            history = KINDS[name](seed)
            lived += 1
            try:
                with no_collector():
                    history.play()
            except AssertionError as fault:
                broken += 1
                print(f"{name}: {fault}", flush=True)
            else:
                near, far = history.waits()
                waits = max(waits[0], near), max(waits[1], far)
            history.run.close()
            if lived % 20 == 0:
                print(_sum(lived, broken, waits), file=sys.stderr, flush=True)
    print(_sum(lived, broken, waits))
    return 1 if broken else 0


def _sum(lived: int, broken: int, waits: tuple[float, float]) -> str:
    return (
        f"{lived} histories, {time.process_time() / lived:.1f} s of the processor each; effective within"
        f" {waits[0]:.2f} s where reached, {waits[1]:.2f} s of the first link of one that was cut off;"
        f" {broken} violations"
    )


if __name__ == "__main__":
    sys.exit(main())
