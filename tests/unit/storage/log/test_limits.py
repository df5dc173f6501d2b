"""Each named limit of the tables, crossed by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entgldb.actors.session import session
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError, TooLargeError
from entgldb.messages.limits import (
    INCARNATIONS_RESERVED,
    KEY_BYTES_MAX,
    MEMBERS_MAX,
    NAME_CHARS_MAX,
    ORIGINS_MAX,
    STRANGERS_MAX,
    TAKEN_MAX,
)
from entgldb.messages.model import Entry, check_collection, check_key, check_node_id
from entgldb.messages.wire import Member
from entgldb.storage.documents.query import Documents
from entgldb.storage.log import apply, evicting, held, requests, writes
from entgldb.storage.log import read as log
from entgldb.storage.log.deciding import checked
from entgldb.storage.repair import forks, strangers
from entgldb.storage.rules import header
from entgldb.storage.rules.header import PUT, Header, digest
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.unit.actors.session.test_session import Bench

NOW = 1_790_000_000_000
CLIENT = b"c" * 16


def make(name: str) -> Store:
    return Store.memory(name, name.encode(), NOW)


def put(store: Store, counter: int, key: str = "k", now: int = NOW) -> list[Entry]:
    first = store.last_lsn() + 1
    with store.group():
        store.write(RequestId(CLIENT, counter), [Write("c", key, b'{"by":"%s"}' % key.encode())], now)
    return [Entry(row.header, row.body) for row in store.rows(first, 9)]


@pytest.fixture
def store() -> Iterator[Store]:
    made = make("lan-1")
    yield made
    made.close()


def test_the_oldest_conflicts_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evicting, "CONFLICTS_KEPT_MAX", 2)
    for number in range(4):
        other = make(f"lan-{number + 2}")
        sent = put(other, 1, now=NOW + number)
        with store.group():
            store.apply(sent, NOW)
        other.close()
    kept = Documents(store.connection).conflicts()
    assert [conflict.at_ms for conflict in kept] == [NOW + 1, NOW + 2]
    assert store.status()["conflicts"] == 2


def test_which_conflicts_go_first_does_not_depend_on_who_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evicting, "CONFLICTS_KEPT_MAX", 1)
    others = [make(f"lan-{number}") for number in (2, 3, 4)]
    sent = [put(other, 1) for other in others]
    kept = []
    for order in (sent, sent[::-1]):
        store = make("lan-1")
        for entries in order:
            with store.group():
                store.apply(entries, NOW)
        kept.append([conflict.version for conflict in Documents(store.connection).conflicts()])
        store.close()
    assert kept[0] == kept[1] == [(others[1].origin, 1)]
    for other in others:
        other.close()


@pytest.mark.parametrize("limit", ["HELD_ENTRIES_MAX", "HELD_BYTES_MAX"])
def test_only_so_much_is_held_and_the_rest_is_taken_when_it_comes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    ahead, fine = make("lan-2"), make("lan-3")
    late = NOW + 100_000
    sent = [entry for counter in range(1, 6) for entry in put(ahead, counter, f"k{counter}", late)]
    monkeypatch.setattr(held, limit, 2 if limit == "HELD_ENTRIES_MAX" else len(sent[0].header) + 20)
    with store.group():
        found = store.apply([*sent, *put(fine, 1, "fine")], NOW)
    assert (found.refused, found.counts) == ("", {"held-clock": 2, "held-full": 3})
    with store.group():
        assert store.apply(sent[3:], NOW).counts == {"held-full": 2}
    assert store.get("c", "fine") is not None
    assert store.status()["held"] == 2
    with store.group():
        assert store.release_held(late).changes[ahead.origin][0] == 2
    with store.group():
        assert store.apply(sent, late).refused == ""
    assert store.vector()[ahead.origin][0] == 5
    ahead.close()
    fine.close()


def test_a_transaction_that_is_held_is_held_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_ENTRIES_MAX", 2)
    ahead = make("lan-2")
    with ahead.group():
        writes = [Write("c", f"k{number}", b"{}") for number in range(4)]
        ahead.write(RequestId(CLIENT, 1), writes, NOW + 100_000)
    with store.group():
        found = store.apply([Entry(row.header, row.body) for row in ahead.rows(1, 9)], NOW)
    assert found.counts == {"held-clock": 4}
    ahead.close()


def test_only_so_many_proofs_of_a_fork_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "FORK_PROOFS_MAX", 3)
    for number in range(6):
        clone = make("lan-2")
        sent = put(clone, 1, f"k{number}")
        with store.group():
            store.apply(sent, NOW + number)
        clone.close()
    shown = [fork.at_ms - NOW for fork in forks.forks(store.connection)]
    assert shown == [1, 2, 3], "those of what waits for a decision stay"
    seq, kept = store.incarnations.branch(forks.forks(store.connection)[0].origin, "ours") or (0, b"")
    with store.group():
        store.incarnations.heal(forks.forks(store.connection)[0].origin, seq, kept, lambda: b"e" * 32, NOW)
    clone = make("lan-2")
    sent = put(clone, 1, "again")
    with store.group():
        store.apply(sent, NOW + 9)
    assert [fork.at_ms - NOW for fork in forks.forks(store.connection)] == [2, 3, 9]
    clone.close()


def test_only_so_many_answers_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESULTS_KEPT_MAX", 3)
    for counter in range(1, 6):
        put(store, counter, f"k{counter}")
    store.live(0.0)
    store.live(61.0)
    with store.group():
        store.release_held(NOW)
    for counter in (1, 2):
        with pytest.raises(EntglError) as caught:
            store.answered(RequestId(CLIENT, counter))
        assert caught.value.code is ErrorCode.UNKNOWN_OUTCOME
    assert all(store.answered(RequestId(CLIENT, counter)) for counter in (3, 4, 5))


def test_of_too_many_origins_only_those_are_left_out_that_no_member_calls_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("STRANGERS_MAX", 4), ("STRANGERS_PER_PEER_MAX", 2), ("TAKEN_MAX", 5)):
        monkeypatch.setattr(strangers, name, most)
    made = [make(f"x-{number}") for number in range(6)]
    sent = [put(other, 1) + put(other, 2, "k2") for other in made]

    def take(*numbers: int, peer: str) -> tuple[str, int]:
        with store.group():
            done = store.apply([entry for n in numbers for entry in sent[n]], NOW, peer=peer)
        return done.refused, done.counts["too-many-origins"]

    assert take(0, 1, 2, peer="bad") == ("", 2), "of the third both entries are left out, and no gap is seen"
    assert take(2, peer="good") == ("", 0), "what one peer may not bring another may"
    assert take(3, peer="good") == ("", 2)
    assert take(0, 1, 2, peer="bad") == ("", 0)
    assert [alarm["code"] for alarm in store.status()["alarms"]] == ["too-many-origins"]  # type: ignore[union-attr]  # a list
    with store.group():
        words = [Member(other.origin, 1, NOW, {}) for other in made[3:5]]
        store.remember_members(words, NOW, cloud=False)
    assert take(3, peer="bad") == ("", 0), "a member's own word makes room"
    assert take(4, peer="bad") == ("", 2), "as far as the vector has any"
    assert set(store.vector()) == {other.origin for other in made[:4]}
    for other in made:
        other.close()


def test_a_node_that_knows_all_the_origins_it_may_goes_on_as_another_writer_and_peers_take_its_vector(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "TAKEN_MAX", TAKEN_MAX - STRANGERS_MAX + 4)
    monkeypatch.setattr(strangers, "STRANGERS_MAX", 4)
    monkeypatch.setattr(session, "ORIGINS_MAX", ORIGINS_MAX - STRANGERS_MAX + 4)
    put(store, 1)
    origins = [f"m{number}/{number:032x}" for number in range(session.ORIGINS_MAX)]
    with store.group():
        named = origins[4 : 4 + MEMBERS_MAX]
        store.remember_members([Member(origin, 1, NOW, {}) for origin in named], NOW, cloud=False)
        done = store.apply([first_of(origin) for origin in origins], NOW)
    assert done.counts["too-many-origins"] > 0
    for number in range(INCARNATIONS_RESERVED):
        with store.group():
            store.incarnations.reincarnate(bytes([number]) * 32, Why.RESTORED, NOW)
        put(store, 2 + number, f"k{number}")
    assert len(store.vector()) == session.ORIGINS_MAX
    peer = Bench().open(store.vector())
    assert peer.session.fault is None


def test_long_before_there_is_no_room_for_origins_status_says_so_and_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "ORIGINS_WARNED", 5)
    alarms = []
    for number in range(5):
        origin = f"{'often' if number else 'once'}/{number:032x}"
        with store.group():
            store.apply([first_of(origin)], NOW)
            store.release_held(NOW + number)
        alarms.append(store.status()["alarms"])
    assert alarms[:3] == [[], [], []]
    (alarm,) = alarms[4]  # type: ignore[misc]  # a list
    assert (alarm["code"], alarm["since_ms"]) == ("origins-filling", NOW + 3)  # type: ignore[index, call-overload]  # an alarm
    assert alarm["text"].startswith("6 of 4096 origins are known, 4 of them of often, and none retires: find")  # type: ignore[index, call-overload, union-attr]  # an alarm


def first_of(origin: str) -> Entry:
    return Entry(header.encode(Header(origin, 1, 1, "c", origin, PUT, None, 0, 1, digest(b"{}"), b"")), b"{}")


def test_a_branch_that_goes_is_kept_as_lost_however_many_origins_are_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, rival = make("lan-2"), make("lan-2")
    for sent in (put(one, 1, "only here"), put(rival, 1)):
        with store.group():
            store.apply(sent, NOW)
    monkeypatch.setattr(strangers, "STRANGERS_MAX", 1)
    (fork,) = forks.forks(store.connection)
    seq, kept = store.incarnations.branch(fork.origin, "theirs") or (0, b"")
    with store.group():
        assert store.incarnations.heal(fork.origin, seq, kept, lambda: b"e" * 32, NOW).taken_out == 1
    assert store.get("c", "only here") is not None
    for other in (one, rival):
        other.close()


def test_a_page_is_bounded_in_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for counter in range(1, 4):
        put(store, counter, f"k{counter}")
    monkeypatch.setattr(log, "PAGE_BYTES_MAX", 1)
    assert [row.lsn for row in store.rows(1, 500)] == [1]
    assert [row.lsn for row in store.rows(2, 500)] == [2]


def test_a_commit_is_bounded_in_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"text":"%s"}' % (b"x" * 489)
    for module in (checked, writes):
        monkeypatch.setattr(module, "GROUP_BYTES_MAX", 2000)
    with store.group():
        store.write(RequestId(CLIENT, 1), [Write("c", "a", body)] * 4, NOW)
        with pytest.raises(TooLargeError, match="2500 bytes, 2000 allowed"):
            store.write(RequestId(CLIENT, 2), [Write("c", "a", body)] * 5, NOW)
        # a receiver stages bodies and headers
        with pytest.raises(TooLargeError, match="keys, and the versions replaced"):
            store.write(RequestId(CLIENT, 3), [Write("c", "k" * 400 + str(n), b"{}") for n in range(4)], NOW)


def test_names_and_keys_are_bounded() -> None:
    longest = "a" * NAME_CHARS_MAX
    assert check_node_id(longest) == check_collection(longest) == longest
    assert check_key("k" * KEY_BYTES_MAX)
    for check, text in (
        (check_node_id, longest + "a"),
        (check_collection, longest + "a"),
        (check_key, "\u00e9" * (KEY_BYTES_MAX // 2) + "k"),
    ):
        with pytest.raises(InvalidError):
            check(text)


def test_a_look_at_what_is_held_reads_one_header_while_nothing_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make("lan-2")
    later = NOW + 100_000
    early = [entry for number in range(5) for entry in put(other, number, f"k{number}", later)]
    other.close()
    with store.group():
        assert store.apply(early, NOW).counts == {"held-clock": 5}
    looked = 0

    def decode(raw: bytes) -> Header:
        nonlocal looked
        looked += 1
        return header.decode(raw)

    monkeypatch.setattr(held, "decode", decode)
    with store.group():
        assert store.release_held(NOW).changes == {}
    assert looked == 1
    with store.group():
        assert len(store.release_held(later).changes) == 1
    assert store.status()["held"] == 0


def test_held_groups_are_released_whole_however_many_there_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "GROUP_ENTRIES_MAX", 4)
    other, later = make("lan-2"), NOW + 100_000
    with other.group():
        for group in (3, 4, 1):
            made = [Write("c", f"{group}-{number}", b"{}") for number in range(group)]
            other.write(RequestId(CLIENT, group), made, later)
    early = [Entry(row.header, row.body) for row in other.rows(1, 9)]
    with store.group():
        assert store.apply(early, NOW).counts == {"held-clock": 8}
    released = []
    while store.held():
        with store.group():
            (moved,) = store.release_held(later).changes.values()
        released.append(moved[0])
    assert released == [3, 7, 8]
    assert store.documents("c") == other.documents("c")
    other.close()
