"""Own logs are signed, relayed signatures stay, authors go from file to file."""

from __future__ import annotations

from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, SIGNED_BYTES_MAX
from entgldb.messages.model import Author, Entry, node_of
from entgldb.storage.authorship.authors import no_attestation
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.rules.authorship import GUEST_MARK, author_statement, fits, head_statement
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store
from tests.support.keys import attests, ca_key_of, cluster

NOW = 1_800_000_000_000
ATTEST = attests("tests")


def made(node_id: str = "a") -> Store:
    return Store.memory(node_id, node_id.encode(), NOW, ATTEST)


def put(store: Store, number: int, size: int = 10) -> None:
    body = b'{"v":"%s"}' % (b"x" * size)
    store.write(RequestId(b"c" * 16, number), [Write("c", f"k{number}", body)], NOW)


def undone(store: Store) -> None:
    put(store, 2, SIGNED_BYTES_MAX)
    put(store, 3, BODY_BYTES_MAX)


def signed(store: Store) -> list[int]:
    """The numbers of the rows that have a signature, each of which is checked."""
    found = []
    for row in store.rows(1, 500):
        author = store.author(row.origin)
        if row.signature is not None:
            assert author is not None
            assert is_signed(author.public_key, head_statement(row.hash), row.signature)
            found.append(row.lsn)
    return found


def entries(store: Store) -> list[Entry]:
    return [Entry(row.header, row.body, row.signature) for row in store.rows(1, 500)]


def test_the_last_own_entry_of_each_commit_is_signed() -> None:
    store = made()
    for first in (1, 4):
        with store.group():
            for number in range(first, first + 3):
                with store.savepoint():
                    put(store, number)
    assert signed(store) == [3, 6]


def test_a_large_commit_is_signed_in_between_where_a_request_ends() -> None:
    store = made()
    with store.group():
        for number in range(1, 6):
            with store.savepoint():
                put(store, number, SIGNED_BYTES_MAX // 2)
    assert signed(store) == [2, 4, 5]


def test_a_request_that_is_undone_leaves_the_end_of_the_log_signed() -> None:
    store = made()
    with store.group():
        put(store, 1)
        with pytest.raises(TooLargeError), store.savepoint():
            undone(store)
    assert signed(store) == [1]
    assert store.state.unsigned == 0


def test_the_author_is_attested_by_the_cluster() -> None:
    store = made()
    author = store.author(store.origin)
    assert author is not None
    assert fits(author)
    statement = author_statement(cluster("tests"), "a", author.public_key)
    assert is_signed(ca_key_of("tests"), statement, author.attestation)


def test_a_new_incarnation_signs_what_is_left_of_the_old_one_and_is_attested_itself() -> None:
    store = made()
    old = store.origin
    with store.group():
        put(store, 1)
        store.incarnations.reincarnate(b"e" * 32, Why.ROLLED_BACK, NOW)
        put(store, 2)
    assert signed(store) == [1, 2]
    for origin in (old, store.origin):
        author = store.author(origin)
        assert author is not None
        assert author.attestation == ATTEST(node_of(origin), author.public_key)


def test_signatures_and_authors_are_relayed() -> None:
    a, b, c = made("a"), made("b"), made("c")
    for number in (1, 2):
        with a.group():
            put(a, number)
    author = a.author(a.origin)
    assert author is not None
    for giver, taker in ((a, b), (b, c)):
        with taker.group():
            taker.apply(entries(giver), NOW)
            taker.keep_authors([author])
    assert (signed(c), c.author(a.origin)) == ([1, 2], author)


def test_an_attestation_that_is_there_stays() -> None:
    a, b = made("a"), made("b")
    with a.group():
        put(a, 1)
    author = a.author(a.origin)
    assert author is not None
    with b.group():
        b.apply(entries(a), NOW)
        b.keep_authors([Author(a.origin, author.public_key, b"")])
        b.keep_authors([author])
        b.keep_authors([Author(a.origin, author.public_key, b"another")])
    assert b.author(a.origin) == author


def test_one_that_was_checked_takes_the_place_of_one_of_its_kind_or_of_a_guest() -> None:
    a, b = made("a"), made("b")
    with a.group():
        put(a, 1)
    author = a.author(a.origin)
    assert author is not None
    guest, other, member = (
        Author(a.origin, author.public_key, word) for word in (b"g" * 64 + GUEST_MARK, b"o" * 64, b"m" * 64)
    )
    with b.group():
        b.apply(entries(a), NOW)
        for named, stays in ((guest, guest), (other, other), (guest, other), (member, member)):
            b.keep_authors([named])
            assert b.author(a.origin) == stays


def test_what_is_held_keeps_its_signature() -> None:
    a, b = made("a"), made("b")
    with a.group():
        a.write(RequestId(b"c" * 16, 1), [Write("c", "k", b"{}")], NOW + 3_600_000)
    with b.group():
        b.apply(entries(a), NOW)
        b.keep_authors([author for author in [a.author(a.origin)] if author is not None])
    assert (b.held(), signed(b)) == ({a.origin: 1}, [])
    with b.group():
        b.release_held(NOW + 3_600_000)
    assert signed(b) == [1]


def test_a_file_without_signatures_is_signed_at_the_next_start(tmp_path: Path) -> None:
    store = Store.open(tmp_path, "a", NOW)
    for number in (1, 2):
        with store.group():
            put(store, number)
    store.connection.execute("UPDATE _entgldb_oplog SET signature = NULL")
    store.connection.execute("UPDATE _entgldb_origins SET public_key = NULL, attestation = NULL")
    store.close()
    store = Store.open(tmp_path, "a", NOW, ATTEST)
    author = store.author(store.origin)
    assert author is not None
    assert author.attestation == ATTEST("a", store.public_key())
    assert signed(store) == [2]
    store.close()


def test_keys_of_before_a_start_without_the_cluster_key_are_attested_at_the_next(tmp_path: Path) -> None:
    """As after a restore or a rebuild: those work without it."""
    store = Store.open(tmp_path, "a", NOW)
    origins = [store.origin]
    with store.group():
        put(store, 1)
        origins.append(store.incarnations.reincarnate(b"e" * 32, Why.RESTORED, NOW))
        put(store, 2)
    store.close()
    store = Store.open(tmp_path, "a", NOW, ATTEST)
    found = [store.author(origin) for origin in origins]
    assert [one is not None and one.attestation == ATTEST("a", one.public_key) for one in found] == [
        True,
        True,
    ]
    assert signed(store) == [1, 2]
    store.close()


def test_who_is_invited_anew_has_the_logs_of_its_own_attested_by_the_key_that_it_was_given(
    tmp_path: Path,
) -> None:
    """Those of others are theirs to have attested. Who opens the file without a key takes no word away."""
    another = attests("invited anew")
    store = Store.open(tmp_path, "a", NOW, ATTEST)
    other, origins = made("b"), [store.origin]
    with other.group():
        put(other, 1)
    with store.group():
        put(store, 1)
        origins.append(store.incarnations.reincarnate(b"e" * 32, Why.ROLLED_BACK, NOW))
        store.apply(entries(other), NOW)
        store.keep_authors([found for found in [other.author(other.origin)] if found])
        put(store, 2)
    store.close()
    for attest in (another, no_attestation, another):
        store = Store.open(tmp_path, "a", NOW, attest)
        found = [store.author(origin) for origin in (*origins, other.origin)]
        store.close()
    words = [(one.attestation == another("a", one.public_key)) for one in found if one is not None]
    assert words == [True, True, False]
    assert found[2] == other.author(other.origin)
