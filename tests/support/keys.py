"""Clusters and writers of tests: real keys, made from words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.actors.tls.certificates import cluster_name
from entgldb.messages.model import Author, Entry
from entgldb.messages.secret import Secret
from entgldb.storage.authorship.identity import origin_of
from entgldb.storage.authorship.keys import Signer
from entgldb.storage.rules.authorship import head_statement
from entgldb.storage.rules.header import decode, digest


def cluster_key(word: str) -> Secret:
    """The cluster key of a cluster that a test calls ``word``."""
    return Secret(sha256(word.encode()).digest())


@lru_cache
def cluster(word: str) -> str:
    """Its name."""
    return cluster_name(cluster_key(word))


@lru_cache
def ca(word: str) -> CaOfCluster:
    """Its CA."""
    return CaOfCluster.of(cluster_key(word))


def attests(word: str) -> Callable[[str, bytes], bytes]:
    """The word of its CA for a key."""
    return ca(word).attest


def ca_key_of(word: str) -> bytes:
    """The public key of its CA."""
    return ca(word).public_key


class Writer:
    """A writer whose private key a test has."""

    def __init__(self, node_id: str, seed: bytes = b"", word: str = "tests") -> None:
        self.seed = sha256(seed or node_id.encode()).digest()
        self.origin, self.public_key = origin_of(node_id, self.seed)
        self.author = Author(self.origin, self.public_key, attests(word)(node_id, self.public_key))
        self._signer = Signer(self.seed)

    def signed(self, entry: Entry) -> Entry:
        """The entry with this writer's signature."""
        statement = head_statement(digest(entry.header))
        return Entry(entry.header, entry.body, self._signer.sign(statement))


def ends_of_groups(entries: Iterable[Entry], writer: Writer) -> list[Entry]:
    """The entries, signed wherever a transaction ends."""
    made = []
    for entry in entries:
        header = decode(entry.header)
        ends = header.group_index + 1 == header.group_size
        made.append(writer.signed(entry) if ends else entry)
    return made


class Trusting:
    """A ``ports.Witness`` that believes every signature and every author: for tests that are about others."""

    def signed(self, public_key: bytes, statement: bytes, signature: bytes) -> bool:
        return True

    def attested(self, author: Author) -> bool:
        return True

    def believed(self) -> frozenset[bytes]:
        return frozenset()

    def hear(
        self, cluster: str, ca_key: bytes, successors: Sequence[tuple[bytes, bytes]], *, member: bool = False
    ) -> None:
        pass
