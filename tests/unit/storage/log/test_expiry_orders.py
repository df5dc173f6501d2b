"""Documents that expire: the same entries in any order, met at any time, leave the same rows in the end."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import COLLECTIONS, Entry
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import BY_FIELD, LWW, life_document, rule_document
from entgldb.storage.store import Store
from tests.simulation.watch.merge_oracle import Id, Outcome, outcome
from tests.unit.storage.log.test_causal_orders import EXAMPLES, Told, _shuffled
from tests.unit.storage.log.test_merge_orders import KEYS, NODES, NOW, _check, _rows, _steps, documents
from tests.unit.storage.rules.merge_rig import VERBS, operations

STEP_MS = 100
LATE = NOW + 10_000_000
MIXED = "mixed"
"""Each node begins with a rule of its own."""
lives = st.sampled_from([None, None, 0, 1, 150, 600, 5_000])
nodes_ = st.integers(0, NODES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), nodes_, st.tuples(st.sampled_from(KEYS), documents, lives)),
        st.tuples(st.just("put"), nodes_, st.tuples(st.sampled_from(KEYS), documents, lives)),
        st.tuples(st.just("delete"), nodes_, st.sampled_from(KEYS)),
        st.tuples(st.sampled_from(VERBS), nodes_, st.tuples(st.sampled_from(KEYS), documents, lives)),
        st.tuples(st.just("rule"), nodes_, st.sampled_from([LWW, BY_FIELD, BY_FIELD])),
        st.tuples(st.just("life"), nodes_, st.sampled_from([0, 200, 2_000])),
        st.tuples(st.just("sync"), nodes_, nodes_),
        st.tuples(st.just("look"), nodes_, st.just(0)),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps, st.sampled_from([LWW, BY_FIELD, MIXED]), st.integers(0, 2**32))
def test_all_orders_at_all_times_end_alike(
    history: list[tuple[str, int, Any]], begun: str, seed: int
) -> None:
    random = Random(seed)
    nodes, told = _played(history, begun, random)
    blobs = set()
    for store in (*(Store.memory("fresh", bytes([100 + number]), NOW) for number in range(3)), *nodes):
        _deliver(store, _shuffled(told, random), random)
        now = random.choice([NOW + 300, LATE])
        _look(store, now)
        expected = _expected(told, store.state.time_ms)
        _check(store, expected)
        _look(store, LATE)
        _check(store, _expected(told, LATE))
        blobs.add(_rows(store))
        store.close()
    # to the byte, field versions and conflicts included
    assert len(blobs) == 1


def _played(
    history: list[tuple[str, int, Any]], begun: str, random: Random
) -> tuple[list[Store], list[Told]]:
    nodes = [Store.memory(f"n{i}", bytes([i]), NOW) for i in range(NODES)]
    told = list[Told]()
    for number in range(NODES):
        rule = random.choice([LWW, BY_FIELD]) if begun == MIXED else begun
        told += _play(nodes, 0, ("rule", number, rule), random)
    for at, step in enumerate(history, 1):
        told += _play(nodes, at, step, random)
    return nodes, told


def _play(nodes: list[Store], at: int, step: tuple[str, int, Any], random: Random) -> list[Told]:
    verb, node, what = step
    store, now = nodes[node], NOW + at * STEP_MS
    if verb == "look":
        _look(store, now)
        return []
    if verb == "sync":
        rows = nodes[what].rows(1, 500)
        if rows:
            with store.group():
                cut = random.randint(1, len(rows))
                assert store.apply([Entry(row.header, row.body) for row in rows[:cut]], now).refused == ""
        return []
    write = _write(store, verb, what)
    seen = {origin: seq for origin, (seq, _) in store.vector().items()}
    first = store.last_lsn() + 1
    try:
        with store.group():
            wrote_at = now + random.randint(-50, 50)
            store.write(RequestId(bytes(16), 1000 * at + node), [write], wrote_at, system=verb in SYSTEM)
    except InvalidError:
        # the collection does not merge here, or what stands there is no counter, or no set
        assert write.operations
        return []
    if verb in ("put", "delete"):
        found = store.get("c", write.key)
        assert (None if found is None else json.loads(found)) == (write.body and json.loads(write.body))
    return [Told(Entry(r.header, r.body), decode(r.header), seen) for r in store.rows(first, 500)]


SYSTEM = ("rule", "life")


def _write(store: Store, verb: str, what: Any) -> Write:
    if verb == "rule":
        return Write(COLLECTIONS, "c", rule_document("c", what, store.get(COLLECTIONS, "c")))
    if verb == "life":
        return Write(COLLECTIONS, "c", life_document("c", what, store.get(COLLECTIONS, "c")))
    if verb == "delete":
        return Write("c", what, None)
    key, document, life = what
    if verb == "put":
        return Write("c", key, json.dumps(document).encode(), expire_after=life)
    return Write("c", key, None, None, tuple(operations(verb, document)), expire_after=life)


def _look(store: Store, now_ms: int) -> None:
    with store.group():
        store.expire(now_ms)
    assert not 0 < store.next_expiry() <= store.state.time_ms


def _deliver(store: Store, order: list[Entry], random: Random) -> None:
    """In batches of random sizes, with some of it twice, while time goes on."""
    at, now = 0, NOW
    while at < len(order):
        end = at + random.randint(1, 5)
        with store.group():
            assert store.apply(order[max(0, at - 2) : end], NOW).refused == ""
        now += random.choice((0, 0, 100, 400, 2_000))
        _look(store, now)
        at = end


def _expected(told: list[Told], now_ms: int) -> dict[str, tuple[Id, Any, frozenset[Id]]]:
    keys = {tuple(one.header.version): one.header.key for one in told}
    found = dict[str, Outcome]()
    for key in KEYS:
        mine = [step for step in _steps(told) if keys[step.id] == key]
        if mine:
            found[key] = outcome(mine, now_ms)
    return {key: tuple(one) for key, one in found.items()}  # type: ignore[misc]  # an Outcome is a tuple
