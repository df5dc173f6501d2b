"""``Store`` and documents that expire: who decides, what is hidden, what comes back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from entgldb.messages.client import FieldOperation, Write
from entgldb.messages.errors import ExistsError, InvalidError
from entgldb.messages.limits import LIFE_MS_MAX
from entgldb.messages.local.members import Prune
from entgldb.messages.model import COLLECTIONS, Version
from entgldb.messages.wire import Member
from entgldb.storage.documents.conflicts import life_ms
from entgldb.storage.documents.feed import Change
from entgldb.storage.documents.history import history
from entgldb.storage.documents.query import Documents
from entgldb.storage.log.prune import STEP_ROWS
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.rules import clock
from entgldb.storage.rules.header import decode
from entgldb.storage.rules.merging.collection_rule import life_document, rule_document
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]

LIFE = 60_000
LATE = NOW + LIFE


def mortal(key: str = "k", body: bytes = b'{"a":1}', life: int | None = LIFE, collection: str = "c") -> Write:
    return Write(collection, key, body, expire_after=life)


def rule(store: Store, bench: Bench, *, conflict: str | None = None, life: int | None = None) -> None:
    before = store.get(COLLECTIONS, "c")
    if conflict is not None:
        before = rule_document("c", conflict, before)
    if life is not None:
        before = life_document("c", life, before)
    bench.put(store, Write(COLLECTIONS, "c", before), system=True)


def pass_time(store: Store, now_ms: int = LATE) -> int:
    with store.group():
        return store.expire(now_ms)


def moments(store: Store) -> list[int]:
    return [decode(row.header).expires for row in store.rows(1, 500)]


def fields(store: Store, key: str = "k") -> Any:
    body = store.get("c", key)
    return None if body is None else json.loads(body)


def told(store: Store, since: str | None = None) -> list[Change]:
    return list(Documents(store.connection).changes(since))


def sound(store: Store) -> bool:
    return list(Checkup(store.connection).run()) == []


def inc(amount: int, life: int | None = None) -> Write:
    return Write("c", "k", None, None, (FieldOperation("inc", ("n",), b"%d" % amount),), expire_after=life)


# --- who decides ------------------------------------------------------------------------------------


def test_the_moment_stands_in_the_header_by_the_writers_clock(bench: Bench) -> None:
    store = bench.make("a")
    made = bench.put(store, mortal(), mortal("m", life=None), mortal("n", life=0), now=NOW + 7)
    assert [decode(one.header).expires for one in made] == [NOW + 7 + LIFE, 0, 0]
    assert decode(made[0].header).optional == ((1, NOW + 7 + LIFE),)
    assert store.next_expiry() == NOW + 7 + LIFE


def test_the_rule_of_the_collection_is_that_of_the_moment_of_writing(bench: Bench) -> None:
    store, other = bench.make("a"), bench.make("b")
    bench.put(store, mortal("before", life=None))
    rule(store, bench, life=5_000)
    bench.put(store, mortal("with", life=None), mortal("own", life=9_000), mortal("never", life=0))
    rule(store, bench, life=0)
    bench.put(store, mortal("after", life=None))
    assert moments(store) == [0, 0, NOW + 5_000, NOW + 9_000, 0, 0, 0]
    bench.apply(other, entries(store))
    for node in (store, other):
        assert pass_time(node, NOW + 9_000) == 2
        assert [key for key, _ in node.documents("c")] == ["after", "before", "never"]


def test_one_setting_of_a_collection_leaves_the_other(bench: Bench) -> None:
    store = bench.make("a")
    rule(store, bench, conflict="merge")
    rule(store, bench, life=5_000)
    assert (Documents(store.connection).conflict_rule("c"), life_ms(store.connection, "c")) == (
        "merge",
        5_000,
    )
    rule(store, bench, conflict="lww")
    assert life_ms(store.connection, "c") == 5_000
    assert store.get(COLLECTIONS, "c") == b'{"Collection":"c","Conflict":"lww","ExpireAfterMs":5000}'
    assert dict(store.reopen(store, NOW).state.lives) == {"c": 5_000}


@pytest.mark.parametrize("life", [-1, LIFE_MS_MAX + 1])
def test_a_life_has_bounds(bench: Bench, life: int) -> None:
    store = bench.make("a")
    with pytest.raises(InvalidError, match="expire_after is"):
        bench.put(store, mortal(life=life))
    with pytest.raises(InvalidError, match="expire_after is"):
        life_document("c", life)
    bench.put(store, mortal(life=LIFE_MS_MAX))
    assert moments(store) == [NOW + LIFE_MS_MAX]


def test_a_delete_does_not_expire(bench: Bench) -> None:
    store = bench.make("a")
    with pytest.raises(InvalidError, match="a delete does not expire"):
        bench.put(store, Write("c", "k", None, expire_after=LIFE))
    rule(store, bench, life=5_000)
    bench.put(store, mortal())
    bench.put(store, Write("c", "k", None))
    assert moments(store)[-1] == 0


def test_a_system_collection_keeps_what_it_has(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, Write(COLLECTIONS, "c", b'{"Conflict":"merge"}', expire_after=1), system=True)
    assert pass_time(store) == 0
    assert store.get(COLLECTIONS, "c") is not None
    with pytest.raises(InvalidError):
        life_document("_system_nodes", 5)


# --- what is hidden ---------------------------------------------------------------------------------


def test_it_goes_at_its_moment_as_a_delete_of_that_very_version(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal(), mortal("m", life=2 * LIFE))
    before, token = store.vector(), Documents(store.connection).token()
    assert pass_time(store, LATE - 1) == 0
    assert told(store, token) == []
    assert pass_time(store) == 1
    assert (fields(store), fields(store, "m")) == (None, {"a": 1})
    (change,) = told(store, token)
    assert (change.key, change.document, change.version) == ("k", None, Version(store.origin, 1))
    assert store.vector() == before
    assert store.status()["documents"] == 1
    assert store.next_expiry() == NOW + 2 * LIFE
    assert sound(store)
    again = store.reopen(store, NOW)
    assert (again.status()["documents"], again.next_expiry()) == (1, NOW + 2 * LIFE)
    assert again.get("c", "k") is None


def test_what_arrives_after_its_moment_is_never_shown(bench: Bench) -> None:
    a, b, merging = bench.make("a"), bench.make("b"), bench.make("m")
    bench.put(a, mortal())
    rule(a, bench, conflict="merge")
    bench.put(a, mortal("m"))
    for store in (b, merging):
        pass_time(store)
        bench.apply(store, entries(a), LATE)
        assert (fields(store), fields(store, "m")) == (None, None)
        assert [change.document for change in told(store)] == [None, None]
        assert pass_time(store) == 0
        assert sound(store)


def test_many_go_in_bounded_steps(bench: Bench) -> None:
    store = bench.make("a")
    for start in range(0, STEP_ROWS + 1, 1_000):
        bench.put(store, *(mortal(f"k{n}") for n in range(start, min(start + 1_000, STEP_ROWS + 1))))
    assert pass_time(store) == STEP_ROWS
    assert store.next_expiry() == LATE
    assert pass_time(store) == 1
    assert (store.next_expiry(), store.status()["documents"]) == (0, 0)


def test_by_a_wrong_clock_nothing_goes_but_by_what_most_have_shown(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal())
    assert pass_time(store, 0) == 0
    with store.group():
        rows = [Member(f"{name}/{'0' * 32}", 1, NOW, {}, LATE) for name in ("b", "c")]
        store.remember_members(rows, NOW, cloud=False)
    assert pass_time(store, 0) == 1


def test_what_has_expired_is_not_shown_after_a_start_with_a_clock_that_is_behind(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, mortal())
    pass_time(b)
    with b.group():
        b.state.loose = True
    again = b.reopen(b, NOW)
    bench.apply(again, entries(a), NOW)
    assert fields(again) is None


def test_time_does_not_run_backwards(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    pass_time(b)
    pass_time(b, NOW)
    bench.apply(b, bench.put(a, mortal()))
    assert fields(b) is None


def test_a_group_that_is_undone_has_hidden_nothing(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal())
    with suppress(InvalidError), store.group():
        assert store.expire(LATE) == 1
        store.write(bench.request(), [], LATE)
    assert (fields(store), store.next_expiry(), store.status()["documents"]) == ({"a": 1}, LATE, 1)
    assert pass_time(store) == 1


# --- what comes after -------------------------------------------------------------------------------


def test_an_older_write_loses_and_a_newer_one_wins(bench: Bench) -> None:
    a, old, new = bench.make("a"), bench.make("b"), bench.make("c")
    bench.put(old, mortal(body=b'{"a":"old"}', life=None), now=NOW - 1)
    bench.put(new, mortal(body=b'{"a":"new"}', life=None), now=NOW + 1)
    bench.put(a, mortal())
    pass_time(a)
    bench.apply(a, entries(old))
    assert fields(a) is None
    assert [one.version.origin for one in Documents(a.connection).conflicts()] == [old.origin]
    bench.apply(a, entries(new))
    assert fields(a) == {"a": "new"}
    # what has expired is no conflict
    assert [one.version.origin for one in Documents(a.connection).conflicts()] == [old.origin]


def test_a_write_over_it_names_it(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    first = bench.put(a, mortal())
    pass_time(a)
    second = bench.put(a, mortal(body=b'{"a":2}', life=None), now=LATE)
    assert decode(second[0].header).parent == Version(a.origin, 1)
    bench.apply(b, first + second)
    assert fields(a) == fields(b) == {"a": 2}
    assert a.status()["conflicts"] == b.status()["conflicts"] == 0
    assert pass_time(b) == 0


def test_a_conflict_goes_with_the_moment_of_what_lost(bench: Bench) -> None:
    a, b, late = bench.make("a"), bench.make("b"), bench.make("c")
    bench.put(a, mortal())
    bench.put(b, mortal(body=b'{"a":2}', life=None), now=NOW + 1)
    bench.apply(b, entries(a))
    assert b.status()["conflicts"] == 1
    assert b.next_expiry() == LATE
    assert pass_time(b) == 1
    assert (b.status()["conflicts"], b.next_expiry(), fields(b)) == (0, 0, {"a": 2})
    pass_time(late)
    bench.apply(late, entries(b))
    assert (late.status()["conflicts"], fields(late)) == (0, {"a": 2})
    assert sound(b)


def test_history_tells_it_and_undelete_brings_it_back(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal())
    with pytest.raises(ExistsError), store.group():
        store.undelete(bench.request(), "c", "k", NOW)
    pass_time(store)
    (past,) = history(store.connection, "c", "k").versions
    assert (past.state, past.document) == ("expired", {"a": 1})
    with store.group():
        store.undelete(bench.request(), "c", "k", LATE)
    assert fields(store) == {"a": 1}
    assert pass_time(store, LATE * 2) == 0


def test_it_is_collected_as_a_tombstone_is(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal())
    pass_time(store)
    bench.put(store, doc("last"))
    last = {store.origin: 2}
    with store.group():
        store.prune(Prune(last, last, 0, 1, 0))
    with store.group():
        assert store.collect(last, 0).rows == 1
    assert not store.known("c", "k")


def update(operators: str, life: int | None = None, *, upsert: bool = False) -> Write:
    return Write("c", "k", None, update=operators.encode(), upsert=upsert, expire_after=life)


@pytest.mark.parametrize("merges", [False, True])
def test_an_update_keeps_the_moment_of_the_document(bench: Bench, *, merges: bool) -> None:
    store = bench.make("a")
    rule(store, bench, conflict="merge" if merges else "lww")
    bench.put(store, mortal())
    bench.put(store, update('{"$inc": {"a": 1}}'), now=NOW + 5)
    bench.put(store, update('{"$set": {"b": 1}}'), now=NOW + 5)
    assert moments(store)[1:] == [LATE, LATE, LATE]
    bench.put(store, update('{"$set": {"b": 2}}', 2 * LIFE), now=NOW + 5)
    bench.put(store, update('{"$set": {"b": 2}}', 3 * LIFE), now=NOW + 5)
    assert moments(store)[4:] == [NOW + 5 + 2 * LIFE, NOW + 5 + 3 * LIFE]
    assert bench.put(store, update('{"$set": {"b": 2}}'), now=NOW + 6) == []
    rule(store, bench, life=5_000)
    bench.put(store, update('{"$set": {"b": 2}}'), now=NOW + 7)
    assert moments(store)[-1] == NOW + 7 + 5_000
    assert fields(store) == {"a": 2, "b": 2}
    assert sound(store)


@pytest.mark.parametrize("merges", [False, True])
def test_an_update_meets_nothing_where_the_document_has_expired(bench: Bench, *, merges: bool) -> None:
    store = bench.make("a")
    rule(store, bench, conflict="merge" if merges else "lww")
    bench.put(store, mortal())
    pass_time(store)
    assert bench.put(store, update('{"$inc": {"a": 1}}'), now=LATE) == []
    bench.put(store, update('{"$inc": {"a": 5}}', upsert=True), now=LATE)
    assert fields(store) == {"a": 5}
    assert moments(store)[-1] == 0


def test_an_update_keeps_the_moment_that_an_earlier_write_of_its_commit_gave(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal("other"))
    with store.group(), store.savepoint(lazily=True):
        store.write(bench.request(), [mortal(), update('{"$inc": {"a": 1}}')], NOW)
    with store.group(), store.savepoint(lazily=True):
        again = [mortal(life=0), update('{"$inc": {"a": 1}}')]
        store.write(bench.request(), [*again, mortal("other", life=0)], NOW)
    assert moments(store) == [LATE, LATE, LATE, 0, 0, 0]
    assert pass_time(store) == 0


def test_a_request_that_is_undone_changes_the_moment_of_nothing(bench: Bench) -> None:
    store = bench.make("a")
    bench.put(store, mortal("first", life=None))
    with store.group():
        with store.savepoint(lazily=True):
            store.write(bench.request(), [mortal("plain", life=None), mortal()], NOW)
        for writes in ([mortal(life=None)], [mortal("plain", life=2 * LIFE)]):
            with suppress(InvalidError), store.savepoint(lazily=True):
                store.write(bench.request(), writes, NOW)
                raise InvalidError("undone")
    assert pass_time(store, NOW + 2 * LIFE) == 1
    assert [key for key, _ in store.documents("c")] == ["first", "plain"]
    with store.group():
        with store.savepoint(lazily=True):
            store.write(bench.request(), [mortal("last", life=None)], NOW)
        with suppress(InvalidError), store.savepoint(lazily=True):
            store.write(bench.request(), [mortal("gone")], NOW)
            raise InvalidError("undone")
    assert [key for key, _ in store.documents("c")] == ["first", "last", "plain"]


# --- where collections merge ------------------------------------------------------------------------


def merging_pair(bench: Bench) -> tuple[Store, Store]:
    a, b = bench.make("a"), bench.make("b")
    rule(a, bench, conflict="merge")
    bench.apply(b, entries(a))
    return a, b


def test_a_later_change_by_who_saw_it_live_brings_it_back_whole(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, mortal(body=b'{"a":1,"b":1}'))
    bench.apply(b, entries(a))
    assert pass_time(a) == 1
    changed = bench.put(b, mortal(body=b'{"a":1,"b":2}'), now=NOW + 5)
    bench.apply(a, changed, LATE)
    assert fields(a) == fields(b) == {"a": 1, "b": 2}
    assert pass_time(a, LATE + 4) == pass_time(b, LATE + 4) == 0
    assert pass_time(a, LATE + 5) == pass_time(b, LATE + 5) == 1


def test_who_writes_over_it_begins_anew(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, mortal(body=b'{"a":1,"b":1}'))
    bench.apply(b, entries(a))
    pass_time(a)
    made = bench.put(a, mortal(body=b'{"c":1}', life=None), now=LATE)
    bench.apply(b, made)
    assert fields(a) == fields(b) == {"c": 1}
    assert a.status()["conflicts"] == b.status()["conflicts"] == 0


def test_a_counter_that_has_expired_begins_anew(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, inc(5, LIFE))
    bench.apply(b, entries(a))
    pass_time(a)
    bench.apply(b, bench.put(a, inc(1), now=LATE))
    assert fields(a) == fields(b) == {"n": 1}


def test_operations_keep_the_moment_of_the_document(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, inc(5, LIFE))
    bench.put(a, inc(1), now=NOW + 5)
    assert moments(a)[-2:] == [LATE, LATE]
    bench.put(a, inc(1, 2 * LIFE), now=NOW + 5)
    assert moments(a)[-1] == NOW + 5 + 2 * LIFE
    bench.put(a, inc(1, 0), now=NOW + 5)
    assert moments(a)[-1] == 0
    bench.apply(b, entries(a))
    assert pass_time(b, NOW + 9 * LIFE) == 0
    assert fields(b) == {"n": 8}
    rule(a, bench, life=5_000)
    bench.put(a, inc(1), now=NOW + 6)
    assert moments(a)[-1] == NOW + 6 + 5_000


def test_a_put_that_changes_nothing_begins_its_life_anew(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, mortal())
    assert bench.put(a, mortal(life=None), now=NOW + 5) == []
    bench.put(a, mortal(), now=NOW + 5)
    assert moments(a)[-1] == LATE + 5
    bench.apply(b, entries(a))
    for store in (a, b):
        assert pass_time(store, LATE) == 0
        assert fields(store) == {"a": 1}
        assert pass_time(store, LATE + 5) == 1
        assert sound(store)
        assert store.status()["documents"] == 1


def test_a_put_that_changes_nothing_but_the_moment_keeps_the_document_for_good(bench: Bench) -> None:
    a, b = merging_pair(bench)
    bench.put(a, mortal())
    assert len(bench.put(a, mortal(life=0), now=NOW + 5)) == 1
    bench.apply(b, entries(a))
    for store in (a, b):
        assert pass_time(store, LATE + 5) == 0
        assert fields(store) == {"a": 1}


def test_undelete_brings_back_what_merged(bench: Bench) -> None:
    a, _ = merging_pair(bench)
    bench.put(a, mortal(body=b'{"a":1,"b":1}'))
    pass_time(a)
    with a.group():
        a.undelete(bench.request(), "c", "k", LATE)
    assert fields(a) == {"a": 1, "b": 1}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("writes", [mortal(body=b'{"a":1,"n":2,"new":1}', life=0), inc(1, 0)])
def test_a_merge_above_a_put_that_expires_writes_all_of_it(bench: Bench, writes: Write, early: bool) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, mortal(body=b'{"a":1,"n":1}'))
    bench.apply(b, entries(a))
    rule(a, bench, conflict="merge")
    bench.put(a, writes, now=NOW + 1)
    if early:
        pass_time(b)
    bench.apply(b, entries(a))
    pass_time(b)
    assert fields(a) == fields(b)
    assert fields(b) == {"a": 1, "n": 2} | ({"new": 1} if writes.body else {})
    assert b.status()["conflicts"] == 0


@pytest.mark.parametrize("early", [True, False])
def test_a_merge_that_did_not_know_a_put_that_expires_finds_nothing_of_it(bench: Bench, early: bool) -> None:
    a, b = merging_pair(bench)
    c = bench.make("c")
    bench.put(c, mortal(body=b'{"a":1}'))
    bench.put(b, mortal(body=b'{"b":1}', life=None), now=NOW + 1)
    bench.apply(a, entries(c))
    if early:
        pass_time(a)
    bench.apply(a, entries(b))
    assert fields(a) == {"b": 1}
    assert a.status()["conflicts"] == (0 if early else 1)
    pass_time(a)
    assert (fields(a), a.status()["conflicts"]) == ({"b": 1}, 0)


def test_the_clock_of_the_file_has_no_end(bench: Bench) -> None:
    store = bench.make("a")
    end = clock.MS_MAX - 1
    bench.put(store, mortal(), now=end)
    assert moments(store) == [clock.MS_MAX]
