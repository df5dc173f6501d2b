"""``python -m tests.simulation --seeds N --first S [--trace]``; the last line sums up."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from pathlib import Path

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "src"))

from tests.simulation.run import Result, run


def main() -> int:
    """Run the seeds on all cores; exit 1 if any broke a promise."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    if chosen.trace or chosen.seeds == 1:
        results = [run(seed, keep_trace=chosen.trace) for seed in seeds]
    else:
        with multiprocessing.get_context("fork").Pool() as pool:
            results = pool.map(run, seeds, chunksize=1)
    return report(results)


def report(results: list[Result]) -> int:
    """Every violation with its seed and options, the rare branches, and the sum."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    violations = 0
    for result in results:
        counts.update(result.counts)
        faults.update(result.faults)
        violations += len(result.violations)
        for line in result.lines or ():
            print(line)
        if result.violations or len(results) == 1:
            print(f"seed {result.seed}: {result.options}")
            for text in result.violations[:10]:
                print(f"  {text}")
    print("faults: " + ", ".join(f"{kind} {times}" for kind, times in sorted(faults.items())))
    print("reached: " + ", ".join(f"{reason} {times}" for reason, times in sorted(counts.items())))
    healed = sorted(result.healed_in for result in results)
    writes = sum(result.acknowledged for result in results)
    middle = healed[len(healed) // 2]
    print(f"{writes} acknowledged writes; settled after {middle:.1f} s, at most {healed[-1]:.1f} s")
    print(f"{len(results)} seeds, {sum(faults.values())} faults, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
