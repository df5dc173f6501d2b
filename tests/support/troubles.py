"""Entries that a node cannot apply, must hold, or finds forked; and two that make a conflict."""

from __future__ import annotations

import time
from pathlib import Path

from entgldb.actors.cluster_key import read_cluster_keys
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Author, Entry, node_of
from entgldb.storage.rules.header import decode, digest, encode
from entgldb.storage.store import Store
from tests.support.keys import Writer, ends_of_groups

KEYS = ("good", "bad", "also-good")
CARELESS_SEED, EARLY_SEED, TWICE_SEED = b"\7" * 32, b"\5" * 32, b"\3" * 32
CARELESS, EARLY, TWICE = (
    Writer(name, seed)
    for name, seed in (("careless", CARELESS_SEED), ("early", EARLY_SEED), ("twice", TWICE_SEED))
)


def history(now_ms: int) -> list[Entry]:
    """Three writes of a node without checks, of which the second is no document."""
    writer = Store.memory("careless", CARELESS_SEED, now_ms)
    made: list[Entry] = []
    with writer.group():
        for number, key in enumerate(KEYS):
            writer.write(RequestId(b"c" * 16, number), [Write("notes", key, b'{"n":1}')], now_ms)
    for row in writer.rows(1, len(KEYS)):
        header, body = decode(row.header), row.body
        if header.key == "bad":
            body = b'["no object"]'
        assert body is not None
        previous = digest(made[-1].header) if made else b""
        made.append(Entry(encode(header._replace(prev_hash=previous, body_sha256=digest(body))), body))
    writer.close()
    return ends_of_groups(made, CARELESS)


def ahead(now_ms: int) -> list[Entry]:
    """One write of a node whose clock is an hour ahead."""
    return _one(EARLY, "early", b'{"n":2}', now_ms, now_ms + 3_600_000)


def branch(body: bytes, now_ms: int) -> list[Entry]:
    """The first write of a node that ran twice."""
    return _one(TWICE, "twice", body, now_ms, now_ms)


def _one(writer: Writer, key: str, body: bytes, now_ms: int, at_ms: int) -> list[Entry]:
    node = node_of(writer.origin)
    seed = {"early": EARLY_SEED, "twice": TWICE_SEED}[node]
    store = Store.memory(node, seed, now_ms)
    with store.group():
        store.write(RequestId(node[:1].encode() * 16, 1), [Write("notes", key, body)], at_ms)
    found = [Entry(row.header, row.body) for row in store.rows(1, 1)]
    store.close()
    return ends_of_groups(found, writer)


def keep_waiting(directory: Path, node_id: str, *, forked: bool = False) -> None:
    """Give a node that does not run one entry that it cannot apply and one that it must hold; and a fork."""
    now_ms = time.time_ns() // 1_000_000
    store = Store.open(directory, node_id, now_ms)
    ca = CaOfCluster.of(read_cluster_keys(directory / "cluster.key").keys[0])
    given = [(history(now_ms), CARELESS), (ahead(now_ms), EARLY)]
    if forked:
        given += [(branch(b'{"n":1}', now_ms), TWICE), (branch(b'{"n":2}', now_ms), TWICE)]
    with store.group():
        for entries, writer in given:
            assert store.apply(entries, now_ms).refused == ""
            attestation = ca.attest(node_of(writer.origin), writer.public_key)
            store.keep_authors([Author(writer.origin, writer.public_key, attestation)])
    store.close()


def write_apart(directory: Path, node_id: str, collection: str, key: str, body: bytes) -> None:
    """Write on a node that does not run, so that no other has seen it."""
    now_ms = time.time_ns() // 1_000_000
    store = Store.open(directory, node_id, now_ms)
    with store.group():
        store.write(RequestId(node_id.encode().ljust(16, b"a"), 1), [Write(collection, key, body)], now_ms)
    store.close()
