"""``python -m tests.simulation.mutants [NAME ...]``: the seeds that notice each mistake, for the table.

Run it after a change of anything that a seed meets, and write down the seeds that it names.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Final

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parents[3] / "src"))

from tests.simulation.mutants.table import MUTANTS
from tests.simulation.test_away import MUTANTS as RETURNING

WANTED: Final = 3


def main() -> int:
    """Exit 1 if nothing notices one of them."""
    mutants = MUTANTS | {mutant.make.__name__: mutant for mutant in RETURNING}
    blind = False
    for name in sys.argv[1:] or mutants:
        found = dict(islice(mutants[name].noticing(), WANTED))
        print(f"{name}: {tuple(found)}", *(f"    {why:.200}" for why in found.values()), sep="\n", flush=True)
        blind = blind or not found
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(main())
