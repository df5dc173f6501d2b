"""A new cluster key is sealed to one node, which alone opens it, and takes the first place in the file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from entgldb.actors.cluster_key import ClusterKeys, KeyFile, read_cluster_keys
from entgldb.actors.tls.certificates import cluster_name
from entgldb.actors.tls.key_files import KEY_NAME, key_in
from entgldb.actors.tls.key_ring import FileRing, id_of
from entgldb.messages.model import Author
from entgldb.messages.secret import Secret
from entgldb.storage.authorship.identity import origin_of
from tests.unit.actors.tls.links_rig import KEY


def ring(folder: Path, key: Secret = KEY) -> FileRing:
    folder.mkdir(exist_ok=True)
    if not (folder / "cluster.key").exists():
        (folder / "cluster.key").write_bytes(key.reveal())
    return FileRing(folder, KeyFile(folder / "cluster.key"))


def test_what_is_sealed_to_a_node_is_opened_by_its_own_key_alone(tmp_path: Path) -> None:
    maker, member, thief = (ring(tmp_path / name) for name in "abc")
    key_id, key = maker.new()
    sealed = maker.seal(key, member.box, "lan-2")
    assert key.reveal().hex() not in sealed
    assert member.open(sealed, key_id, "lan-2") == key
    assert ring(tmp_path / "b").open(sealed, key_id, "lan-2") == key, "after a restart"
    # it has the cluster key, under which nothing was sealed
    assert thief.open(sealed, key_id, "lan-2") is None


def test_a_seal_is_good_for_one_node_one_key_and_one_cluster(tmp_path: Path) -> None:
    maker, member = ring(tmp_path / "a"), ring(tmp_path / "b")
    key_id, key = maker.new()
    sealed = maker.seal(key, member.box, "lan-2")
    assert member.open(sealed, key_id, "lan-3") is None
    assert member.open(sealed, maker.new()[0], "lan-2") is None
    assert ring(tmp_path / "o", Secret(bytes(32))).seal(key, member.box, "lan-2") != sealed
    assert member.open(ring(tmp_path / "o").seal(key, member.box, "lan-2"), key_id, "lan-2") is None
    for damaged in ("", "no hex", sealed[:-2], "00" + sealed[2:]):
        assert member.open(damaged, key_id, "lan-2") is None
    other_id = id_of(Secret(bytes(32)))
    assert member.open(maker.seal(key, member.box, "lan-2"), other_id, "lan-2") is None


@pytest.mark.parametrize("box", ["", "xyz", "00", "11" * 31, "11" * 33])
def test_nothing_is_sealed_to_what_is_no_box(tmp_path: Path, box: str) -> None:
    maker = ring(tmp_path)
    with pytest.raises(ValueError, match=r"hex|32|key"):
        maker.seal(maker.new()[1], box, "lan-2")


def test_a_key_that_is_taken_counts_and_those_before_stay_until_they_are_dropped(tmp_path: Path) -> None:
    own = ring(tmp_path)
    first = id_of(KEY)
    key_id, key = own.new()
    assert own.held() == (first,)
    assert own.of_held(key_id) is None, "nobody gave it the key"
    own.take(key)
    assert own.held() == (key_id, first)
    assert read_cluster_keys(tmp_path / "cluster.key") == ClusterKeys((key, KEY), cluster_name(KEY))
    before = own.of_held(first)
    assert before == KEY
    own.take(before)
    assert own.held() == (first, key_id)
    own.drop_older()
    assert read_cluster_keys(tmp_path / "cluster.key") == ClusterKeys((KEY,), cluster_name(KEY))
    assert (tmp_path / "cluster.key").stat().st_mode & 0o077 == 0


def test_the_box_follows_from_the_node_key(tmp_path: Path) -> None:
    box = ring(tmp_path).box
    assert ring(tmp_path).box == box
    (tmp_path / KEY_NAME).unlink()
    assert ring(tmp_path).box != box


def test_writers_that_an_older_key_has_attested_are_attested_anew_and_no_others(tmp_path: Path) -> None:
    own, foreign = ring(tmp_path / "a"), ring(tmp_path / "o", Secret(bytes(32)))
    origin, public = origin_of("lan-7", bytes(32))
    before = Author(origin, public, own._ca.attest("lan-7", public))
    guest = Author(origin, public, own._ca.attest("lan-7", public, guest=True))
    renewed = own.renewal(own.new()[1])
    for author in (before, guest):
        now = renewed(author)
        assert now is not None
        assert len(now) == len(author.attestation)
        assert renewed(Author(origin, public, now)) is None
    assert renewed(Author(origin, public, foreign._ca.attest("lan-7", public))) is None
    assert renewed(Author("lan-8" + origin[5:], public, before.attestation)) is None


def test_only_the_key_that_made_the_name_of_the_cluster_is_its_first_one(tmp_path: Path) -> None:
    one = ring(tmp_path)
    assert one.is_first()
    _, key = one.new()
    one.take(key)
    assert not one.is_first()


def test_a_box_counts_by_the_word_of_the_key_that_is_pinned_and_for_one_name_and_cluster(
    tmp_path: Path,
) -> None:
    own, thief = ring(tmp_path / "a"), ring(tmp_path / "b")
    pinned, of_thief = key_in(tmp_path / "a"), key_in(tmp_path / "b")
    proof = own.proof("lan-1", "")
    assert own.proof("lan-1", proof) == proof, "the row of the node comes to rest"
    assert ring(tmp_path / "a").proof("lan-1", "") != proof
    assert thief.proves(proof, own.box, "lan-1", pinned)
    for box, name, key in (
        (thief.box, "lan-1", pinned),
        (own.box, "lan-2", pinned),
        (own.box, "lan-1", of_thief),
        (own.box, "lan-1", ""),
    ):
        assert not thief.proves(proof, box, name, key)
    assert not thief.proves(thief.proof("lan-1", ""), thief.box, "lan-1", pinned)
    assert not ring(tmp_path / "o", Secret(bytes(32))).proves(proof, own.box, "lan-1", pinned)


def test_what_is_no_proof_proves_nothing(tmp_path: Path) -> None:
    own = ring(tmp_path)
    key, _, signature = own.proof("lan-1", "").partition(":")
    foreign = X25519PrivateKey.generate().public_key()
    other = foreign.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()
    for shown in (key, other, "ff", "", "xyz"):
        for signed in (signature[:-2], "00", "", "zz", "ab" * 500):
            pinned = sha256(bytes.fromhex(shown)).hexdigest() if shown != "xyz" else ""
            assert not own.proves(f"{shown}:{signed}", own.box, "lan-1", pinned)
    assert not own.proves(f"{key}:{signature}:{signature}", own.box, "lan-1", key_in(tmp_path))
    assert own.proof("lan-1", f"{key}:00") != f"{key}:00"
