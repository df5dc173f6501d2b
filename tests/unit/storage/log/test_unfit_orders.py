"""Entries that a node cannot apply until it is updated: in every causal order it ends like all others."""

from __future__ import annotations

from collections.abc import Set
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.model import Version
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.unfit import list_unfit
from entgldb.storage.rules.header import Header
from entgldb.storage.rules.merging.collection_rule import BY_FIELD, LWW
from entgldb.storage.store import Store
from tests.unit.storage.log.test_causal_orders import EXAMPLES, _deliver, _shuffled
from tests.unit.storage.log.test_merge_orders import NOW, _check, _expected, _steps, played, steps


def picky(unfit: Set[Version]) -> type[Applier]:
    """An applier of a release that cannot merge some entries."""

    class Picky(Applier):
        def merge(self, header: Header, text: str | None, lsn: int) -> None:
            super().merge(header, text, lsn)
            if header.version in unfit:
                raise ValueError("this release cannot merge it")

    return Picky


def retry_all(store: Store, random: Random) -> None:
    """An operator tries again what is in quarantine, in any order."""
    while waiting := list_unfit(store.connection):
        with store.group():
            store.applying.retry(random.choice(waiting).version, NOW)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps, st.sampled_from([LWW, BY_FIELD, BY_FIELD]), st.integers(0, 2**32))
def test_what_is_retried_ends_as_if_it_had_been_applied_at_once(
    history: list[tuple[str, int, Any]], begun: str, seed: int
) -> None:
    random = Random(seed)
    _, told = played(enumerate(history), begun, random)
    of_documents = [one.header.version for one in told if one.header.collection == "c"]
    unfit = {version for version in of_documents if random.random() < 0.3}
    expected = _expected(_steps(told), told)
    for number in range(3):
        fresh = Store.memory("fresh", bytes([100 + number]), NOW)
        fresh.applying.kind = picky(unfit)
        order = _shuffled(told, random)
        updated = random.randint(0, len(order))
        _deliver(fresh, order[:updated], random)
        fresh.applying.kind = Applier
        retry_all(fresh, random)
        _deliver(fresh, order[updated:], random)
        _check(fresh, expected)
        fresh.close()
