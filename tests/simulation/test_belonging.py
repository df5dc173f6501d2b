"""Nodes are expelled and keys made among all other faults: who stays agrees, and nobody else is heard."""

from __future__ import annotations

import pytest

from entgldb.actors.store.members.keys import Keys
from entgldb.actors.sync.members.admittance import Admittance
from entgldb.storage.file.state import State
from tests.simulation.events.belonging import BELONGING, SEEDS
from tests.simulation.run import Run, broken, run

AT_REST, IN_TROUBLE, ROTATED = 54, 26, 75
"""Seeds: a node is expelled when all have all, and amid the faults; keys alone are made."""


@pytest.mark.parametrize("seed", [AT_REST, IN_TROUBLE, ROTATED])
def test_those_that_stay_agree_and_hold_the_newest_key(seed: int) -> None:
    result = run(seed)
    assert result.violations == [], f"seed {seed}: {result.options}"
    assert result.faults["rotate-key" if seed == ROTATED else "expel"]
    assert result.reached["expulsion measured"] or seed != AT_REST


def test_a_seed_of_another_kind_goes_as_it_always_went() -> None:
    one = Run(BELONGING + 1)
    assert (one.belonging.happens, one.network.certified, one.belonging.whole_disks) == (False, False, False)
    assert (BELONGING + 1) % SEEDS != BELONGING
    one.close()


@pytest.mark.parametrize(
    ("seed", "place", "name", "mistake"),
    [
        (IN_TROUBLE, State, "end_of", lambda state, origin: None),
        (AT_REST, Admittance, "fault", lambda admits, peer, ctx: None),
        (ROTATED, Keys, "look", lambda looking, keeper, ctx: None),
    ],
    ids=["what it wrote since counts", "its links stay", "nobody takes a key"],
)
def test_a_mistake_in_the_rule_is_noticed(
    seed: int, place: object, name: str, mistake: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, mistake)
    assert broken(Run(seed))
