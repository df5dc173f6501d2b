"""Faults of the review of 2026-11-27 in the actors, each put back: the test of its mend notices it.

The letters are the rows of that review; ``tests/unit/storage/test_mended_rows.py`` has those of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entgldb.actors.node.initial import InitialPeers
from entgldb.actors.session import inbox, session
from entgldb.actors.sync.dialler import Dialler
from entgldb.actors.tls import identity
from tests.unit.actors.node import test_node
from tests.unit.actors.session import test_session_bounds
from tests.unit.actors.sync import test_dialler
from tests.unit.actors.tls import test_tls


class Mutant(NamedTuple):
    """A mend that is undone."""

    where: object
    name: str
    instead: Any
    notices: Callable[[Path], None]


def done_before_any_answer(self: InitialPeers, *given: Any) -> None:
    self._done = self._ticket


MUTANTS = {
    "S11 initial peers are done before the store has answered": Mutant(
        InitialPeers,
        "tick",
        done_before_any_answer,
        lambda folder: test_node.test_initial_peers_are_said_again_until_the_store_has_answered(),
    ),
    "S12 any clock replaces a certificate": Mutant(
        identity,
        "_BUILT",
        datetime(1960, 1, 1, tzinfo=UTC),
        lambda folder: test_tls.test_a_clock_that_does_not_know_the_time_replaces_no_certificate(folder),
    ),
    "B7 a sender goes on without an acknowledgement": Mutant(
        inbox,
        "WINDOW_BATCHES_MAX",
        10**6,
        lambda folder: (
            test_session_bounds.test_who_sends_on_without_an_acknowledgement_is_to_be_disconnected()
        ),
    ),
    "B7 a peer has origins without end": Mutant(
        session,
        "ORIGINS_MAX",
        10**6,
        lambda folder: test_session_bounds.test_a_peer_cannot_have_more_origins_than_there_can_be(),
    ),
    "B10 a hint takes the place of what has worked": Mutant(
        Dialler,
        "_worth",
        lambda self, address: 0,
        lambda folder: test_dialler.test_a_flood_of_hints_takes_no_address_that_has_worked_nor_a_seed(),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mend_that_is_undone_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.where, mutant.name, mutant.instead)
    with pytest.raises(AssertionError):
        mutant.notices(tmp_path)
