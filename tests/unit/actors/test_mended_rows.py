"""Faults of the review of 2026-11-27 in the actors, each put back: the test of its mend notices it.

The letters are the rows of that review; ``tests/unit/storage/test_mended_rows.py`` has those of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entgldb.actors.host import wire
from entgldb.actors.node.initial import InitialPeers
from entgldb.actors.oplog.walker import Listing, Walker
from entgldb.actors.session import inbox, session
from entgldb.actors.sync.dialler import Dialler
from entgldb.actors.tls import entrance, identity
from entgldb.actors.tls.entrance import Entrance
from entgldb.messages.limits import LINKS_MAX
from tests.unit.actors.host import test_host_wire
from tests.unit.actors.node import test_node
from tests.unit.actors.oplog import test_verifier
from tests.unit.actors.oplog.verify_rig import Pair
from tests.unit.actors.session import test_session_bounds
from tests.unit.actors.sync import test_dialler
from tests.unit.actors.tls import test_entrance, test_tls

Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """A mend that is undone."""

    where: object
    name: str
    instead: Any
    because: str
    """What the test finds: a regular expression."""
    notices: Callable[[Patch, Path], None]


def done_before_any_answer(self: InitialPeers, *given: Any) -> None:
    self._done = self._ticket


def compared() -> Pair:
    pair = Pair()
    pair.write_both(*(test_verifier.doc(f"k{n}") for n in range(200)))
    return pair


MUTANTS = {
    "S11 initial peers are done before the store has answered": Mutant(
        InitialPeers,
        "tick",
        done_before_any_answer,
        r"\[ApplyInitialPeers\] == ",
        lambda patch, folder: test_node.test_initial_peers_are_said_again_until_the_store_has_answered(),
    ),
    "S12 any clock replaces a certificate": Mutant(
        identity,
        "_BUILT",
        datetime(1960, 1, 1, tzinfo=UTC),
        r"<Certificate\(subject=<Name\(CN=lan-1\)>, \.\.\.\)> ==",
        lambda patch, folder: test_tls.test_a_clock_that_does_not_know_the_time_replaces_no_certificate(
            folder
        ),
    ),
    "B7 a sender goes on without an acknowledgement": Mutant(
        inbox,
        "WINDOW_BATCHES_MAX",
        10**6,
        r"\.fault",
        lambda patch, folder: (
            test_session_bounds.test_who_sends_on_without_an_acknowledgement_is_to_be_disconnected()
        ),
    ),
    "B7 a peer has origins without end": Mutant(
        session,
        "ORIGINS_MAX",
        10**6,
        r"\.fault",
        lambda patch, folder: test_session_bounds.test_a_peer_cannot_have_more_origins_than_there_can_be(),
    ),
    "B6 all of the asker's ranges are listed": Mutant(
        Listing,
        "end",
        lambda self: None,
        r"\d{3} <= 41",
        lambda patch, folder: test_verifier.test_what_a_peer_asks_for_is_listed_page_by_page(patch),
    ),
    "B6 each question is a walk": Mutant(
        Walker,
        "leave",
        lambda self, walk: None,
        r"25\d\d == 2",
        lambda patch, folder: test_verifier.test_a_flood_of_questions_is_one_walk(compared()),
    ),
    "B8 a stranger takes the place of a member": Mutant(
        Entrance,
        "full",
        lambda self: len(self._members) + len(self._strangers) + len(self._waiting) >= LINKS_MAX,
        r"not True",
        lambda patch, folder: test_entrance.test_a_flood_from_one_address_turns_out_its_own_oldest(),
    ),
    "B8 each address of one network counts": Mutant(
        entrance,
        "NETWORK_BITS",
        128,
        r"0001::/128' == ",
        lambda patch, folder: test_entrance.test_an_address_of_version_6_is_a_whole_network(
            "2001:db8::1", "2001:db8::ffff:1:2:3", same=True
        ),
    ),
    "B9 a frame is read before its sender has proved anything": Mutant(
        wire._BoundedBuffer,
        "proven",
        True,
        r"== 32",
        lambda patch, folder: (
            test_host_wire.test_a_frame_is_read_beyond_its_head_only_for_who_holds_the_key()
        ),
    ),
    "B9 any number of connections prove nothing": Mutant(
        wire,
        "UNPROVEN_MAX",
        10**6,
        r"\[\] == \[0, 2\]",
        lambda patch, folder: test_host_wire.test_of_connections_that_prove_nothing_the_oldest_are_closed(),
    ),
    "B10 a hint takes the place of what has worked": Mutant(
        Dialler,
        "_worth",
        lambda self, address: 0,
        r"257 <= 256",
        lambda patch, folder: (
            test_dialler.test_a_flood_of_hints_takes_no_address_that_has_worked_nor_a_seed()
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mend_that_is_undone_is_noticed(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.where, mutant.name, mutant.instead)
    with pytest.raises(AssertionError, match=mutant.because):
        mutant.notices(monkeypatch, tmp_path)
