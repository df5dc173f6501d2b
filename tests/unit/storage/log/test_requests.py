"""Answers that are remembered: as long as somebody may ask for them, within bounds, in small steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from entgldb.messages.client import RequestId, Write, Written
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import RESULTS_KEPT_MS_MAX
from entgldb.storage.file import state
from entgldb.storage.log import requests
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
CLIENT = b"c" * 16


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.memory("lan-1", b"lan-1", NOW)
    yield made
    made.close()


def remember(store: Store, *given: RequestId, lived: int = 0) -> None:
    """Remember answers that do not follow from the log."""
    with store.group():
        store.state.lived_ms = lived
        for request in given:
            requests.remember_answer(
                store.connection, store.state, request, [Written(store.origin, 0)], (0, 0)
            )


def write(store: Store, *given: RequestId) -> None:
    for request in given:
        with store.group():
            store.write(request, [Write("c", f"k{request.counter}", b"{}")], NOW)


def forget(store: Store, lived: int = 0) -> None:
    with store.group():
        store.state.lived_ms = lived
        requests.forget_old(store.connection, store.state)


def kept(store: Store) -> int:
    return int(store.connection.execute("SELECT count(*) FROM _entgldb_requests").fetchone()[0])


def is_unknown(store: Store, request: RequestId) -> bool:
    with pytest.raises(EntglError) as caught:
        store.answered(request)
    return caught.value.code is ErrorCode.UNKNOWN_OUTCOME


def test_a_name_that_another_request_had_is_no_answer_to_this_one(store: Store) -> None:
    request = RequestId(CLIENT, 1)
    writes = (
        Write("c", "a", b'{"n":1}'),
        Write("c", "b", None),
        Write("c", "x", None, update=b'{"$inc":{"n":1}}'),
    )
    with store.group():
        store.write(RequestId(CLIENT, 0), [Write("c", "b", b"{}"), Write("c", "x", b"{}")], NOW)
    with store.group():
        answer = store.write(request, writes, NOW)
    assert store.answered(request, writes) == answer
    assert store.answered(request, (Write("c", "a", b'{"n": 1}'), *writes[1:])) == answer
    for other in (
        writes[:2],
        (Write("c", "a", b'{"n":2}'), *writes[1:]),
        (Write("d", "a", b'{"n":1}'), *writes[1:]),
        (writes[0], Write("c", "z", None), writes[2]),
    ):
        with pytest.raises(InvalidError, match="another request had this name"):
            store.answered(request, other)


def test_a_put_that_found_all_as_it_was_is_answered_again(store: Store) -> None:
    write(store, RequestId(CLIENT, 1))
    for counter in (2, 3):
        with store.group():
            store.write(RequestId(CLIENT, counter), [Write("c", "k1", b"{ }")], NOW)
    assert store.answered(RequestId(CLIENT, 3), (Write("c", "k1", b"{ }"),)) is not None
    store.connection.execute("DELETE FROM _entgldb_oplog")
    assert store.answered(RequestId(CLIENT, 3), (Write("d", "k1", b"{}"),)) is not None, "nothing tells of it"


def test_what_a_client_does_not_wait_for_is_forgotten_and_not_done_again(store: Store) -> None:
    for counter in range(1, 1001):
        remember(store, RequestId(CLIENT, counter, max(1, counter - 5)))
    assert kept(store) < 2 * requests.SETTLE_EVERY
    assert is_unknown(store, RequestId(CLIENT, 1))
    assert is_unknown(store, RequestId(CLIENT, 900))
    for counter in range(995, 1001):
        assert store.answered(RequestId(CLIENT, counter)) is not None
    assert store.answered(RequestId(CLIENT, 1001)) is None


def test_what_is_awaited_stays_however_many_come_after_it(store: Store) -> None:
    remember(store, *(RequestId(CLIENT, counter, 7) for counter in range(1, 1001)))
    assert store.answered(RequestId(CLIENT, 7)) is not None
    assert is_unknown(store, RequestId(CLIENT, 6))


def test_forgetting_goes_by_small_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESULTS_KEPT_MAX", 10)
    monkeypatch.setattr(requests, "FORGET_ROWS_MAX", 20)
    monkeypatch.setattr(requests, "FORGET_EVERY", 1000)
    remember(store, *(RequestId(CLIENT, counter) for counter in range(1, 100)))
    assert kept(store) == 99
    for left in (79, 59, 39, 19, 10, 10):
        forget(store)
        assert kept(store) == left
    assert is_unknown(store, RequestId(CLIENT, 89))
    assert store.answered(RequestId(CLIENT, 90)) is not None


def test_a_flood_is_forgotten_while_it_comes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESULTS_KEPT_MAX", 100)
    monkeypatch.setattr(requests, "FORGET_EVERY", 32)
    monkeypatch.setattr(requests, "FORGET_ROWS_MAX", 64)
    for number in range(1000):
        remember(store, RequestId(number.to_bytes(16, "big"), 1))
    assert kept(store) < 200
    assert is_unknown(store, RequestId(bytes(16), 1))


def test_what_is_older_than_a_day_goes_even_if_it_is_awaited(store: Store) -> None:
    remember(store, RequestId(CLIENT, 1), RequestId(CLIENT, 2, 1))
    remember(store, RequestId(CLIENT, 3, 1), lived=RESULTS_KEPT_MS_MAX)
    assert store.status()["answers_kept_ms"] == RESULTS_KEPT_MS_MAX
    forget(store, RESULTS_KEPT_MS_MAX + 1)
    assert kept(store) == 1
    assert store.status()["answers_kept_ms"] == 1


def test_it_goes_by_the_order_in_which_they_came(store: Store) -> None:
    remember(store, RequestId(CLIENT, 1), lived=RESULTS_KEPT_MS_MAX)
    remember(store, RequestId(CLIENT, 2))
    forget(store, RESULTS_KEPT_MS_MAX + 1)
    assert kept(store) == 2


def test_only_so_many_clients_are_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESULTS_KEPT_MAX", 0)
    monkeypatch.setattr(requests, "CLIENTS_KEPT_MAX", 5)
    remember(store, *(RequestId(number.to_bytes(16, "big"), 1) for number in range(20)))
    forget(store)
    (clients,) = store.connection.execute("SELECT count(*) FROM _entgldb_clients").fetchone()
    assert (kept(store), clients) == (0, 5)


def test_answers_follow_from_the_log_until_the_state_is_saved(store: Store) -> None:
    write(store, *(RequestId(CLIENT, counter) for counter in range(1, 6)))
    answers = [store.answered(RequestId(CLIENT, counter)) for counter in range(1, 6)]
    assert (kept(store), store.status()["answers_kept_ms"]) == (0, 0)
    again = Store.reopen(store, NOW)
    assert [again.answered(RequestId(CLIENT, counter)) for counter in range(1, 6)] == answers
    forget(again)
    assert kept(again) == 5
    assert [again.answered(RequestId(CLIENT, counter)) for counter in range(1, 6)] == answers


def test_an_answer_that_does_not_follow_is_the_one_that_was_given(store: Store) -> None:
    """A request of three writes of which one changes nothing, and one that changes nothing at all."""
    request, nothing = RequestId(CLIENT, 1), RequestId(CLIENT, 2)
    writes = [Write("c", "k1", b"{}"), Write("c", "absent", None), Write("c", "k2", b"{}")]
    with store.group():
        given = store.write(request, writes, NOW)
        assert store.write(nothing, writes[1:2], NOW)[1] == 0
    assert [one.seq for one in given[0]] == [1, 0, 2]
    for node in (store, Store.reopen(store, NOW)):
        assert node.answered(request) == given
        assert node.answered(nothing) == ((Written(store.origin, 0),), 0)


def test_of_what_is_not_awaited_nothing_is_written_down(store: Store) -> None:
    for counter in range(1, 40):
        with store.group():
            store.write(RequestId(CLIENT, counter, max(1, counter - 2)), [Write("c", "k", b"{}")], NOW)
    forget(store)
    assert kept(store) == 3
    assert is_unknown(store, RequestId(CLIENT, 36))
    for counter in range(37, 40):
        assert store.answered(RequestId(CLIENT, counter)) is not None


def test_an_answer_that_names_another_writers_version_says_so_again(store: Store) -> None:
    others = [Written("n2/" + "0" * 32, 7), Written(store.origin, 3)]
    with store.group():
        requests.remember_answer(store.connection, store.state, RequestId(CLIENT, 1), others, (0, 0))
    assert store.answered(RequestId(CLIENT, 1)) == (tuple(others), 0)


def test_a_request_is_known_whether_its_client_is_remembered_or_looked_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a client that asks in order the file is not asked: what it says must be the same."""
    monkeypatch.setattr(state, "CLIENTS_KNOWN_MAX", 0)
    clients = [bytes([number]) * 16 for number in range(4)]
    given = {}
    for counter in (3, 1, 7, 2):
        for client in clients:
            request = RequestId(client, counter)
            with store.group():
                assert store.answered(request) is None
                given[request] = store.write(request, [Write("c", f"k{counter}", b"{}")], NOW)
        if counter == 1:
            forget(store)
            assert not store.state.newest
        for node in (store, Store.reopen(store, NOW)):
            assert {request: node.answered(request) for request in given} == given
            assert node.answered(RequestId(clients[0], 8)) is None


def test_a_lookup_in_a_group_that_is_undone_leaves_nothing(store: Store) -> None:
    with suppress(RuntimeError), store.group():
        store.write(RequestId(CLIENT, 5), [Write("c", "k", b"{}")], NOW)
        raise RuntimeError
    assert store.answered(RequestId(CLIENT, 5)) is None
    write(store, RequestId(CLIENT, 5))
    assert store.answered(RequestId(CLIENT, 5)) is not None
