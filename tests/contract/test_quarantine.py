"""An entry that cannot be applied is set aside alone; the log, the vector and all other keys go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import InvalidError, NotFoundError
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.local.members import Prune
from entgldb.messages.model import COLLECTIONS, REMOTE_PEERS, Entry, Version
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import held, unfit
from entgldb.storage.log.append import Batch
from entgldb.storage.log.apply import Applier
from entgldb.storage.repair import healing
from entgldb.storage.rules.header import MERGE, Header, decode, digest, encode
from entgldb.storage.store import Store
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]


def chain(sent: list[Entry], bodies: dict[int, bytes | None]) -> list[Entry]:
    """The same history as a writer without checks would have made it; ``bodies``: by index."""
    made: list[Entry] = []
    for index, entry in enumerate(sent):
        header, body = decode(entry.header), bodies.get(index, entry.body)
        previous = digest(made[-1].header) if made else header.prev_hash
        changed = header._replace(prev_hash=previous, body_sha256=b"" if body is None else digest(body))
        made.append(Entry(encode(changed), body))
    return made


def poisoned(bench: Bench, body: bytes = b"[]") -> tuple[Store, list[Entry]]:
    """A node that was sent three writes, of which the one in the middle is no document."""
    a, b = bench.make("a"), bench.make("b")
    sent = [entry for key in ("k1", "k2", "k3") for entry in bench.put(a, doc(key))]
    return b, chain(sent, {1: body})


@pytest.mark.parametrize("body", [b"[]", b"\xff\xfe", b'{"n":NaN}', b'{"a":1,"a":2}', b"{" * 100])
def test_what_is_no_document_is_set_aside_and_the_rest_flows_on(bench: Bench, body: bytes) -> None:
    b, sent = poisoned(bench, body)
    outcome = bench.apply(b, sent)
    assert (outcome.refused, outcome.counts) == ("", {"unfit": 1})
    assert [key for key, _ in b.documents("users")] == ["k1", "k3"]
    assert b.status()["unfit"] == 1
    (found,) = unfit.list_unfit(b.connection)
    assert (found.collection, found.key, found.reason) == ("users", "k2", "invalid")
    assert found.version == Version(decode(sent[1].header).origin, 2)


def test_it_is_relayed_as_it_came_and_nobody_is_asked_for_it(bench: Bench) -> None:
    b, sent = poisoned(bench)
    bench.apply(b, sent)
    assert entries(b) == sent
    assert all(row.applied for row in b.rows(1, 9))
    assert b.unapplied(9) == []
    c = bench.make("c")
    assert bench.apply(c, entries(b)).counts == {"unfit": 1}
    assert c.vector() == b.vector()
    assert bench.apply(b, sent).counts == {"duplicate": 3}
    assert b.status()["unfit"] == 1


def failing(key: str) -> Callable[..., None]:
    merge = Applier.merge

    def careless(self: Applier, header: Header, text: str | None, lsn: int) -> None:
        merge(self, header, text, lsn)
        if header.key == key:
            raise ZeroDivisionError("a bug met by one document")

    return careless


def test_a_merge_that_fails_is_undone_and_set_aside_alone(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = [entry for key in ("k1", "k2", "k3") for entry in bench.put(a, doc(key))]
    with patch.object(Applier, "merge", failing("k2")):
        outcome = bench.apply(b, sent)
    assert (outcome.refused, outcome.counts) == ("", {"unfit": 1})
    assert b.vector() == a.vector()
    assert [key for key, _ in b.documents("users")] == ["k1", "k3"]
    assert b.status()["documents"] == 2
    (found,) = unfit.list_unfit(b.connection)
    assert (found.reason, found.text) == ("internal", "ZeroDivisionError: a bug met by one document")
    with (
        patch.object(Applier, "merge", failing("k2")),
        pytest.raises(Exception, match="a bug met"),
        b.group(),
    ):
        b.applying.retry(found.version, NOW)
    assert b.status()["unfit"] == 1
    with b.group():
        b.applying.retry(found.version, NOW)
    assert b.documents("users") == a.documents("users")
    assert b.status()["unfit"] == 0
    with pytest.raises(NotFoundError), b.group():
        b.applying.retry(found.version, NOW)


def test_what_is_dropped_stays_in_the_log_unapplied(bench: Bench) -> None:
    b, sent = poisoned(bench)
    bench.apply(b, sent)
    (found,) = unfit.list_unfit(b.connection)
    with pytest.raises(InvalidError), b.group():
        b.applying.retry(found.version, NOW)
    with b.group():
        b.applying.drop(found.version)
    assert (unfit.list_unfit(b.connection), b.status()["unfit"]) == ([], 0)
    assert entries(b) == sent


def test_the_version_that_replaces_it_ends_it_without_a_conflict(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = [bench.put(a, doc("k", b'{"v":%d}' % v))[0] for v in range(4)]
    sent = chain(sent, {1: b"[]", 2: b"[]"})
    bench.apply(b, sent[:3])
    assert b.get("users", "k") == b'{"v":0}'
    assert [one.version.seq for one in unfit.list_unfit(b.connection)] == [3]
    assert bench.apply(b, sent[3:]).counts == {}
    assert b.get("users", "k") == b'{"v":3}'
    assert b.status()["unfit"] == 0
    assert b.status()["conflicts"] == 0


def test_it_is_set_aside_again_once_what_replaced_it_was_taken_out(bench: Bench) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    sent = [bench.put(a, doc("k", b'{"v":%d}' % v))[0] for v in range(3)]
    bench.apply(c, sent)
    after = bench.put(c, doc("k", b'{"v":3}'), now=NOW + 1)
    bench.apply(b, sent[:2])
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, sent[2:])
    assert [one.version.seq for one in unfit.list_unfit(b.connection)] == [3]
    bench.apply(b, after)
    assert (b.get("users", "k"), b.status()["unfit"]) == (b'{"v":3}', 0)
    with b.group():
        healing.take_out(Batch(b.connection, b.state), {c.origin: 1})
    (found,) = unfit.list_unfit(b.connection)
    assert (found.version, b.status()["unfit"]) == (Version(a.origin, 3), 1)
    assert b.get("users", "k") == b'{"v":1}'
    with b.group():
        b.applying.retry(found.version, NOW)
    assert (b.get("users", "k"), b.status()["unfit"], b.status()["conflicts"]) == (b'{"v":2}', 0, 0)


@pytest.mark.parametrize("rule", ["lww", "merge"])
def test_it_is_set_aside_again_though_what_had_ended_it_was_set_aside_too(bench: Bench, rule: str) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    bench.put(a, doc("k", b'{"v":0}'))
    bench.put(a, Write(COLLECTIONS, "users", b'{"Conflict":"%s"}' % rule.encode()), system=True)
    bench.put(a, doc("k", b'{"v":1}'))
    bench.put(a, doc("k", b'{"v":2}'))
    bench.apply(c, entries(a))
    bench.put(c, Write(COLLECTIONS, "users", b'{"Conflict":"lww"}'), system=True, now=NOW + 1)
    after = [bench.put(c, doc("k", b'{"v":%d}' % v), now=NOW + v)[0] for v in (3, 4)]
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, entries(c))
    assert [one.version for one in unfit.list_unfit(b.connection)] == [decode(after[1].header).version]
    with b.group():
        healing.take_out(Batch(b.connection, b.state), {c.origin: 1})
    again = [one.version for one in unfit.list_unfit(b.connection)]
    # a merge ends nothing: whoever had ended it had ended what was behind it, too
    assert again == [Version(a.origin, seq) for seq in ((4,) if rule == "lww" else (1, 3, 4))]
    assert b.status()["unfit"] == len(again)
    for version in again:
        with b.group():
            b.applying.retry(version, NOW)
    assert (b.get("users", "k"), b.status()["unfit"], b.status()["conflicts"]) == (b'{"v":2}', 0, 0)


def test_a_change_in_quarantine_of_an_element_is_kept_when_its_branch_goes(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    bench.put(a, Write(COLLECTIONS, "users", b'{"Conflict":"merge"}'), system=True)
    for value in (0, 9):
        bench.put(a, doc("k", b'{"t":[{"id":1,"q":%d}]}' % value))
    bench.apply(b, entries(a)[:2])
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, entries(a)[2:])
    with b.group():
        healing.take_out(Batch(b.connection, b.state), {a.origin: 2})
        kept = list(healing.dropped(b.connection))
    assert kept == [healing.Dropped("users", "k", '{"t":[{"q":9}]}')]


def test_what_an_unfit_version_named_is_settled_though_one_that_is_unfit_too_has_ended_it(
    bench: Bench,
) -> None:
    a, b = bench.make("a"), bench.make("b")
    rivals = [*bench.put(b, doc("k", b'{"v":"lost"}')), *bench.put(a, doc("k", b'{"v":0}'), now=NOW + 1)]
    bench.apply(a, rivals[:1])
    sent = [*rivals[1:], *(bench.put(a, doc("k", b'{"v":%d}' % v), now=NOW + 2)[0] for v in (1, 2, 3))]
    sent = chain(sent, {1: b"[]", 2: b"[]"})
    bench.apply(b, sent[:3])
    assert lost(b) == ['{"v":"lost"}']
    every = {a.origin: 4, b.origin: 1}
    with b.group():
        b.prune(Prune(every, every, 0, 1, 0))
    bench.apply(b, sent[3:])
    assert (b.get("users", "k"), lost(b), b.status()["unfit"]) == (b'{"v":3}', [], 0)


def test_a_concurrent_write_does_not_end_it_and_the_retry_shows_the_conflict(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = bench.put(a, doc("k"))
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, sent)
    bench.put(b, doc("k", b'{"v":"mine"}'), now=NOW + 1)
    (left,) = unfit.list_unfit(b.connection)
    assert left.version.seq == 1
    with b.group():
        b.applying.retry(left.version, NOW)
    assert b.get("users", "k") == b'{"v":"mine"}'
    assert b.status()["conflicts"] == 1


def test_the_version_that_replaces_it_is_the_rival_of_what_it_did_not_know(bench: Bench) -> None:
    a, b, c, fit = (bench.make(name) for name in ("a", "b", "c", "fit"))
    sent = bench.put(a, doc("k", b'{"v":0}'))
    bench.apply(c, sent)
    sent += [bench.put(a, doc("k", b'{"v":%d}' % v))[0] for v in (1, 2, 3)]
    rival = bench.put(c, doc("k", b'{"v":"mine"}'), now=NOW + 9)
    bench.apply(b, chain(sent, {1: b"[]", 2: b"[]"})[:3])
    for store, rest in ((fit, [*sent, *rival]), (b, [*rival, *chain(sent, {1: b"[]", 2: b"[]"})[3:]])):
        for entry in rest:
            bench.apply(store, [entry])
        assert store.get("users", "k") == b'{"v":"mine"}'
        lost = store.connection.execute("SELECT seq, body FROM _entgldb_conflicts").fetchall()
        assert lost == [(4, '{"v":3}')]


def lost(store: Store) -> list[str]:
    """The bodies of the conflicts."""
    return [body for (body,) in store.connection.execute("SELECT body FROM _entgldb_conflicts")]


def test_a_merge_on_what_waits_is_the_rival_of_what_neither_knew(bench: Bench) -> None:
    a, b, c = (bench.make(name) for name in ("a", "b", "c"))
    sent = bench.put(a, doc("k", b'{"v":0}'))
    bench.apply(c, sent)
    bench.put(c, Write(COLLECTIONS, "users", b'{"Conflict":"merge"}'), system=True)
    merge = bench.put(c, doc("k", b'{"v":2}'), now=NOW + 9)
    assert decode(merge[0].header).op == MERGE
    rival = bench.put(bench.make("r"), doc("k", b'{"v":1}'), now=NOW + 5)
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, sent)
    bench.apply(b, rival)
    assert bench.apply(b, entries(c)[1:]).counts == {}
    assert lost(b) == ['{"v":1}']
    (left,) = unfit.list_unfit(b.connection)
    with b.group():
        b.applying.retry(left.version, NOW)
    bench.apply(c, rival)
    for store in (b, c):
        assert (store.get("users", "k"), lost(store)) == (b'{"v":2}', ['{"v":1}'])


def test_a_put_on_a_decision_that_waits_replaces_what_that_one_knew(bench: Bench) -> None:
    a, b, c = (bench.make(name) for name in ("a", "b", "c"))
    sent = bench.put(a, doc("k", b'{"v":0}'), now=NOW + 5)
    rival = bench.put(bench.make("r"), doc("k", b'{"v":1}'))
    for store in (a, b, c):
        bench.apply(store, [*sent, *rival])
    (one,) = Documents(c.connection).conflicts()
    with c.group():
        c.resolve(bench.request(), ("users", "k"), one.version, "loser", None, NOW + 9)
    assert decode(entries(c)[-1].header).op == MERGE
    bench.apply(a, entries(c))
    with patch.object(Applier, "merge", failing("k")):
        bench.apply(b, entries(c)[2:])
    assert (lost(a), lost(b)) == ([], ['{"v":1}'])
    assert bench.apply(b, bench.put(a, doc("k", b'{"v":3}'), now=NOW + 10)).counts == {}
    assert (lost(b), b.status()["unfit"]) == ([], 0)


def test_a_group_keeps_its_other_writes(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = chain(bench.put(a, doc("k1"), doc("k2"), doc("k3")), {1: b"7"})
    assert bench.apply(b, sent).counts == {"unfit": 1}
    assert [key for key, _ in b.documents("users")] == ["k1", "k3"]


def test_what_is_held_and_unfit_is_set_aside_when_it_is_due(bench: Bench) -> None:
    b, sent = poisoned(bench)
    early = NOW - DRIFT_MS_MAX - 1
    assert bench.apply(b, sent, now=early).counts == {"held-clock": 3}
    with b.group():
        assert b.release_held(NOW).counts == {"unfit": 1}
    assert [key for key, _ in b.documents("users")] == ["k1", "k3"]


def test_a_system_entry_that_is_supplied_unfit_is_not_asked_for_again(bench: Bench) -> None:
    a, b = bench.make("a"), bench.make("b")
    sent = chain(bench.put(a, doc("p", b"{}", REMOTE_PEERS), system=True), {0: b"[1]"})
    bench.apply(b, [Entry(sent[0].header, None)], cloud=True)
    assert len(b.unapplied(9)) == 1
    with b.group():
        assert b.applying.supply(sent, NOW) == 0
    assert (b.unapplied(9), b.status()["unfit"]) == ([], 1)


def test_only_so_many_are_kept_and_the_oldest_go(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr(unfit, "QUARANTINE_KEPT_MAX", 2)
    a, b = bench.make("a"), bench.make("b")
    sent = [entry for n in range(4) for entry in bench.put(a, doc(f"k{n}"))]
    bench.apply(b, chain(sent, dict.fromkeys(range(4), b"[]")))
    assert [one.key for one in unfit.list_unfit(b.connection)] == ["k2", "k3"]
    assert b.status()["unfit"] == 2


def test_the_count_outlives_a_restart_and_an_undone_transaction(bench: Bench) -> None:
    b, sent = poisoned(bench)
    with suppress(RuntimeError), b.group():
        b.apply(sent, NOW)
        raise RuntimeError
    assert b.status()["unfit"] == 0
    bench.apply(b, sent)
    assert b.reopen(b, NOW).status()["unfit"] == 1


@pytest.mark.parametrize("bound", ["RELEASED_TOGETHER", "GROUP_BYTES_MAX"])
def test_what_is_held_is_let_in_by_bounded_steps_of_whole_transactions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    ahead = NOW + DRIFT_MS_MAX + 5_000
    sent = bench.put(c, doc("other"), now=ahead) + bench.put(a, doc("k1"), now=ahead)
    sent += bench.put(a, *(doc(f"together {number}") for number in range(4)), now=ahead + 1)
    sent += bench.put(a, doc("k2"), now=ahead + 2)
    bench.apply(b, sent)
    size = len(sent[1].header) + len(sent[1].body or b"")
    monkeypatch.setattr(held, bound, 1 if bound == "RELEASED_TOGETHER" else size)
    steps = []
    while b.held():
        with b.group():
            moved = b.release_held(NOW, accepted=a.origin if a.origin in b.held() else c.origin)
        steps.append({origin[0]: seq for origin, (seq, _) in moved.changes.items()})
    assert steps == [{"a": 1}, {"a": 5}, {"a": 6}, {"c": 1}]


@pytest.mark.parametrize("broken", ["row", "bodies"])
def test_a_long_row_of_entries_that_cannot_be_applied_costs_each_the_same(bench: Bench, broken: str) -> None:
    said: list[int] = []
    for number, size in enumerate((20, 80)):
        a, b = bench.make(f"a{number}"), bench.make(f"b{number}")
        if broken == "row":
            bench.put(a, Write(COLLECTIONS, "users", b'{"Conflict":"merge"}'), system=True)
        bench.put(a, doc("k"))
        sent = [one for n in range(size) for one in bench.put(a, doc("k", b'{"a":%d}' % (n + 2)))]
        bench.apply(b, entries(a)[:-size])
        if broken == "row":
            b.connection.execute("UPDATE _entgldb_documents SET stamps = x'c1' WHERE key = 'k'")
        else:
            sent = chain(sent, dict.fromkeys(range(size), b"[]"))
        statements: list[str] = []
        b.connection.set_trace_callback(statements.append)
        for one in sent:
            assert bench.apply(b, [one]).counts == {"unfit": 1}
        b.connection.set_trace_callback(None)
        said.append(len(statements) // size)
    assert said[1] <= said[0] + 1


def test_held_entries_are_listed_and_an_operator_may_release_one_origin(bench: Bench) -> None:
    a, b, c = bench.make("a"), bench.make("b"), bench.make("c")
    ahead = NOW + DRIFT_MS_MAX + 5_000
    mine = [*bench.put(a, doc("k1"), now=ahead), *bench.put(a, doc("k2"), now=ahead + 1)]
    other = bench.put(c, doc("k3"), now=ahead)
    bench.apply(b, mine + other)
    assert [(w.origin, w.entries, w.first_due_ms) for w in held.list_held(b.connection)] == [
        (a.origin, 2, NOW + 5_000),
        (c.origin, 1, NOW + 5_000),
    ]
    with b.group():
        assert b.release_held(NOW, accepted=a.origin).changes == a.vector()
    assert list(b.held()) == [c.origin]
    (made,) = bench.put(b, doc("mine"), now=NOW)
    assert decode(made.header).hlc > decode(mine[1].header).hlc
