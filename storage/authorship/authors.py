"""The writers of the logs: their keys, and the word of the cluster's CA for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from entgldb.messages.limits import SIGNATURE_BYTES
from entgldb.messages.model import Author, Origin, node_of
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.rules.authorship import cluster_of, successor_statement

CLUSTERS_MAX: Final = 64
"""Clusters that may mix their documents in one cloud node that is shared."""
_CA: Final = "ca:"
"""Names in ``_entgldb_meta`` begin with it, and go on with that of a cluster; of a later CA with its number
(they are counted as they come) and its key."""
CAS: Final = (_CA, "ca;")
"""The range of such names: ';' is the character after ':'."""
Attest = Callable[[str, bytes], bytes]
"""From node id and public key to the attestation of the cluster's CA; empty without a cluster key."""


def no_attestation(node_id: str, public_key: bytes) -> bytes:
    """For whoever opens a file without a cluster key; the node itself attests at its next start."""
    return b""


def read(connection: sqlite3.Connection, origin: Origin) -> Author | None:
    """The author of a log; None where nobody has named it yet."""
    row = connection.execute(
        "SELECT public_key, attestation FROM _entgldb_origins WHERE name = ?", (origin,)
    ).fetchone()
    return None if row is None or row[0] is None else Author(origin, row[0], row[1] or b"")


def remember(connection: sqlite3.Connection, authors: Iterable[Author], *, checked: bool = False) -> None:
    """Remember the authors of origins that the file knows, unless it has an attestation of them already.

    That of a member takes the place of that of a guest, and one that was ``checked`` that of its like.
    """

    def stays(one: Author) -> int:
        """An attestation that is there already stays up to this length."""
        size = len(one.attestation)
        return size - checked if size >= SIGNATURE_BYTES else 2 * SIGNATURE_BYTES

    connection.executemany(
        "UPDATE _entgldb_origins SET public_key = ?, attestation = ?"
        " WHERE name = ? AND (ifnull(length(attestation), 0) = 0 OR length(attestation) > ?)",
        [(one.public_key, one.attestation, one.origin, stays(one)) for one in authors],
    )


def attest_own(connection: sqlite3.Connection, attest: Attest) -> None:
    """Have the node's present key attested, and those of its past: they could not be when they were made, or
    were by a cluster key that nobody goes by since this node was invited anew."""
    meta = dict(
        connection.execute(
            "SELECT name, value FROM _entgldb_meta WHERE name IN ('origin', 'public_key')"
        ).fetchall()
    )
    own = Author(meta["origin"], meta["public_key"], attest(node_of(meta["origin"]), meta["public_key"]))
    if read(connection, own.origin) != own:
        connection.execute(
            "UPDATE _entgldb_origins SET public_key = ?, attestation = ? WHERE name = ?",
            (own.public_key, own.attestation, own.origin),
        )
    node_id = node_of(own.origin)
    rows = connection.execute(
        "SELECT name, public_key, attestation FROM _entgldb_origins"
        " WHERE public_key IS NOT NULL AND name >= ? AND name < ?",
        (f"{node_id}/", f"{node_id}0"),  # "0" is the character after "/"
    ).fetchall()
    found = [(attest(node_id, key), name, before) for name, key, before in rows]
    connection.executemany(
        "UPDATE _entgldb_origins SET attestation = ? WHERE name = ?",
        [(word, name) for word, name, before in found if word and word != before],
    )


def attest_anew(connection: sqlite3.Connection, renewed: Callable[[Author], bytes | None]) -> None:
    """Give the authors of all logs another attestation; ``renewed``: which, or None where it stays."""
    rows = connection.execute(
        "SELECT name, public_key, attestation FROM _entgldb_origins WHERE length(attestation) > 0"
    ).fetchall()
    found = [(renewed(Author(*row)), row[0]) for row in rows]
    connection.executemany(
        "UPDATE _entgldb_origins SET attestation = ? WHERE name = ?", [one for one in found if one[0]]
    )


def trust(
    connection: sqlite3.Connection,
    cluster: str,
    ca_key: bytes,
    successors: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Believe the CAs of a cluster from now on: the one that it is named after, or one that is believed
    already, and each of the ``successors``, by the signature of the one before it.

    Of the later ones the first ``CHAIN_MAX`` stay: whoever has an older key can make any number of others,
    which take the places of one another.
    """
    known = authorities(connection)
    if known.get(ca_key) != cluster:
        if cluster_of(ca_key) != cluster or len(set(known.values())) >= CLUSTERS_MAX:
            return
        connection.execute("INSERT OR IGNORE INTO _entgldb_meta VALUES (?, ?)", (f"{_CA}{cluster}", ca_key))
    signer, believed = ca_key, list[bytes]()
    for key, signature in successors[:CHAIN_MAX]:
        if not is_signed(signer, successor_statement(cluster, key), signature):
            break
        signer = key
        believed.append(key)
    known = authorities(connection)
    if len(_fresh(believed, known)) + _count(known, cluster) > 2 * CHAIN_MAX:
        connection.execute(
            "DELETE FROM _entgldb_meta WHERE name >= ? AND name < ?",
            (f"{_CA}{cluster}/{CHAIN_MAX:03}", f"{_CA}{cluster}0"),
        )
        known = authorities(connection)
    number = _count(known, cluster)
    connection.executemany(
        "INSERT OR IGNORE INTO _entgldb_meta VALUES (?, ?)",
        [
            (f"{_CA}{cluster}/{place:03}/{key.hex()}", key)
            for place, key in enumerate(_fresh(believed, known), number)
        ],
    )


def _fresh(cas: Iterable[bytes], known: Mapping[bytes, str]) -> list[bytes]:
    return [key for key in cas if key not in known]


def _count(known: Mapping[bytes, str], cluster: str) -> int:
    return sum(one == cluster for one in known.values())


def trust_nobody(connection: sqlite3.Connection) -> None:
    """Believe no CA until the next cluster comes."""
    connection.execute("DELETE FROM _entgldb_meta WHERE name >= ? AND name < ?", CAS)


def authorities(connection: sqlite3.Connection) -> dict[bytes, str]:
    """The public key of a CA -> its cluster, of those that are believed."""
    rows = connection.execute("SELECT name, value FROM _entgldb_meta WHERE name >= ? AND name < ?", CAS)
    return {key: name.removeprefix(_CA).partition("/")[0] for name, key in rows.fetchall()}
