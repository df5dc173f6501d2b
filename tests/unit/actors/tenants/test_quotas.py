"""Quotas: which batch is refused, and why."""

from __future__ import annotations

import pytest

from entgldb.actors.tenants.quotas import BURST_SECONDS, SIZE_SECONDS, Figures, Gate, told
from entgldb.messages.errors import Reason
from entgldb.messages.model import Entry
from entgldb.messages.tenants import Quotas
from entgldb.storage.rules.header import DELETE, PUT, Header, encode

KNOWN = "lan-1/" + "a" * 32
NEW = "lan-2/" + "b" * 32


def entry(op: int = PUT, origin: str = KNOWN) -> Entry:
    header = Header(origin, 2, 1, "c", "k", op, None, 0, 1, b"\1" * 32 if op == PUT else b"", b"\2" * 32)
    return Entry(encode(header), b"{}" if op == PUT else None)


def figures(documents: int = 0, size: int = 0, origins: int = 1) -> Figures:
    return Figures(lambda: documents, lambda: size, lambda: {KNOWN}, lambda: origins)


def test_without_quotas_everything_is_taken() -> None:
    gate = Gate(Quotas(), 0.0)
    assert gate.refusal((entry(origin=NEW),) * 1000, figures(10**9, 10**15, 4000), 0.0) is None


@pytest.mark.parametrize(
    ("quotas", "there", "reason"),
    [
        (Quotas(documents=5), figures(documents=5), None),
        (Quotas(documents=5), figures(documents=6), Reason.QUOTA_DOCUMENTS),
        (Quotas(bytes=100), figures(size=100), None),
        (Quotas(bytes=100), figures(size=101), Reason.QUOTA_BYTES),
    ],
)
def test_a_tenant_that_has_more_than_it_may_grows_no_more_and_may_delete(
    quotas: Quotas, there: Figures, reason: Reason | None
) -> None:
    gate = Gate(quotas, 0.0)
    assert gate.refusal((entry(),), there, 0.0) is reason
    assert gate.refusal((entry(DELETE), entry()), there, 0.0) is reason
    assert gate.refusal((entry(DELETE),), there, 0.0) is None


def test_the_size_of_files_is_looked_at_now_and_then() -> None:
    gate, looks = Gate(Quotas(bytes=1), 0.0), []
    there = figures()._replace(bytes=lambda: looks.append(1) or 5)  # type: ignore[func-returns-value]  # it counts
    for now in (0.0, 1.0, SIZE_SECONDS - 0.1):
        assert gate.refusal((entry(),), there, now) is Reason.QUOTA_BYTES
    assert len(looks) == 1
    gate.refusal((entry(),), there, SIZE_SECONDS)
    assert len(looks) == 2


def test_beyond_its_rate_a_tenant_waits_until_as_many_seconds_have_passed() -> None:
    gate, burst = Gate(Quotas(writes=10), 0.0), int(10 * BURST_SECONDS)
    assert gate.refusal((entry(),) * (burst - 1), figures(), 0.0) is None
    assert gate.refusal((entry(),) * 51, figures(), 0.0) is None
    assert gate.refusal((entry(),), figures(), 0.0) is Reason.QUOTA_WRITES
    assert gate.writes_spent(5.0)
    assert not gate.writes_spent(5.1)
    assert gate.refusal((entry(),), figures(), 5.1) is None
    assert gate.refused == 1
    # a long pause is worth no more than the burst
    gate.writes_spent(10_000.0)
    assert gate.refusal((entry(),) * burst, figures(), 10_000.0) is None
    assert gate.refusal((entry(),), figures(), 10_000.0) is Reason.QUOTA_WRITES


def test_where_there_are_as_many_origins_as_may_be_no_new_one_is_taken() -> None:
    gate = Gate(Quotas(origins=2), 0.0)
    assert gate.refusal((entry(origin=NEW),), figures(origins=1), 0.0) is None
    assert gate.refusal((entry(origin=NEW),), figures(origins=2), 0.0) is Reason.QUOTA_ORIGINS
    assert gate.refusal((entry(),), figures(origins=2), 0.0) is None


def test_an_entry_that_cannot_be_read_is_the_stores_to_refuse() -> None:
    gate = Gate(Quotas(documents=1, origins=1), 0.0)
    assert gate.refusal((Entry(b"rubbish", None),), figures(documents=5), 0.0) is None


@pytest.mark.parametrize("reason", [one for one in Reason if one.name.startswith("QUOTA_")])
def test_every_quota_has_its_sentence(reason: Reason) -> None:
    assert "7" in told(reason, Quotas(7, 7, 7, 7, 7))
