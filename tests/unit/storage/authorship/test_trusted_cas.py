"""The CAs that a cloud node believes: the one that a cluster is named after, and those that followed it."""

from __future__ import annotations

from hashlib import sha256

from entgldb.actors.cluster_key import ClusterKeys
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import cluster_name
from entgldb.messages.secret import Secret
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX
from entgldb.storage.store import Store

FIRST = Secret(sha256(b"first").digest())
NAME = cluster_name(FIRST)
Chain = list[tuple[bytes, bytes]]


def ca(number: int) -> CaOfCluster:
    """That of the key that the cluster has after so many others."""
    keys = ClusterKeys((Secret(sha256(number.to_bytes(4)).digest()) if number else FIRST,), NAME)
    return CaOfCluster(lambda: keys)


def chain(count: int, first: int = 0) -> Chain:
    numbers = range(first, first + count)
    return [(ca(one + 1).public_key, ca(one).vouch(ca(one + 1).public_key)) for one in numbers]


def believed(store: Store, ca_key: bytes, successors: Chain, cluster: str = NAME) -> dict[bytes, str]:
    with store.group():
        store.trust(cluster, ca_key, successors)
    return store.authorities()


def test_each_ca_is_believed_that_the_one_before_has_signed() -> None:
    store = Store.memory("cloud", bytes(32), 0)
    assert believed(store, ca(0).public_key, chain(2)) == {ca(number).public_key: NAME for number in range(3)}
    # from then on it is enough to begin with one that is believed
    assert ca(3).public_key in believed(store, ca(2).public_key, chain(1, 2))


def test_a_signature_that_is_wrong_ends_the_chain_and_a_ca_of_no_name_begins_none() -> None:
    store = Store.memory("cloud", bytes(32), 0)
    assert believed(store, ca(1).public_key, chain(1, 1)) == {}, "the cluster is not named after it"
    forged = [*chain(1), (ca(5).public_key, b"\0" * 64), *chain(1, 5)]
    assert set(believed(store, ca(0).public_key, forged)) == {ca(0).public_key, ca(1).public_key}
    assert ca(3).public_key not in believed(store, ca(0).public_key, chain(1, 2)), "signed by another one"


def test_the_cas_of_one_cluster_have_a_limit() -> None:
    store = Store.memory("cloud", bytes(32), 0)
    assert len(believed(store, ca(0).public_key, chain(CHAIN_MAX + 5))) == CHAIN_MAX + 1
    at = CHAIN_MAX
    while at < 3 * CHAIN_MAX:
        found = believed(store, ca(at).public_key, chain(16, at))
        assert ca(at + 16).public_key in found
        assert len(found) <= 2 * CHAIN_MAX + 1
        at += 16


def test_cas_that_an_older_key_has_made_take_no_place_of_those_that_came_before() -> None:
    store = Store.memory("cloud", bytes(32), 0)
    good = set(believed(store, ca(0).public_key, chain(3)))
    for number in range(4):
        first = 100 + number * CHAIN_MAX
        evil = ca(first + 1).public_key
        pushed = [(evil, ca(0).vouch(evil)), *chain(CHAIN_MAX - 1, first + 1)]
        found = believed(store, ca(0).public_key, pushed)
        assert good < found.keys()
        assert len(found) <= 2 * CHAIN_MAX + 1
    assert ca(5).public_key in believed(store, ca(0).public_key, chain(5)), "the next good ones find a place"
