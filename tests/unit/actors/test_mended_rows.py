"""Faults of the review of 2026-11-27 in the actors, each put back: the test of its mend notices it.

The letters are the rows of that review; ``tests/unit/storage/test_mended_rows.py`` has those of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entgldb.actors import silence
from entgldb.actors.gateway import cloud_hello
from entgldb.actors.host import wire as host_wire
from entgldb.actors.node.initial import InitialPeers
from entgldb.actors.oplog import snapshots
from entgldb.actors.oplog.walker import Listing, Walker
from entgldb.actors.session import inbox, members, session
from entgldb.actors.session.claims import Claims
from entgldb.actors.sync.dialler import Dialler
from entgldb.actors.tls import entrance, identity
from entgldb.actors.tls.entrance import Entrance
from entgldb.messages import wire
from entgldb.messages.errors import Reason
from entgldb.messages.limits import COUNT_MAX, LINKS_MAX
from tests.unit.actors.election import test_election
from tests.unit.actors.gateway import test_gateway_link
from tests.unit.actors.gateway.gateway_parts import CLOUD_ORIGIN
from tests.unit.actors.host import test_host_wire
from tests.unit.actors.node import test_node
from tests.unit.actors.oplog import test_snapshot_givers, test_snapshot_merges, test_verifier
from tests.unit.actors.oplog.verify_rig import Pair
from tests.unit.actors.session import test_members, test_session, test_session_bounds
from tests.unit.actors.sync import test_dialler, test_redial
from tests.unit.actors.tls import test_entrance, test_tls

Patch = pytest.MonkeyPatch
hello_fault = cloud_hello.fault


class Mutant(NamedTuple):
    """A mend that is undone."""

    where: object
    name: str
    instead: Any
    because: str
    """What the test finds: a regular expression."""
    notices: Callable[[Patch, Path], None]


def any_name(hello: wire.Hello, expected: str, own: str) -> tuple[Reason, str] | None:
    return hello_fault(hello, hello.node_id, own)


def lacks_nothing(self: session.Session) -> None:
    self.synced = self.synced or (self._their_seqs() is not None and self.behind_in == 0)


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
        host_wire._BoundedBuffer,
        "proven",
        True,
        r"== 32",
        lambda patch, folder: (
            test_host_wire.test_a_frame_is_read_beyond_its_head_only_for_who_holds_the_key()
        ),
    ),
    "B9 any number of connections prove nothing": Mutant(
        host_wire,
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
    "P3 a node counts on from what others say of it": Mutant(
        members,
        "OWN_COUNTER_MAX",
        COUNT_MAX,
        r"9007199254740992 == 4503599627370496",
        lambda patch, folder: test_members.test_nobody_makes_a_node_count_so_far_that_nobody_takes_its_rows(
            cloud=False
        ),
    ),
    "P4 a claim outbids the greatest there may be": Mutant(
        Claims,
        "next_epoch",
        lambda self: self.epoch_seen + 1,
        r"== \['\w'\]",
        lambda patch, folder: (
            test_election.test_a_claim_of_the_highest_epoch_leaves_one_leader_and_further_elections()
        ),
    ),
    "P5 a cloud may have any name": Mutant(
        cloud_hello,
        "fault",
        any_name,
        r"\[\] == \[\(1, 'wrong-node'\)\]",
        lambda patch, folder: test_gateway_link.test_a_hello_that_is_not_a_clouds_ends_the_link(
            wire.Hello(1, 1, "cloud-node", CLOUD_ORIGIN, "", (), 0, "cloud"), "wrong-node"
        ),
    ),
    "W1 a giver that is silent keeps all others out": Mutant(
        snapshots,
        "IDLE_SECONDS_MAX",
        10**9,
        r"\[\] == \[0\]",
        lambda patch, folder: (
            test_snapshot_givers.test_a_giver_that_never_answers_keeps_others_out_for_a_minute_only()
        ),
    ),
    "W2 a merge is ordered again after two seconds": Mutant(
        snapshots,
        "MERGE_SECONDS_MAX",
        2.0,
        r"\d == 1",
        lambda patch, folder: (
            test_snapshot_merges.test_a_merge_that_takes_long_is_ordered_once_and_nothing_else_is_staged_meanwhile()
        ),
    ),
    "W5 only who lacks nothing at all is synced": Mutant(
        session.Session,
        "_note_synced",
        lacks_nothing,
        r"\.synced",
        lambda patch, folder: (
            test_session.test_a_quarantined_origin_does_not_keep_a_session_from_being_synced()
        ),
    ),
    "W6 three seconds of silence end any link": Mutant(
        silence,
        "patience",
        lambda *given: 3.0,
        r"heartbeat-lost",
        lambda patch, folder: test_redial.test_a_peer_is_given_up_after_three_heartbeats_of_the_slower_side(
            10.0, 1000
        ),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mend_that_is_undone_is_noticed(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.where, mutant.name, mutant.instead)
    with pytest.raises(AssertionError, match=mutant.because):
        mutant.notices(monkeypatch, tmp_path)
