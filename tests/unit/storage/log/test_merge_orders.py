"""Collections that merge, or change their rule meanwhile: every causal order ends alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.model import COLLECTIONS, Entry
from entgldb.storage.documents.query import Documents
from entgldb.storage.log.append import Batch
from entgldb.storage.repair.healing import take_out
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import BY_FIELD, LWW, rule_document
from entgldb.storage.rules.merging.row import read_merging
from entgldb.storage.store import Store
from tests.simulation.watch.merge_oracle import Id, Step, outcome
from tests.unit.storage.log.test_causal_orders import EXAMPLES, Told, _deliver, _heads, _shuffled
from tests.unit.storage.rules.merge_rig import VERBS, operations

NOW = 1_790_000_000_000
NODES = 3
KEYS = ("k1", "k2")

documents = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(0, 2),
        "b": st.fixed_dictionaries({}, optional={"x": st.integers(0, 2), "y": st.booleans()}),
        "t": st.lists(
            st.fixed_dictionaries({"id": st.integers(0, 2)}, optional={"q": st.integers(0, 2)}), max_size=2
        ),
    },
)
nodes_ = st.integers(0, NODES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), nodes_, st.tuples(st.sampled_from(KEYS), documents)),
        st.tuples(st.just("put"), nodes_, st.tuples(st.sampled_from(KEYS), documents)),
        st.tuples(st.just("delete"), nodes_, st.sampled_from(KEYS)),
        st.tuples(st.sampled_from(VERBS), nodes_, st.tuples(st.sampled_from(KEYS), documents)),
        st.tuples(st.just("rule"), nodes_, st.sampled_from([LWW, BY_FIELD, BY_FIELD])),
        st.tuples(st.just("sync"), nodes_, nodes_),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps, st.sampled_from([LWW, BY_FIELD, BY_FIELD]), st.integers(0, 2**32))
def test_all_causal_orders_end_alike(history: list[tuple[str, int, Any]], begun: str, seed: int) -> None:
    random = Random(seed)
    nodes, told = played(enumerate(history), begun, random)
    expected = _expected(_steps(told), told)
    blobs = set()
    for number in range(3):
        fresh = Store.memory("fresh", bytes([100 + number]), NOW)
        _deliver(fresh, _shuffled(told, random), random)
        _check(fresh, expected)
        blobs.add(_rows(fresh))
        fresh.close()
    for node in nodes:
        _deliver(node, _shuffled(told, random), random)
        _check(node, expected)
        blobs.add(_rows(node))
        assert {o: seq for o, (seq, _) in node.vector().items()} == _heads(told)
        node.close()
    # to the byte, field versions and conflicts included
    assert len(blobs) == 1


def _steps(told: list[Told]) -> list[Step]:
    return [
        Step(
            tuple(h.version),
            h.hlc,
            h.op,
            h.parent and tuple(h.parent),
            _text(one.entry.body),
            h.seen,
            h.expires,
        )
        for one in told
        if (h := one.header).collection == "c"
    ]


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode()


def played(
    history: Iterable[tuple[int, tuple[str, int, Any]]], begun: str, random: Random
) -> tuple[list[Store], list[Told]]:
    """Fresh nodes, on each of which the rule ``begun`` is set before the numbered steps of ``history``, and
    all that they have written."""
    nodes = [Store.memory(f"n{i}", bytes([i]), NOW) for i in range(NODES)]
    told = list[Told]()
    for number in range(NODES):
        told += _play(nodes, 1000 + number, "rule", number, begun, random)
    for at, step in history:
        told += _play(nodes, at, *step, random)
    return nodes, told


def _play(nodes: list[Store], at: int, verb: str, node: int, what: Any, random: Random) -> list[Told]:
    store = nodes[node]
    if verb == "sync":
        rows = nodes[what].rows(1, 500)
        if rows:
            cut = random.randint(1, len(rows))
            with store.group():
                assert store.apply([Entry(row.header, row.body) for row in rows[:cut]], NOW).refused == ""
        return []
    if verb == "rule":
        write = Write(COLLECTIONS, "c", rule_document("c", what))
    elif verb == "put":
        write = Write("c", what[0], json.dumps(what[1]).encode())
    elif verb in VERBS:
        write = Write("c", what[0], None, None, tuple(operations(verb, what[1])))
    else:
        write = Write("c", what, None)
    seen = {origin: seq for origin, (seq, _) in store.vector().items()}
    first = store.last_lsn() + 1
    with store.group():
        now = NOW + random.randint(-50, 50)
        try:
            store.write(RequestId(bytes(16), at), [write], now, system=verb == "rule")
        except InvalidError:
            # the collection does not merge here, or what stands there is no counter, or no set
            assert write.operations
            return []
    if verb not in ("rule", *VERBS):
        wanted = json.loads(write.body) if write.body is not None else None
        found = store.get("c", write.key)
        assert (None if found is None else json.loads(found)) == wanted
    return [Told(Entry(r.header, r.body), decode(r.header), seen) for r in store.rows(first, 500)]


def _expected(every: list[Step], told: list[Told]) -> dict[str, tuple[Id, Any, frozenset[Id]]]:
    keys = {one.header.version: one.header.key for one in told}
    found = {}
    for key in KEYS:
        mine = [step for step in every if keys[step.id] == key]  # type: ignore[index]  # a Version is a tuple
        if mine:
            found[key] = tuple(outcome(mine))
    return found  # type: ignore[return-value]  # an Outcome is a tuple


def _check(store: Store, expected: dict[str, tuple[Id, Any, frozenset[Id]]]) -> None:
    rows = store.connection.execute(
        "SELECT d.key, o.name, d.seq, d.body FROM _entgldb_documents d JOIN _entgldb_origins o"
        " ON o.id = d.origin WHERE d.collection = 'c' AND d.hlc > 0"
    ).fetchall()
    lost = list(Documents(store.connection).conflicts("c"))
    found = {
        key: (
            (origin, seq),
            None if body is None else json.loads(body),
            frozenset(tuple(one.version) for one in lost if one.key == key),
        )
        for key, origin, seq, body in rows
    }
    assert found == expected
    rules = store.connection.execute(
        "SELECT count(*) FROM _entgldb_documents WHERE collection = ? AND body IS NOT NULL", (COLLECTIONS,)
    ).fetchone()[0]
    assert store.status()["documents"] == rules + sum(
        1 for _, body, _ in expected.values() if body is not None
    )


def _rows(store: Store) -> tuple[Any, ...]:
    documents = store.connection.execute(
        "SELECT d.collection, d.key, d.body, o.name, d.seq, d.hlc, d.sha256, d.stamps, d.expires"
        " FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin ORDER BY 1, 2"
    ).fetchall()
    conflicts = store.connection.execute(
        "SELECT c.collection, c.key, o.name, c.seq, c.hlc, c.expires FROM _entgldb_conflicts c"
        " JOIN _entgldb_origins o ON o.id = c.origin ORDER BY 1, 2, 3, 4"
    ).fetchall()
    return (*documents, *conflicts)


def test_an_entry_made_before_the_setting_arrives_says_itself_what_it_means() -> None:
    a, b = Store.memory("a", b"a", NOW), Store.memory("b", b"b", NOW)
    with a.group():
        a.write(
            RequestId(bytes(16), 1), [Write(COLLECTIONS, "c", rule_document("c", BY_FIELD))], NOW, system=True
        )
    first = a.last_lsn() + 1
    with a.group():
        a.write(RequestId(bytes(16), 2), [Write("c", "k", b'{"x":1,"y":1}')], NOW)
    made = [Entry(row.header, row.body) for row in a.rows(1, 9)]
    assert decode(made[first - 1].header).op == 2
    assert read_merging(made[1].body or b"", (NOW << 20, "z")).change == {".x": 1, ".y": 1}
    with b.group():
        b.apply(made[:1], NOW, cloud=True)
        b.apply(made[1:], NOW)
    assert "c" not in b.state.merging
    assert b.get("c", "k") == b'{"x":1,"y":1}'


@settings(max_examples=EXAMPLES, deadline=None)
@given(steps, st.integers(2, 5), st.integers(0, 2**32))
def test_a_branch_that_is_taken_out_leaves_what_the_others_wrote(
    history: list[tuple[str, int, Any]], first: int, seed: int
) -> None:
    random = Random(seed)
    under_one_rule = [(at, step) for at, step in enumerate(history) if step[0] != "rule"]
    nodes, told = played(under_one_rule, BY_FIELD, random)
    here = Store.memory("fresh", b"fresh", NOW)
    _deliver(here, _shuffled(told, random), random)
    forked = nodes[0].origin
    left = [one for one in told if one.header.origin != forked or one.header.seq < first]
    if len(left) < len(told):
        with here.group():
            batch = Batch(here.connection, here.state)
            take_out(batch, {forked: first})
            batch.flush()
    _check(here, _expected(_steps(left), left))
