"""An operator's decisions reach the store as messages, and are answered in words."""

from __future__ import annotations

import pytest

from entgldb.messages import client
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Entry
from entgldb.storage.log import held
from entgldb.storage.rules.header import decode, digest, encode
from entgldb.storage.store import Store
from tests.unit.actors.store.test_store_keeper import NOW, Bench, batch


def written(now: int = NOW, body: bytes = b"{}", seed: bytes = b"\2") -> tuple[str, list[Entry]]:
    """One entry of another node; ``body`` as no checked writer would have it."""
    store = Store.memory("n2", seed, NOW)
    with store.group():
        store.write(client.RequestId(b"o" * 16, 1), [client.Write("users", "k", b"{}")], now)
    (row,) = store.rows(1, 1)
    header = decode(row.header)._replace(body_sha256=digest(body))
    return store.origin, [Entry(encode(header), body)]


def test_an_entry_in_quarantine_is_retried_or_dropped_and_what_fails_still_says_why() -> None:
    bench = Bench()
    origin, sent = written(body=b"[]")
    bench.ask(batch(sent, 0))
    assert bench.keeper.counts["unfit"] == 1
    (refused,) = bench.ask(client.SettleUnfit(origin, 1, retry=True))
    assert isinstance(refused, client.Refused)
    assert (refused.code, refused.definite) == ("invalid", True)
    assert "cannot be applied still" in refused.text
    assert bench.store.status()["unfit"] == 1
    assert bench.ask(client.SettleUnfit(origin, 1, retry=False)) == [client.Done()]
    (gone,) = bench.ask(client.SettleUnfit(origin, 1, retry=False))
    assert isinstance(gone, client.Refused)
    assert gone.code == "not-found"


def test_of_much_that_is_held_a_part_is_released_and_the_rest_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "RELEASED_TOGETHER", 1)
    bench, other = Bench(), Bench("n2", seed=b"\2" * 32)
    other.ctx._wall_ms += 2 * DRIFT_MS_MAX
    for key in ("k1", "k2"):
        other.ask(other.put(key))
    sent = tuple(Entry(row.header, row.body) for row in other.store.rows(1, 2))
    bench.ask(batch(sent, 0))
    answers = [bench.ask(client.ReleaseOrigin(other.store.origin))[0] for _ in range(2)]
    assert answers == [client.Report({"released": 1, "left": left}) for left in (True, False)]


def test_what_is_held_of_one_origin_is_released_and_counted() -> None:
    bench = Bench()
    origin, sent = written(now=NOW + 2 * DRIFT_MS_MAX)
    bench.ask(batch(sent, 0))
    assert bench.store.held() == {origin: 1}
    (refused,) = bench.ask(client.ReleaseOrigin("n9/" + "0" * 32))
    assert isinstance(refused, client.Refused)
    assert refused.code == "not-found"
    assert bench.ask(client.ReleaseOrigin(origin)) == [client.Report({"released": 1, "left": False})]
    assert bench.store.held() == {}
    assert bench.store.get("users", "k") == b"{}"
