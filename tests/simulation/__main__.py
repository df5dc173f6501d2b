"""``python -m tests.simulation --seeds N --first S [--processes P] [--into FILE] [--trace]``; the last line
sums up.

A run may be done in parts: each writes what its seeds gave ``--into`` a file of its own, line by line, and
``--sum FILE ...`` reports of all of them as of one run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "src"))

from tests.simulation.run import Result, run
from tests.simulation.watch import branches


class Line(NamedTuple):
    """What is reported of one seed."""

    seed: int
    options: str
    violations: list[str]
    faults: dict[str, int]
    counts: dict[str, int]
    reached: dict[str, int]
    acknowledged: int
    healed_in: float

    @classmethod
    def of(cls, one: Result) -> Line:
        """The line of a result."""
        told = dict(one.faults), dict(one.counts), dict(one.reached)
        return cls(one.seed, str(one.options), one.violations, *told, one.acknowledged, one.healed_in)


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds, on all cores unless told otherwise; exit 1 if any broke a promise."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--into", type=Path, help="write a line of JSON here for each seed, when it is done")
    parser.add_argument("--sum", type=Path, nargs="+", help="run nothing: report of what is in these files")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    chosen = parser.parse_args(arguments)
    if chosen.sum:
        return report(_read(chosen.sum))
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    if chosen.trace or chosen.seeds == 1:
        results = (_told(run(seed, keep_trace=chosen.trace)) for seed in seeds)
        return report(list(_written(results, chosen.into)))
    with multiprocessing.get_context("fork").Pool(chosen.processes) as pool:
        results = map(_told, pool.imap_unordered(run, seeds, chunksize=1))
        return report(list(_written(results, chosen.into)))


def _told(result: Result) -> Line:
    for line in result.lines or ():
        print(line)
    return Line.of(result)


def _written(lines: Iterable[Line], into: Path | None) -> Iterator[Line]:
    """Each line, once it stands in the file: a run that is cut short leaves what it has done."""
    if into is None:
        yield from lines
        return
    with into.open("w") as file:
        for line in lines:
            print(json.dumps(line._asdict()), file=file, flush=True)
            yield line


def _read(files: Iterable[Path]) -> list[Line]:
    """A seed that stands in several files counts once."""
    texts = (text for file in files for text in file.read_text().splitlines())
    return list({line.seed: line for line in (Line(**json.loads(text)) for text in texts)}.values())


def report(lines: Sequence[Line]) -> int:
    """Every violation with its seed and options, the rare branches, and the sum."""
    faults: Counter[str] = Counter()
    violations = 0
    for line in sorted(lines):
        faults.update(line.faults)
        violations += len(line.violations)
        if line.violations or len(lines) == 1:
            print(f"seed {line.seed}: {line.options}")
            for text in line.violations[:10]:
                print(f"  {text}")
    reached = branches.total(lines)
    unreached = [name for name, times in reached.items() if not times]
    print(branches.table(reached))
    also = branches.beyond(lines)
    print("also counted: " + ", ".join(f"{name} {times}" for name, times in sorted(also.items())))
    print("unreached: " + (", ".join(unreached) or "none"))
    healed = sorted(line.healed_in for line in lines)
    writes = sum(line.acknowledged for line in lines)
    middle = healed[len(healed) // 2]
    print(f"{writes} acknowledged writes; settled after {middle:.1f} s, at most {healed[-1]:.1f} s")
    told = f"{len(lines)} seeds, {sum(faults.values())} faults, {violations} violations"
    print(f"{told}, {len(unreached)} unreached branches")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
