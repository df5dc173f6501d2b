"""Entries in every causal order make the same documents, vectors and conflict sets.

An oracle that knows nothing of tables folds the union of all entries: per key, the winner is the
greatest ``(hlc, origin)``, and the conflicts are the puts that no entry names, less it.
"""

from __future__ import annotations

import os
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Entry, Version
from entgldb.storage.documents.query import Documents
from entgldb.storage.rules.header import PUT, Header, decode
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
NODES = 3
KEYS = ("k1", "k2")
EXAMPLES = int(os.environ.get("ENTGLDB_ORDERS", "30"))
"""Histories of each kind that has tests here; a soak has more."""


class Told(NamedTuple):
    """An entry and the seqs its writer had seen: what must arrive before it."""

    entry: Entry
    header: Header
    seen: dict[str, int]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, NODES - 1), st.sampled_from(KEYS)),
        st.tuples(st.just("delete"), st.integers(0, NODES - 1), st.sampled_from(KEYS)),
        st.tuples(st.just("sync"), st.integers(0, NODES - 1), st.integers(0, NODES - 1)),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_all_causal_orders_end_alike(history: list[tuple[str, int, str | int]], seed: int) -> None:
    random = Random(seed)
    nodes = [Store.memory(f"n{i}", bytes([i]), NOW) for i in range(NODES)]
    told = [one for at, step in enumerate(history) for one in _play(nodes, at, *step, random)]
    expected = _oracle([one.header for one in told])
    for number in range(3):
        fresh = Store.memory("fresh", bytes([100 + number]), NOW)
        _deliver(fresh, _shuffled(told, random), random)
        assert _observed(fresh) == expected
        assert fresh.status()["documents"] == sum(1 for body in expected[0].values() if body)
        assert fresh.status()["conflicts"] == len(expected[1])
        fresh.close()
    for node in nodes:
        _deliver(node, _shuffled(told, random), random)
        assert _observed(node) == expected
        assert {o: seq for o, (seq, _) in node.vector().items()} == _heads(told)
        node.close()


def _play(nodes: list[Store], at: int, verb: str, node: int, what: str | int, random: Random) -> list[Told]:
    """One step of the history; the entries it made."""
    store = nodes[node]
    if verb == "sync":
        assert isinstance(what, int)
        rows = nodes[what].rows(1, 500)
        if rows:
            cut = random.randint(1, len(rows))
            with store.group():
                outcome = store.apply([Entry(row.header, row.body) for row in rows[:cut]], NOW)
            assert outcome.refused == ""
        return []
    seen = {origin: seq for origin, (seq, _) in store.vector().items()}
    body = b'{"at":%d}' % at if verb == "put" else None
    first = store.last_lsn() + 1
    with store.group():
        # clocks run apart, so that the causal order is not the order of the clocks
        now = NOW + random.randint(-50, 50)
        store.write(RequestId(bytes(16), at), [Write("c", str(what), body)], now)
    return [Told(Entry(r.header, r.body), decode(r.header), seen) for r in store.rows(first, 500)]


def _shuffled(told: list[Told], random: Random) -> list[Entry]:
    """A random order in which every entry comes after all that its writer had seen."""
    waiting, order, have = [*told], [], dict[str, int]()
    while waiting:
        ready = [one for one in waiting if all(have.get(o, 0) >= seq for o, seq in one.seen.items())]
        one = random.choice(ready)
        waiting.remove(one)
        order.append(one.entry)
        have[one.header.origin] = one.header.seq
    return order


def _deliver(store: Store, order: list[Entry], random: Random) -> None:
    """In batches of random sizes, with some of it twice."""
    at = 0
    while at < len(order):
        end = at + random.randint(1, 5)
        with store.group():
            assert store.apply(order[max(0, at - 2) : end], NOW).refused == ""
        at = end


def _oracle(headers: list[Header]) -> tuple[dict[str, bool], set[Version]]:
    parents = {version for header in headers for version in header.named}
    documents, conflicts = {}, set[Version]()
    for key in {header.key for header in headers}:
        mine = [header for header in headers if header.key == key]
        winner = max(mine, key=lambda header: (header.hlc, header.origin))
        documents[f"{key} {winner.version}"] = winner.op == PUT
        conflicts |= {h.version for h in mine if h.op == PUT and h.version not in parents and h != winner}
    return documents, conflicts


def _observed(store: Store) -> tuple[dict[str, bool], set[Version]]:
    rows = store.connection.execute(
        "SELECT d.key, o.name, d.seq, d.body IS NOT NULL FROM _entgldb_documents d"
        " JOIN _entgldb_origins o ON o.id = d.origin"
    ).fetchall()
    documents = {f"{key} {Version(origin, seq)}": live == 1 for key, origin, seq, live in rows}
    return documents, {one.version for one in Documents(store.connection).conflicts()}


def _heads(told: list[Told]) -> dict[str, int]:
    return {one.header.origin: one.header.seq for one in told}
