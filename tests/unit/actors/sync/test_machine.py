"""Alarms about a clock that drifts and a certificate that ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from entgldb.actors.cluster_key import ClusterKeys
from entgldb.actors.session.clock_watch import READINGS_MIN, PeerClock
from entgldb.actors.sync.machine import CERTIFICATE_ALARM_MS, DRIFT_ALARM_MS, Machine, drifts
from entgldb.actors.tls.identity import LanIdentity, ServerIdentity
from entgldb.messages.secret import Secret
from tests.support.fake_context import FakeContext
from tests.unit.actors.gateway.server_certificate import issue_server_certificate

OFF = DRIFT_ALARM_MS + 1


@pytest.mark.parametrize(
    ("offsets", "drifting"),
    [
        ([], False),
        ([OFF], False),
        ([OFF, OFF], True),
        ([-OFF, -OFF, 0], True),
        ([OFF, OFF, 0, 0], False),
        ([OFF, -OFF], False),
        ([OFF - 1, OFF - 1, OFF], False),
    ],
)
def test_most_peers_and_at_least_two_say_that_a_clock_drifts(offsets: list[int], drifting: bool) -> None:
    assert bool(drifts(offsets)) == drifting


def test_the_text_says_which_way_and_what_helps() -> None:
    assert drifts([20_000, 21_000]) == (
        "this clock is -21 s off, by 2 of 2 peers; beyond 60 s writes are refused: entgldb doctor clock"
    )


def clocks(ctx: FakeContext, *offsets: int | None) -> list[PeerClock]:
    """Those of peers that are so far ahead of ours; None: of one that has said too little."""
    made = [PeerClock() for _ in offsets]
    for clock, offset in zip(made, offsets, strict=True):
        for _ in range(0 if offset is None else READINGS_MIN):
            clock.said(ctx.now_ms() + (offset or 0), ctx)
    return made


def test_alarms_stand_while_their_cause_does() -> None:
    ctx, machine = FakeContext(), Machine()
    now = ctx.now_ms()
    machine.look(clocks(ctx, None, OFF, OFF), now + CERTIFICATE_ALARM_MS - 1, ctx)
    ctx.run(5.0)
    machine.look(clocks(ctx, OFF, OFF, None), now - 1, ctx)
    found = {row["code"]: row for row in machine.report()}
    assert {row["since_ms"] for row in found.values()} == {now}
    assert found["certificate"]["text"].startswith("the certificate that this node shows has ended")
    machine.look(clocks(ctx, 0, 0), now + CERTIFICATE_ALARM_MS * 2, ctx)
    assert machine.report() == []
    machine.look(None, 0, ctx)
    assert machine.report() == []


def test_identities_tell_how_long_their_certificates_are_good(tmp_path: Path) -> None:
    lan = LanIdentity(tmp_path, lambda: ClusterKeys((Secret(b"k" * 32),)), "lan-1")
    made = issue_server_certificate(tmp_path)
    server = ServerIdentity(made.certificate, made.key)
    now = time.time() * 1000
    assert 85 < (lan.good_until_ms - now) / 86_400_000 < 95
    assert 25 < (server.good_until_ms - now) / 86_400_000 < 35
    key = made.key.read_bytes()
    issue_server_certificate(tmp_path, days=60)
    fresh = made.key.read_bytes()
    made.key.write_bytes(key)
    assert 25 < (server.good_until_ms - now) / 86_400_000 < 35, "while the two files do not belong together"
    made.key.write_bytes(fresh)
    assert 55 < (server.good_until_ms - now) / 86_400_000 < 65, "though no link has come since"
