"""``Store`` behaves alike in memory (the simulation) and in a file (production)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, NotAllowedError, TooLargeError
from entgldb.messages.limits import (
    BODY_BYTES_MAX,
    DRIFT_MS_MAX,
    GROUP_ENTRIES_MAX,
    PAGE_ROWS_MAX,
    RESULTS_KEPT_MS_MAX,
)
from entgldb.messages.model import NODES, REMOTE_PEERS, Entry
from entgldb.storage.log.append import Batch
from entgldb.storage.log.read import LogReader
from entgldb.storage.rules.header import decode, digest, encode
from entgldb.storage.rules.results import Outcome
from entgldb.storage.store import Store
from tests.support import postgres

NOW = 1_790_000_000_000
CLIENT = b"c" * 16


class Bench:
    """Stores of one kind, and the little that tests do with them."""

    def __init__(self, make: Callable[[str], Store]) -> None:
        self.make = make
        self.counter = 0

    def request(self) -> RequestId:
        self.counter += 1
        return RequestId(CLIENT, self.counter)

    def put(self, store: Store, *writes: Write, now: int = NOW, system: bool = False) -> list[Entry]:
        """Commit the writes; the entries they made."""
        first = store.last_lsn() + 1
        with store.group():
            store.write(self.request(), writes, now, system=system)
        return entries(store, first)

    def apply(self, store: Store, sent: list[Entry], now: int = NOW, cloud: bool = False) -> Outcome:
        with store.group():
            return store.apply(sent, now, cloud=cloud)


def store_of(kind: str, folder: Path, name: str) -> Store:
    """A new store in memory, or with a file."""
    if kind == "memory":
        return Store.memory(name, name.encode(), NOW)
    if kind == "postgres":
        return postgres.open_store(name, NOW)
    (folder / name).mkdir()
    return Store.open(folder / name, name, NOW)


@pytest.fixture(params=["memory", "file", "postgres"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: list[Store] = []

    def make(name: str) -> Store:
        made.append(store_of(request.param, tmp_path, name))
        return made[-1]

    yield Bench(make)
    for store in made:
        store.close()


def doc(key: str, body: bytes | None = b'{"a":1}', collection: str = "users") -> Write:
    return Write(collection, key, body)


def entries(store: Store, first: int = 1) -> list[Entry]:
    return [Entry(row.header, row.body) for row in store.rows(first, PAGE_ROWS_MAX)]


def forged(entry: Entry, **changes: object) -> Entry:
    return Entry(encode(decode(entry.header)._replace(**changes)), entry.body)  # type: ignore[arg-type]  # fields by name


def test_it_is_what_the_port_says(bench: Bench) -> None:
    store = bench.make("a")
    assert store.vector() == {}
    assert store.origin.startswith("a/")


def test_a_write_makes_versions_rows_and_a_vector(bench: Bench) -> None:
    store = bench.make("a")
    with store.group():
        written, lsn = store.write(bench.request(), [doc("k1"), doc("k2"), doc("k1", None)], NOW)
    assert [one.seq for one in written] == [1, 2, 3]
    assert lsn == store.last_lsn() == 3
    headers = [decode(row.header) for row in store.rows(1, 10)]
    assert [(h.seq, h.group_index, h.group_size) for h in headers] == [(1, 0, 3), (2, 1, 3), (3, 2, 3)]
    assert headers[0].parent is None
    assert headers[2].parent == headers[0].version
    assert store.vector() == {store.origin: (3, store.rows(3, 1)[0].hash)}
    assert headers[2].prev_hash == store.rows(2, 1)[0].hash
    assert (store.get("users", "k1"), store.get("users", "k2")) == (None, b'{"a":1}')
    assert store.known("users", "k1")
    assert not store.known("users", "k3")
    assert store.documents("users") == [("k2", b'{"a":1}')]


def test_a_delete_that_meets_nothing_makes_no_entry(bench: Bench) -> None:
    store = bench.make("a")
    with store.group():
        written, lsn = store.write(bench.request(), [doc("k", None)], NOW)
    assert ([one.seq for one in written], lsn, store.last_lsn()) == ([0], 0, 0)
    bench.put(store, doc("k"))
    bench.put(store, doc("k", None))
    assert bench.put(store, doc("k", None)) == []
    (entry,) = bench.put(store, doc("k", None), doc("k"))
    assert decode(entry.header).group_size == 1


def test_a_request_is_done_once(bench: Bench) -> None:
    store = bench.make("a")
    request = bench.request()
    assert store.answered(request) is None
    with store.group():
        answer = store.write(request, [doc("k"), doc("none", None)], NOW)
    assert store.answered(request) == answer
    assert store.answered(RequestId(b"d" * 16, request.counter)) is None


@pytest.mark.parametrize("bad", [RequestId(b"", 1), RequestId(CLIENT, -1), RequestId(CLIENT, 2**63)])
def test_what_is_no_request_id_is_refused(bench: Bench, bad: RequestId) -> None:
    with pytest.raises(InvalidError, match="a request id is"):
        bench.make("a").answered(bad)


def test_an_answer_too_old_to_know_is_said_to_be_unknown(bench: Bench) -> None:
    store = bench.make("a")
    old = bench.request()
    with store.group():
        store.write(old, [doc("k")], NOW)
    later = NOW + RESULTS_KEPT_MS_MAX + 1
    store.live(0.0)
    with store.group():
        store.release_held(later)
    assert store.answered(old) is not None, "a step of the wall clock makes nothing old"
    store.live(RESULTS_KEPT_MS_MAX / 1000 + 1)
    with store.group():
        store.release_held(NOW)
    with pytest.raises(EntglError, match="too old") as caught:
        store.answered(old)
    assert caught.value.code is ErrorCode.UNKNOWN_OUTCOME
    assert not caught.value.definite
    assert store.answered(RequestId(CLIENT, old.counter + 1)) is None


@pytest.mark.parametrize(
    ("writes", "error"),
    [
        ([], InvalidError),
        ([doc("k")] * (GROUP_ENTRIES_MAX + 1), InvalidError),
        ([doc("")], InvalidError),
        ([doc("k", collection="_mine")], InvalidError),
        ([doc("k", collection="sqlite_x")], InvalidError),
        ([doc("k", b"[]")], InvalidError),
        ([doc("good"), doc("k", b"{")], InvalidError),
        ([doc("k", collection=REMOTE_PEERS)], NotAllowedError),
        ([doc("k", bytes(BODY_BYTES_MAX + 1))], TooLargeError),
        ([doc(str(i), b"{" + b" " * (BODY_BYTES_MAX - 2) + b"}") for i in range(17)], TooLargeError),
    ],
)
def test_a_bad_write_changes_nothing(bench: Bench, writes: list[Write], error: type[EntglError]) -> None:
    store = bench.make("a")
    request = bench.request()
    with store.group():
        with pytest.raises(error), store.savepoint():
            store.write(request, writes, NOW)
        bench_answer = store.answered(request)
    assert bench_answer is None
    assert (store.last_lsn(), store.vector(), store.get("users", "good")) == (0, {}, None)


@pytest.mark.parametrize(("collection", "has_verbs"), [(REMOTE_PEERS, True), (NODES, False)])
def test_the_verbs_of_peers_are_advised_for_peers_alone(
    bench: Bench, collection: str, has_verbs: bool
) -> None:
    store = bench.make("a")
    with store.group(), pytest.raises(NotAllowedError) as caught, store.savepoint():
        store.write(bench.request(), [doc("k", collection=collection)], NOW)
    assert ("add-cloud-peer" in caught.value.hint) is has_verbs


def test_a_failed_savepoint_harms_no_neighbour(bench: Bench) -> None:
    store = bench.make("a")
    with store.group():
        with store.savepoint():
            store.write(bench.request(), [doc("first")], NOW)
        with suppress(RuntimeError), store.savepoint():
            store.write(bench.request(), [doc("second", collection="other")], NOW)
            raise RuntimeError
        with store.savepoint():
            store.write(bench.request(), [doc("third", collection="other")], NOW)
    assert [decode(row.header).key for row in store.rows(1, 10)] == ["first", "third"]
    assert store.vector()[store.origin][0] == 2
    other = bench.make("b")
    assert bench.apply(other, entries(store)).refused == ""
    assert other.documents("other") == [("third", b'{"a":1}')]


def test_a_failed_group_leaves_no_trace(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, doc("k"))
    vector, status = store.vector(), store.status()
    with suppress(RuntimeError), store.group():
        store.write(bench.request(), [doc("k2")], NOW)
        store.apply(bench.put(bench.make("b"), doc("k3")), NOW)
        raise RuntimeError
    assert store.vector() == vector
    assert {**store.status(), "wal_bytes": 0} == {**status, "wal_bytes": 0}
    assert store.get("users", "k3") is None


def test_writing_needs_a_group(bench: Bench) -> None:
    store = bench.make("a")
    with pytest.raises(EntglError, match="group"):
        store.write(bench.request(), [doc("k")], NOW)
    with pytest.raises(EntglError, match="group"), store.savepoint():
        pass
    with store.group(), suppress(EntglError), store.group():
        store.write(bench.request(), [doc("k")], NOW)
    assert store.last_lsn() == 0


def test_entries_travel_and_duplicates_do_nothing(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = bench.put(a, doc("k1"), doc("k2")) + bench.put(a, doc("k1", None))
    outcome = bench.apply(b, sent)
    assert outcome == Outcome(a.vector(), "", {})
    assert (b.vector(), entries(b), b.documents("users")) == (a.vector(), sent, a.documents("users"))
    assert bench.apply(b, sent) == Outcome({}, "", {"duplicate": 3})
    assert b.state.clock >= a.state.clock
    (mine,) = bench.put(b, doc("k2", b'{"a":2}'), now=NOW - 100_000)
    assert decode(mine.header).hlc > decode(sent[-1].header).hlc


def test_a_gap_is_refused_and_the_prefix_stays(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    one, two, three = (bench.put(a, doc(key))[0] for key in ("k1", "k2", "k3"))
    outcome = bench.apply(b, [one, three, two])
    assert outcome.refused == "gap"
    assert b.vector()[a.origin][0] == 1
    assert bench.apply(b, [two, three]).refused == ""
    assert b.vector() == a.vector()


@pytest.mark.parametrize("bad", ["header", "body", "delete with a body"])
def test_a_bad_entry_is_refused_and_the_prefix_stays(bench: Bench, bad: str) -> None:
    a, b = bench.make("a"), bench.make("b")
    one, two = bench.put(a, doc("k1"))[0], bench.put(a, doc("k2"))[0]
    spoiled = {
        "header": Entry(two.header[:-1], two.body),
        "body": Entry(two.header, b"{}"),
        "delete with a body": Entry(forged(two, op=1, body_sha256=b"").header, b"{}"),
    }[bad]
    assert bench.apply(b, [one, spoiled]).refused == "bad-entry"
    assert b.vector()[a.origin][0] == 1


@pytest.mark.parametrize("where", ["known", "next"])
def test_a_fork_quarantines_that_origin_alone(bench: Bench, where: str) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    one, two = bench.put(a, doc("k1"))[0], bench.put(a, doc("k2"))[0]
    other = bench.put(c, doc("k3"))
    bench.apply(b, [one])
    fork = (
        Entry(forged(one, hlc=1).header, one.body)
        if where == "known"
        else Entry(forged(two, prev_hash=bytes(32)).header, two.body)
    )
    outcome = bench.apply(b, [fork, two, *other])
    assert outcome.counts == {"fork": 1, "quarantined": 1}
    assert outcome.refused == ""
    assert outcome.changes == c.vector()
    assert b.status()["quarantined_origins"] == [a.origin]
    assert bench.apply(b, [fork, one]).counts == (
        {"fork": 1, "duplicate": 1} if where == "known" else {"quarantined": 1, "duplicate": 1}
    )
    proofs = b.connection.execute("SELECT ours, theirs FROM _entgldb_forks").fetchall()
    assert proofs == [(one.header, fork.header)]


def test_an_entry_from_the_future_waits_with_its_followers(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    ahead = NOW + DRIFT_MS_MAX + 1_000
    early = bench.put(a, doc("k0"))
    group = bench.put(a, doc("k1"), doc("k2"), now=ahead)
    late = bench.put(a, doc("k3"), now=NOW)
    before = b.state.clock
    outcome = bench.apply(b, [*early, *group, *late])
    assert outcome.counts == {"held-clock": 3}
    assert outcome.changes == {a.origin: b.vector()[a.origin]}
    assert b.vector()[a.origin][0] == 1
    assert b.held() == {a.origin: 4}
    assert max(before, decode(early[0].header).hlc) == b.state.clock
    assert b.get("users", "k3") is None
    assert bench.apply(b, group).counts == {"duplicate": 2}
    with b.group():
        assert b.release_held(ahead - DRIFT_MS_MAX - 1).changes == {}
    with b.group():
        assert b.release_held(ahead - DRIFT_MS_MAX + 1).changes == a.vector()
    assert (b.held(), b.vector(), b.status()["held"]) == ({}, a.vector(), 0)
    assert b.documents("users") == a.documents("users")


def test_a_group_on_the_edge_of_the_drift_bound_is_not_torn(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    group = bench.put(a, doc("k1"), doc("k2"), doc("k3"), now=NOW + DRIFT_MS_MAX)
    assert bench.apply(b, group, now=NOW).counts == {"held-clock": 3}
    with b.group():
        assert b.release_held(NOW).changes == {}
    with b.group():
        assert b.release_held(NOW + 1).changes == a.vector()


def test_a_body_that_was_filtered_is_recorded_only(bench: Bench) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    (entry,) = bench.put(a, doc("k"))
    assert bench.apply(b, [Entry(entry.header, None)]).counts == {"filtered": 1}
    assert (b.vector(), b.documents("users")) == (a.vector(), [])
    assert b.entries([(a.origin, 1)]) == []
    assert bench.apply(c, entries(b)).refused == ""


def test_system_entries_from_a_cloud_are_recorded_and_later_supplied(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    peer = doc("p1", b'{"NodeId":"p1"}', REMOTE_PEERS)
    sent = bench.put(a, peer, system=True) + bench.put(a, doc("k"))
    gone = bench.put(a, doc("p1", None, REMOTE_PEERS), system=True)
    headers_only = [Entry(sent[0].header, None), sent[1], gone[0]]
    assert bench.apply(b, headers_only, cloud=True).counts == {"filtered": 2}
    assert b.vector() == a.vector()
    assert b.get("users", "k") == b'{"a":1}'
    assert not b.known(REMOTE_PEERS, "p1")
    assert b.unapplied(10) == [(a.origin, 1), (a.origin, 3)]
    assert b.unapplied(10, (a.origin, 1)) == [(a.origin, 3)]
    assert b.entries(b.unapplied(10)) == []
    wanted = a.entries(b.unapplied(10))
    with b.group():
        assert b.applying.supply([forged(wanted[0], hlc=5), Entry(wanted[0].header, b"{}")], NOW) == 0
        assert b.applying.supply(wanted[:1], NOW) == 1
        assert b.get(REMOTE_PEERS, "p1") == b'{"NodeId":"p1"}'
        assert b.applying.supply(wanted, NOW) == 1
    assert b.get(REMOTE_PEERS, "p1") is None
    assert b.known(REMOTE_PEERS, "p1")
    assert b.unapplied(10) == []
    assert b.entries([(a.origin, 3), (a.origin, 1)]) == wanted


def test_a_conflict_is_ended_by_a_version_of_its_own_key_whatever_the_numbers_say(bench: Bench) -> None:
    """Of a log with two branches one number is that of two versions."""
    a, b, c = (bench.make(name) for name in "abc")
    lost = bench.put(a, doc("k", b'{"v":1}'))
    bench.apply(c, [*lost, *bench.put(b, doc("k", b'{"v":2}'), now=NOW + 1)])
    named = decode(lost[0].header).version
    for key, left in (("k2", True), ("k", False)):
        (made,) = bench.put(b, doc(key, b'{"v":3}'), now=NOW + 2)
        header = decode(made.header)
        _, previous = c.vector()[b.origin]
        raw = encode(header._replace(parent=named, prev_hash=previous))
        assert bench.apply(c, [Entry(raw, made.body)]).refused == ""
        assert (named in Batch(c.connection, c.state).conflicts_of("users", "k")) is left


def test_a_system_version_supplied_after_its_successor_is_no_conflict(bench: Bench) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    sent = [*bench.put(a, doc("p", b'{"v":1}', REMOTE_PEERS), system=True)]
    bench.apply(c, sent)
    child = bench.put(c, doc("p", b'{"v":2}', REMOTE_PEERS), system=True)
    bench.apply(b, [Entry(sent[0].header, None)], cloud=True)
    assert bench.apply(b, child).refused == ""
    with b.group():
        assert b.applying.supply(sent, NOW) == 1
    assert b.get(REMOTE_PEERS, "p") == b'{"v":2}'
    assert b.status()["conflicts"] == 0


def test_a_concurrent_overwrite_is_kept_until_it_has_a_successor(bench: Bench) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    first = bench.put(a, doc("k", b'{"by":"a"}'))
    second = bench.put(b, doc("k", b'{"by":"b"}'), now=NOW + 5)
    for store in (a, b, c):
        bench.apply(store, [*first, *second])
        assert store.status()["conflicts"] == 1
        assert store.get("users", "k") == b'{"by":"b"}'
        kept = store.connection.execute("SELECT body FROM _entgldb_conflicts").fetchall()
        assert kept == [('{"by":"a"}',)]
    third = bench.put(c, doc("k", b'{"by":"c"}'))
    for store in (a, b, c):
        bench.apply(store, third)
        assert store.status()["conflicts"] == 0
        assert store.get("users", "k") == b'{"by":"c"}'


def test_what_is_missing_begins_at_the_lowest_row(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k1"))
    bench.apply(a, bench.put(b, doc("k2")))
    bench.put(a, doc("k3"))
    assert a.first_missing({}) == 1
    assert a.first_missing({a.origin: 1}) == 2
    assert a.first_missing({a.origin: 1, b.origin: 1}) == 3
    assert a.first_missing({a.origin: 2, b.origin: 7}) == 4


def test_a_reader_of_the_same_data_says_the_same(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, doc("k1"))
    bench.apply(a, bench.put(b, doc("k2"), now=NOW + DRIFT_MS_MAX + 9))
    bench.apply(a, [Entry(bench.put(bench.make("c"), doc("k3"))[0].header, None)])
    reader = LogReader(a.connection)
    assert reader.origin == a.origin
    assert reader.vector() == a.vector()
    assert reader.held() == a.held() == {b.origin: 1}
    assert reader.last_lsn() == a.last_lsn()
    assert reader.rows(1, 9) == a.rows(1, 9)
    assert reader.first_missing({}) == a.first_missing({}) == 1


def test_the_first_request_of_a_group_is_undone_alone(bench: Bench) -> None:
    """Nothing is before it: it has no savepoint of SQLite, and must be undone all the same."""
    store = bench.make("a")
    bench.put(store, doc("before"))
    with store.group():
        for number in range(2):
            with suppress(RuntimeError), store.savepoint():
                store.write(bench.request(), [doc(f"undone {number}", collection=f"new{number}")], NOW)
                raise RuntimeError
        with store.savepoint():
            store.write(bench.request(), [doc("kept", collection="new0")], NOW)
        with suppress(RuntimeError), store.savepoint():
            store.write(bench.request(), [doc("undone at last")], NOW)
            raise RuntimeError
    assert [decode(row.header).key for row in store.rows(1, 10)] == ["before", "kept"]
    assert store.status()["documents"] == store.status()["oplog_entries"] == 2


def test_many_writes_meet_the_versions_that_are_there(bench: Bench) -> None:
    store = bench.make("a")
    names = [(f"c{number % 3}", f"k{number}") for number in range(300)]
    bench.put(store, *[doc(key, collection=collection) for collection, key in names[::2]])
    firsts = {(h.collection, h.key): h.version for h in map(decode, (r.header for r in store.rows(1, 500)))}
    last = store.last_lsn()
    bench.put(store, *[doc(key, b'{"b":2}', collection=collection) for collection, key in names])
    for header in (decode(row.header) for row in store.rows(last + 1, 500)):
        assert header.parent == firsts.get((header.collection, header.key))


def test_optional_fields_that_nobody_knows_are_stored_and_relayed_byte_for_byte(bench: Bench) -> None:
    writer, relay, end = bench.make("a"), bench.make("b"), bench.make("c")
    made = bench.put(writer, doc("u1"))
    header = decode(made[0].header)._replace(optional=((2, 1_790_000_000_000), (999, "order 12")))
    # and behind them something that has no name yet
    raw = msgpack.packb([*msgpack.unpackb(encode(header)), {"of": "tomorrow"}])
    assert bench.apply(relay, [Entry(raw, made[0].body)]).refused == ""
    assert bench.apply(end, entries(relay)).refused == ""
    assert [row.header for row in end.rows(1, PAGE_ROWS_MAX)] == [raw]
    assert end.vector() == relay.vector() == {header.origin: (1, digest(raw))}
    assert decode(raw).optional == header.optional
