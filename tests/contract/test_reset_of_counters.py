"""``clock --reset`` where increments of a counter cannot be applied elsewhere."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from entgldb.messages.client import FieldOperation, Write
from entgldb.messages.model import COLLECTIONS
from entgldb.storage.log import unfit
from entgldb.storage.log.apply import Applier
from entgldb.storage.store import Store
from tests.contract.test_clock_reset import AHEAD, conflicts, exchange, reset, tidy
from tests.contract.test_quarantine import failing
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]


def counted(bench: Bench, store: Store, amount: int, now: int) -> None:
    operation = FieldOperation("inc", ("n",), b"%d" % amount)
    bench.put(store, Write("merging", "k", None, None, (operation,)), now=now)


@pytest.mark.parametrize("ahead", [False, True])
def test_increments_that_are_in_quarantine_elsewhere_count_once_after_the_reset(
    bench: Bench, *, ahead: bool
) -> None:
    """``ahead``: so is the one that the reset writes again; else the one before it."""
    a, b, fit = (bench.make(name) for name in ("a", "b", "fit"))
    bench.put(a, Write(COLLECTIONS, "merging", b'{"Conflict":"merge"}'), system=True)
    bench.put(a, doc("k", b'{"n":1}', "merging"))
    exchange(bench, a, b, fit)
    counted(bench, a, 10, NOW)
    if ahead:
        exchange(bench, a, b, fit)
    counted(bench, a, 100, AHEAD)
    with patch.object(Applier, "merge", failing("k")), b.group():
        b.apply(entries(a), NOW)
        b.release_held(NOW, accepted=a.origin)
    assert b.status()["unfit"] == (1 if ahead else 2)
    reset(bench, a)
    counted(bench, a, 1000, NOW + 1)
    exchange(bench, a, b, fit)
    tidy(a, b, fit)
    exchange(bench, a, b, fit)
    for one in unfit.list_unfit(b.connection):
        with b.group():
            b.applying.retry(one.version, NOW)
    assert b.status()["unfit"] == 0
    assert {store.get("merging", "k") for store in (a, b, fit)} == {b'{"n":1111}'}
    assert conflicts(a) == conflicts(b) == conflicts(fit) == []
