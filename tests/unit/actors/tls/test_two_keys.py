"""A node that holds two keys of its cluster is linked with those that have moved and those that have not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entgldb.actors.cluster_key import KEYS_MAX, ClusterKeys, KeyFile, cluster_keys
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.session.writers import Writers
from entgldb.actors.sync.members.key_watch import KeyWatch
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import ca_keys, cluster_name
from entgldb.actors.tls.identity import LanIdentity
from entgldb.actors.tls.links import TlsLinks
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages.errors import ConfigError, Reason, SecretError
from entgldb.messages.local.actors import LinkDown, LinkUp
from entgldb.messages.model import Author
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.secret import Secret
from entgldb.storage.authorship.cluster_keys import Rotation
from entgldb.storage.authorship.identity import origin_of
from entgldb.storage.log.read import LogReader
from entgldb.storage.store import Store
from tests.unit.actors.tls.links_rig import KEY, Node

NEW = Secret(bytes(range(32, 64)))
NAME = cluster_name(KEY)
OLD_ONLY, BOTH, NEW_ONLY = ClusterKeys((KEY,)), ClusterKeys((NEW, KEY), NAME), ClusterKeys((NEW,), NAME)
Make = Callable[[str, ClusterKeys], Node]


def key_id(key: Secret) -> str:
    return ca_keys(ClusterKeys((key,)))[0].hex()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    nodes: list[Node] = []

    def lan(node_id: str, keys: ClusterKeys) -> Node:
        folder = tmp_path / node_id
        folder.mkdir(exist_ok=True)
        (folder / "cluster.key").write_bytes(keys.content.reveal())
        who = LanIdentity.load(folder, folder / "cluster.key", node_id)
        node = Node(lambda loop: TlsLinks(loop, lan=who, listen="127.0.0.1:0"))
        nodes.append(node)
        return node

    yield lan
    for node in nodes:
        node.loop.stop()


@pytest.mark.parametrize(
    ("dials", "answers", "under"),
    [
        (BOTH, BOTH, NEW),
        (BOTH, OLD_ONLY, KEY),
        (OLD_ONLY, BOTH, KEY),
        (NEW_ONLY, BOTH, NEW),
        (BOTH, NEW_ONLY, NEW),
    ],
)
def test_two_nodes_meet_by_the_newest_key_that_both_hold(
    make: Make, dials: ClusterKeys, answers: ClusterKeys, under: Secret
) -> None:
    one, two = make("lan-1", dials), make("lan-2", answers)
    one.links.dial(two.address)
    assert (one.up().node_id, two.up().node_id) == ("lan-2", "lan-1")
    assert (one.up().under, two.up().under) == (key_id(under), key_id(under))


def test_once_a_key_is_held_no_more_nobody_comes_by_it(make: Make) -> None:
    one, two = make("lan-1", OLD_ONLY), make("lan-2", NEW_ONLY)
    one.links.dial(two.address)
    assert one.down().reason == Reason.TLS_REFUSED
    two.links.dial(one.address)
    two.expect(LinkDown, 2)
    assert {down.reason for down in two.of(LinkDown)} == {Reason.TLS_REFUSED}
    assert not one.of(LinkUp)
    assert not two.of(LinkUp)


def test_a_running_node_takes_over_another_file_and_its_links_stay(make: Make, tmp_path: Path) -> None:
    one, two = make("lan-1", OLD_ONLY), make("lan-2", OLD_ONLY)
    one.links.dial(two.address)
    shown = two.up().key
    for name in ("lan-1", "lan-2"):
        file = tmp_path / name / "cluster.key"
        file.with_name("other").write_bytes(BOTH.content.reveal())
        file.with_name("other").replace(file)
    one.links.dial(two.address)
    two.expect(LinkUp, 2)
    assert (two.up().under, two.up().key) == (key_id(NEW), shown)
    assert not two.of(LinkDown)


def test_the_file_says_which_key_counts_and_the_name_stays() -> None:
    assert cluster_keys(OLD_ONLY.content.reveal()) == OLD_ONLY
    moved = OLD_ONLY.followed_by(NEW, NAME)
    assert cluster_keys(moved.content.reveal()) == moved == BOTH
    assert cluster_keys(moved.for_newcomer.reveal()) == NEW_ONLY
    assert moved.followed_by(KEY, NAME).keys == (KEY, NEW)
    for number in range(2 * KEYS_MAX):
        moved = moved.followed_by(Secret(bytes([number]) * 32), NAME)
    assert len(cluster_keys(moved.content.reveal()).keys) == KEYS_MAX
    assert all(form not in repr(moved) for form in (KEY.reveal().hex(), str(KEY.reveal())))


@pytest.mark.parametrize("size", [0, 31, 33, 39, 41, 71, 40 + KEYS_MAX * 32, 41 + KEYS_MAX * 32])
def test_what_is_no_key_file_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        cluster_keys(bytes(size))


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(KEY.reveal())
    file = KeyFile(tmp_path / "k")
    (tmp_path / "k").unlink()
    assert file.keys == OLD_ONLY
    (tmp_path / "k").write_bytes(b"short")
    assert file.keys == OLD_ONLY


def test_a_writer_is_believed_and_attested_by_the_key_that_counts_alone() -> None:
    origin, public = origin_of("lan-1", bytes(32))
    before, now = (CaOfCluster(lambda keys=keys: keys) for keys in (OLD_ONLY, BOTH))  # type: ignore[misc]  # bound
    assert (before.public_key.hex(), now.public_key.hex()) == (key_id(KEY), key_id(NEW))
    old, new = (Author(origin, public, ca.attest("lan-1", public)) for ca in (before, now))
    assert old != new
    assert not CaWitness(now.authorities).attested(old), "whoever has a copy of an older key attests anybody"
    assert CaWitness(now.authorities).attested(new)
    assert not CaWitness(before.authorities).attested(new)


def test_another_key_made_at_once_is_believed_by_a_members_word_alone_and_not_for_ever() -> None:
    keys, other = BOTH, Secret(bytes([9]) * 32)
    rival = CaOfCluster(lambda: OLD_ONLY.followed_by(other, NAME))
    first = CaOfCluster.of(KEY)
    chain = first.public_key, [(rival.public_key, first.vouch(rival.public_key))]
    origin, public = origin_of("lan-2", bytes(32))
    author = Author(origin, public, rival.attest("lan-2", public))
    witness = CaWitness(CaOfCluster(lambda: keys).authorities, lambda: ca_keys(keys))
    witness.hear(NAME, *chain)
    assert not witness.attested(author), "whoever has a copy of the first key can sign such a CA"
    witness.hear(NAME, chain[0], [(rival.public_key, bytes(64))], member=True)
    assert not witness.attested(author)
    witness.hear(NAME, *chain, member=True)
    assert witness.attested(author)
    keys = BOTH.followed_by(Secret(bytes([8]) * 32), NAME)
    assert not witness.attested(author)
    witness.hear(NAME, *chain, member=True)
    assert witness.attested(author)
    keys = ClusterKeys(keys.keys[:1], NAME)
    witness.hear(NAME, *chain, member=True)
    assert witness.attested(author)
    witness = CaWitness(CaOfCluster(lambda: keys).authorities, lambda: ca_keys(keys))
    witness.hear(NAME, *chain, member=True)
    assert not witness.attested(author), "the first key is held no more"


def test_a_secret_sealed_under_an_older_key_opens_while_that_is_held(tmp_path: Path) -> None:
    file, oauth2 = tmp_path / "k", OAuth2("https://a.example", "client")
    secrets = KeyedSecrets(str(file), NAME)
    file.write_bytes(OLD_ONLY.content.reveal())
    sealed = OAuth2("https://a.example", "client", secrets.seal("cloud-1", oauth2, "hunter2"))
    file.write_bytes(BOTH.content.reveal())
    assert secrets.resolve("cloud-1", sealed) == Secret("hunter2")
    assert secrets.matches("cloud-1", sealed, "hunter2")
    both = replace(sealed, previous_secret=sealed.client_secret, previous_until=1)
    again = secrets.resealed("cloud-1", both)
    assert again is not None
    assert again.before != both.before
    assert secrets.resolve("cloud-1", again.before) == Secret("hunter2")
    assert secrets.resealed("cloud-1", again) is None
    assert secrets.resealed("cloud-2", sealed) is None, "it is another peer's"
    file.write_bytes(NEW_ONLY.content.reveal())
    assert secrets.resolve("cloud-1", again) == Secret("hunter2")
    with pytest.raises(SecretError, match="another cluster key"):
        secrets.resolve("cloud-1", sealed)


def test_a_link_that_was_begun_before_the_key_changed_tells_under_which_it_was_made(tmp_path: Path) -> None:
    now = OLD_ONLY
    who = LanIdentity(tmp_path, lambda: now, "lan-1")
    begun = who.server, who.client
    for now in (BOTH, NEW_ONLY):
        assert len(who.cards) == len(now.keys)
        assert [who.key_id_of(context) for context in begun] == [key_id(KEY)] * 2
    assert who.key_id_of(who.server) == key_id(NEW)
    assert not who.key_id_of(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), "that of no cluster key"


def test_a_certificate_under_no_key_that_is_known_is_not_admitted() -> None:
    watch = KeyWatch(lambda: key_id(NEW))
    watch._rotation, watch._open = Rotation(key_id(NEW), "lan-1", 0, {"lan-2": ("ab" * 32, "")}), False
    assert not watch.admits("lan-3", "ee" * 32, "")
    assert watch.admits("lan-2", "ab" * 32, "")
    assert watch.admits("lan-3", "", ""), "links have no certificates here"


def test_an_author_that_was_believed_before_the_key_changed_is_looked_up_again() -> None:
    now = OLD_ONLY
    origin, public = origin_of("lan-9", bytes(32))
    author = Author(origin, public, CaOfCluster.of(KEY).attest("lan-9", public))
    log = LogReader(Store.memory("lan-1", bytes([1]) * 32, 0).connection)
    writers = Writers("lan-1", CaWitness(CaOfCluster(lambda: now).authorities), log)
    writers.look()
    assert writers.author(origin, author) == author
    now = BOTH
    writers.supplied([], [])
    assert writers.author(origin) is None
    assert writers.author(origin, author) is None, "it stands in no file"
