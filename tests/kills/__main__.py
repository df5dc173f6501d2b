"""``python -m tests.kills --rounds N --seed S``; ends with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from tests.kills.points import POINTS
from tests.kills.rounds import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    begun = time.monotonic()
    figures = run(chosen.rounds, chosen.seed)
    print(", ".join(f"{point} {figures.kills[point]}" for point in (*POINTS, "random")))
    for text in figures.violations[:10]:
        print(f"  {text}")
    print(f"seed {chosen.seed}: {figures.text()}, {time.monotonic() - begun:.1f} s")
    return 1 if figures.violations else 0


if __name__ == "__main__":
    sys.exit(main())
