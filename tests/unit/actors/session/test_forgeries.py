"""Ten forgeries, each by a certified member of the cluster, or by a cloud, that relays the logs of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from entgldb.actors.gateway.vouching import Vouching
from entgldb.actors.session import own_log
from entgldb.actors.session.session import Session
from entgldb.actors.session.writers import Writers
from entgldb.actors.store.intake import Intake
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import wire
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import Reason
from entgldb.messages.local.actors import Apply
from entgldb.messages.model import ENDED, Author, Entry
from entgldb.storage.rules import header as headers
from entgldb.storage.store import Store
from tests.support.fake_context import FakeContext
from tests.support.keys import Writer, attests, ca, ca_key_of, cluster
from tests.support.no_snapshots import NoSnapshots

NOW = 1_800_000_000_000
LAN, GATEWAY, CLOUD = "lan", "gateway", "cloud"
EVERYWHERE = pytest.mark.parametrize("place", [LAN, GATEWAY, CLOUD])


class Victim:
    """A session and the store of one node: on the LAN, of a gateway that hears a cloud, or of a cloud."""

    def __init__(self, place: str = LAN) -> None:
        self.store = Store.memory("victim", b"victim", NOW, attests("tests"))
        self.cloud = place != LAN
        self._vouching = None
        witness = CaWitness.of(ca_key_of("tests"))
        if place == GATEWAY:
            hello = wire.Hello(1, 1, "cloud-1", "cloud-1/" + "0" * 32, "", (), NOW, "cloud")
            self._vouching = Vouching(ca("tests"), hello)
        elif place == CLOUD:
            with self.store.group():
                self.store.trust(cluster("tests"), ca_key_of("tests"))
            witness = CaWitness(self.store.authorities)
        self.counts: Counter[str] = Counter()
        self._writers = Writers("victim", witness, self.store)
        self.session = self.open("sync:1")
        self.intake = Intake(self.store, self._count)
        self.ctx = FakeContext()
        self._batch = 0

    def open(self, name: str) -> Session:
        return Session(
            name=name,
            owner="sync",
            log=self.store,
            writers=self._writers,
            chunks=NoSnapshots(),
            send=lambda message: True,
            cloud=self.cloud,
            count=lambda reason: self._count(reason, 1),
            vouch=self._vouch,
        )

    def hear(self, entries: Iterable[Entry], *authors: Author, supplied: bool = False) -> str:
        """Take a batch of a peer; a word of ``Reason`` where the round is refused."""
        if supplied:
            self.session.receive(wire.Supply(tuple(entries), authors), self.ctx)
        else:
            self.session.receive(wire.Entries(0, self._batch, tuple(entries), (), authors), self.ctx)
            self._batch += 1
        told, self.ctx.told = self.ctx.told, []
        if not told:
            return ""
        ((_, apply),) = told
        assert isinstance(apply, Apply)
        with self.store.group():
            return self.intake.take(apply, self.ctx).refused

    def shows(self, key: str) -> bytes | None:
        return self.store.get("users", key)

    def said(self, reason: Reason) -> int:
        return self.counts[reason.value]

    def _vouch(self, authors: Iterable[Author]) -> tuple[Author, ...]:
        return tuple(authors) if self._vouching is None else self._vouching.attested(authors)

    def _count(self, reason: Reason, times: int) -> None:
        self.counts[reason.value] += times


def node(name: str) -> Store:
    return Store.memory(name, name.encode(), NOW, attests("tests"))


def put(store: Store, key: str, value: str) -> None:
    number = store.last_lsn() + 1
    with store.group():
        store.write(RequestId(b"q" * 16, number), (Write("users", key, b'{"v":"%s"}' % value.encode()),), NOW)


def sent(store: Store) -> list[Entry]:
    return [Entry(row.header, row.body, row.signature) for row in store.rows(1, 500)]


def author(store: Store) -> Author:
    found = store.author(store.origin)
    assert found is not None
    return found


def forged(entry: Entry, value: str, *, onward: bool = False) -> Entry:
    """Another entry in the place of ``entry``, or ``onward``, behind it; linked as it has to be."""
    old, body = headers.decode(entry.header), b'{"v":"%s"}' % value.encode()
    made = old._replace(hlc=old.hlc + 1, body_sha256=headers.digest(body))
    if onward:
        made = made._replace(seq=old.seq + 1, prev_hash=headers.digest(entry.header), parent=old.version)
    return Entry(headers.encode(made), body)


def unchanged(victim: Victim, honest: Store) -> None:
    """The victim shows what the honest node wrote and takes on what it writes now."""
    assert victim.store.forked() == set()
    assert not victim.store.disowned
    put(honest, "after", "true")
    assert victim.hear(sent(honest), author(honest)) == ""
    assert victim.store.vector()[honest.origin] == honest.vector()[honest.origin]
    assert victim.shows("after") == b'{"v":"true"}'


@EVERYWHERE
def test_the_next_entry_of_another_is_not_taken(place: str) -> None:
    victim, honest, relay = Victim(place), node("a"), Writer("relay")
    put(honest, "u", "true")
    (first,) = sent(honest)
    victim.hear([first], author(honest))
    onward = forged(first, "false", onward=True)
    # without a signature it waits in vain
    assert [victim.hear([one], author(honest)) for one in (onward, relay.signed(onward))] == ["", "bad-entry"]
    assert victim.shows("u") == b'{"v":"true"}'
    fresh = Victim(place)
    fresh.hear([first], author(honest))
    unchanged(fresh, honest)


@EVERYWHERE
@pytest.mark.parametrize("signs", [False, True])
def test_a_true_signature_proves_no_forgery_that_stands_before_it(place: str, signs: bool) -> None:
    victim, honest, relay = Victim(place), node("a"), Writer("relay")
    for value in ("one", "two", "three"):
        put(honest, "u", value)
    first, second, third = sent(honest)
    onward = forged(first, "false", onward=True)
    made = relay.signed(onward) if signs else onward
    for batch in ([first, made, second], [first, made, third], [made, first, second], [first, made, first]):
        victim = Victim(place)
        victim.hear(batch, author(honest))
        logged = [row.hash for row in victim.store.rows(1, 10)]
        assert logged == [row.hash for row in honest.rows(1, len(logged))] if logged else True


@EVERYWHERE
def test_a_rewritten_history_is_not_shown_to_a_newcomer(place: str) -> None:
    victim, honest = Victim(place), node("a")
    put(honest, "u", "true")
    put(honest, "u", "newer")
    first, second = sent(honest)
    rewritten = forged(first, "rewritten")
    victim.hear([rewritten, Entry(second.header, second.body, second.signature)], author(honest))
    victim.hear([Entry(rewritten.header, rewritten.body, first.signature)], author(honest))
    assert victim.shows("u") != b'{"v":"rewritten"}'
    assert victim.store.vector() == {}


@EVERYWHERE
def test_what_stands_behind_the_last_signature_is_not_taken(place: str) -> None:
    victim, honest = Victim(place), node("a")
    put(honest, "u", "true")
    (first,) = sent(honest)
    victim.hear([first, forged(first, "false", onward=True)], author(honest))
    assert victim.shows("u") == b'{"v":"true"}'
    assert victim.store.vector() == honest.vector()


@EVERYWHERE
def test_a_key_that_the_origin_is_not_made_from_counts_for_nothing(place: str) -> None:
    victim, honest, relay = Victim(place), node("a"), Writer("relay")
    put(honest, "u", "true")
    entry = relay.signed(forged(sent(honest)[0], "false"))
    key = Author(honest.origin, relay.public_key, attests("tests")("a", relay.public_key))
    victim.hear([entry], key)
    assert (victim.store.vector(), victim.said(Reason.NOT_ATTESTED)) == ({}, 1)


@EVERYWHERE
def test_an_attestation_of_another_cluster_counts_for_nothing(place: str) -> None:
    victim, stranger = Victim(place), Store.memory("a", b"s", NOW, attests("another"))
    put(stranger, "u", "false")
    victim.hear(sent(stranger), author(stranger))
    assert (victim.store.vector(), victim.said(Reason.NOT_ATTESTED)) == ({}, 1)


@EVERYWHERE
def test_what_is_replayed_changes_nothing(place: str) -> None:
    victim, honest = Victim(place), node("a")
    put(honest, "u", "true")
    put(honest, "u", "newer")
    for _ in range(3):
        assert victim.hear(sent(honest), author(honest)) == ""
    assert victim.hear(sent(honest)[:1], author(honest)) == ""
    assert victim.shows("u") == b'{"v":"newer"}'
    unchanged(victim, honest)


@EVERYWHERE
def test_a_log_that_is_cut_before_its_signature_waits(place: str) -> None:
    victim, honest = Victim(place), node("a")
    with honest.group():
        for number in (1, 2):
            honest.write(RequestId(b"q" * 16, number), (Write("users", f"u{number}", b"{}"),), NOW)
    first, second = sent(honest)
    assert (first.signature, second.signature is None) == (None, False)
    assert victim.hear([first], author(honest)) == ""
    assert victim.store.vector() == {}
    assert victim.hear([second]) == ""
    assert victim.store.vector() == honest.vector()


@EVERYWHERE
def test_a_thousand_invented_origins_are_refused_and_the_rest_of_the_batch_flows_on(place: str) -> None:
    victim, honest = Victim(place), node("a")
    put(honest, "u", "true")
    (entry,) = sent(honest)
    header = headers.decode(entry.header)
    invented = [header._replace(origin=f"x/{number:032x}") for number in range(1000)]
    batch = [Entry(headers.encode(one), entry.body, entry.signature) for one in invented]
    authors = [Author(one.origin, author(honest).public_key, b"a" * 64) for one in invented]
    assert victim.hear([*batch, entry], *authors, author(honest)) == ""
    assert victim.store.vector() == honest.vector()
    assert victim.said(Reason.NOT_ATTESTED) == 1000
    assert victim.store.status()["origins"] == 2


@EVERYWHERE
@pytest.mark.parametrize("supplied", [False, True])
def test_a_relay_makes_no_fork(place: str, supplied: bool) -> None:
    victim, honest, relay = Victim(place), node("a"), Writer("relay")
    put(honest, "u", "true")
    victim.hear(sent(honest), author(honest))
    other = forged(sent(honest)[0], "false")
    for made in (other, relay.signed(other), Entry(other.header, other.body, sent(honest)[0].signature)):
        victim.hear([made], author(honest), supplied=supplied)
    assert victim.said(Reason.FORK) == 0
    assert victim.store.forked() == set()
    assert victim.shows("u") == b'{"v":"true"}'


@EVERYWHERE
def test_a_bare_vector_and_invented_own_entries_make_nobody_another_writer(place: str) -> None:
    victim, relay = Victim(place), Writer("relay")
    put(victim.store, "u", "true")
    own, (first,) = victim.store.origin, sent(victim.store)
    assert own_log.forked(victim.store, {own: (99, b"\0" * 32)}) == []
    assert own_log.forked(victim.store, {own: (1, b"\0" * 32)}) == [(own, 1)]
    onward = forged(first, "false", onward=True)
    for made in (onward, relay.signed(onward), forged(first, "false")):
        victim.hear([made], author(victim.store))
        victim.hear([made], author(victim.store), supplied=True)
    assert (victim.store.origin, victim.store.disowned) == (own, False)
    assert victim.store.vector() == {own: (1, headers.digest(first.header))}


def test_a_true_fork_is_found_all_the_same() -> None:
    """Two nodes with one key: a copy of a database that was not noticed."""
    victim, one, two = Victim(), node("a"), node("a")
    put(one, "u", "one")
    put(two, "u", "two")
    victim.hear(sent(one), author(one))
    victim.hear(sent(two), author(two))
    assert (victim.said(Reason.FORK), victim.store.forked()) == (1, {one.origin})


@pytest.mark.parametrize("shared", [False, True])
def test_a_gateway_answers_for_the_cloud_and_for_guests_of_a_shared_one_only(shared: bool) -> None:
    cloud, guest = Store.memory("cloud-1", b"c", NOW), Store.memory("x", b"x", NOW, attests("another"))
    features = (wire.SHARED,) if shared else ()
    hello = wire.Hello(1, 1, "cloud-1", cloud.origin, "", features, NOW, "cloud")
    named: Sequence[Author] = Vouching(ca("tests"), hello).attested((author(cloud), author(guest)))
    witness = CaWitness.of(ca_key_of("tests"))
    assert [witness.attested(one) for one in named] == [True, shared]


def test_a_cloud_that_invents_its_own_incarnations_is_answered_for_a_few_times() -> None:
    hello = wire.Hello(1, 1, "cloud-1", "cloud-1/" + "0" * 32, "", (), NOW, "cloud")
    vouching, witness = Vouching(ca("tests"), hello), CaWitness.of(ca_key_of("tests"))
    many = [Writer("cloud-1", b"%d" % number, "another").author for number in range(40)]
    assert sum(witness.attested(one) for one in vouching.attested(many)) == 16


@pytest.mark.parametrize("shared", [False, True])
def test_a_cloud_may_name_the_same_writer_in_any_number_of_rounds(shared: bool) -> None:
    features = (wire.SHARED,) if shared else ()
    hello = wire.Hello(1, 1, "cloud-1", "cloud-1/" + "0" * 32, "", features, NOW, "cloud")
    vouching, witness = Vouching(ca("tests"), hello), CaWitness.of(ca_key_of("tests"))
    one = Writer("guest" if shared else "cloud-1", b"one", "another").author
    assert all(witness.attested(*vouching.attested([one])) for _ in range(300))


def test_what_makes_a_writer_count_is_kept_with_its_first_entry() -> None:
    """The peer has shown it in a round that the store could not take, and not in the one that it takes."""
    victim, honest = Victim(), node("a")
    put(honest, "u", "true")
    lost = wire.Entries(0, 0, tuple(sent(honest)), (), (author(honest),))
    victim.open("sync:0").receive(lost, victim.ctx)
    victim.ctx.told.clear()
    bare = Author(honest.origin, author(honest).public_key, b"")
    assert victim.hear(sent(honest), bare) == ""
    assert victim.shows("u") == b'{"v":"true"}'
    assert victim.store.author(honest.origin) == author(honest)


def test_a_guest_ends_no_log_of_a_member() -> None:
    """A cloud that says that it is shared has all of a log's writers attested, under whatever node id."""
    victim, honest = Victim(GATEWAY), node("a")
    hello = wire.Hello(1, 1, "cloud-1", "cloud-1/" + "0" * 32, "", (wire.SHARED,), NOW, "cloud")
    victim._vouching = Vouching(ca("tests"), hello)
    put(honest, "u", "true")
    assert victim.hear(sent(honest), author(honest)) == ""
    guest = Store.memory("a", b"another a", NOW)
    with guest.group():
        write = Write(ENDED, f"{honest.origin}/0", b"{}")
        guest.write(RequestId(b"q" * 16, 1), (write,), NOW, system=True)
    assert (
        victim.hear([Entry(one.header, None, one.signature) for one in sent(guest)], author(guest))
        == "bad-entry"
    )
    assert victim.store.state.ended == {}
    assert victim.store.author(honest.origin) == author(honest)


def test_the_word_of_a_member_takes_the_place_of_that_of_a_guest() -> None:
    one, key = node("a"), ca("tests")
    with one.group():
        one.connection.execute("UPDATE _entgldb_origins SET attestation = NULL")
        member = Author(one.origin, one.public_key(), key.attest("a", one.public_key()))
        guest = Author(one.origin, one.public_key(), key.attest("a", one.public_key(), guest=True))
        for said, kept in ((guest, guest), (member, member), (guest, member)):
            one.keep_authors([said])
            assert one.author(one.origin) == kept
    witness = CaWitness.of(ca_key_of("tests"))
    assert witness.attested(member)
    assert witness.attested(guest)
    assert not witness.attested(Author(one.origin, one.public_key(), member.attestation + b"\x01"))
    assert not witness.attested(Author(one.origin, one.public_key(), guest.attestation[:-1]))
