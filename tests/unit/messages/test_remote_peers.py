"""Peer documents: the promised five fields, either spelling inside OAuth2Json, errors that name the field."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import (
    DRIFT_MS_MAX,
    PEER_RATE_MAX,
    PEER_RATE_MIN,
    PEM_BYTES_MAX,
    SECRET_OVERLAP_MS_MAX,
)
from entgldb.messages.remote_peers import (
    OAuth2,
    PeerType,
    RemotePeer,
    check_peer,
    is_reference,
    read_peer,
    split_address,
)

OAUTH2 = OAuth2("https://identity.example.com", "lan-cluster-client", "env:SECRET", ("entgldb:sync",))
PEER = RemotePeer("cloud-node-1", "remote.example.com:9000", PeerType.CLOUD_REMOTE, OAUTH2, True)


def test_the_document_has_the_five_promised_fields() -> None:
    document = PEER.to_document()
    assert list(document) == ["NodeId", "Address", "Type", "OAuth2Json", "IsEnabled"]
    assert document["Type"] == 2
    assert read_peer(document) == PEER


def test_pascal_case_inside_oauth2json_is_read() -> None:
    document = PEER.to_document()
    camel = json.loads(str(document["OAuth2Json"]))
    pascal = {key[0].upper() + key[1:]: value for key, value in camel.items()}
    assert read_peer({**document, "OAuth2Json": json.dumps(pascal)}) == PEER


@pytest.mark.parametrize(
    ("until", "counts", "over"),
    [
        (0, False, True),
        (1, True, False),
        (SECRET_OVERLAP_MS_MAX + DRIFT_MS_MAX, True, False),
        (SECRET_OVERLAP_MS_MAX + DRIFT_MS_MAX + 1, False, False),
        (2**62, False, False),
    ],
)
def test_a_secret_before_counts_no_longer_than_anybody_may_set(until: int, counts: bool, over: bool) -> None:
    now = 1_800_000_000_000
    before = {"Secret": "env:BEFORE", "Until": now + until}
    oauth2 = read_peer({**PEER.to_document(), "PreviousSecret": before}).oauth2
    assert oauth2 is not None
    assert (oauth2.overlaps(now), oauth2.is_over(now)) == (counts, over)


def test_unknown_fields_are_kept() -> None:
    document = {**PEER.to_document(), "Interests": ["users"]}
    assert read_peer(document).to_document() == document


@pytest.mark.parametrize("field", ["NodeId", "Address", "Type", "IsEnabled"])
def test_a_missing_field_is_named(field: str) -> None:
    document = PEER.to_document()
    del document[field]
    with pytest.raises(InvalidError, match=field):
        read_peer(document)


@pytest.mark.parametrize(
    ("peer", "field"),
    [
        (replace(PEER, node_id="_x"), "NodeId"),
        (replace(PEER, address="nowhere"), "Address"),
        (replace(PEER, address="host:70000"), "Address"),
        (replace(PEER, oauth2=None), "OAuth2"),
        (replace(PEER, oauth2=replace(OAUTH2, authority="http://identity.example.com")), "authority"),
        (replace(PEER, oauth2=replace(OAUTH2, client_id="")), "clientId"),
        (replace(PEER, oauth2=replace(OAUTH2, ca_pem="x" * (PEM_BYTES_MAX + 1))), "caPem"),
        (replace(PEER, oauth2=replace(OAUTH2, client_secret="in-clear")), "clientSecret"),
        (replace(PEER, oauth2=replace(OAUTH2, scopes=("two words",))), "scopes"),
        (replace(PEER, oauth2=replace(OAUTH2, token_endpoint="ftp://x")), "tokenEndpoint"),
    ],
)
def test_a_bad_field_is_named(peer: RemotePeer, field: str) -> None:
    with pytest.raises(InvalidError, match=field):
        check_peer(peer)


def test_http_is_accepted_on_loopback_only() -> None:
    check_peer(replace(PEER, oauth2=replace(OAUTH2, authority="http://127.0.0.1:8080")))
    with pytest.raises(InvalidError):
        check_peer(replace(PEER, oauth2=replace(OAUTH2, authority="http://127.0.0.1.example.com")))


def test_addresses() -> None:
    assert split_address("[::1]:9000") == ("::1", 9000)
    assert split_address("remote.example.com:9000") == ("remote.example.com", 9000)


def test_references() -> None:
    assert is_reference("env:CLOUD_SECRET")
    assert is_reference("file:/run/secrets/cloud")
    assert not is_reference("secret")
    assert not is_reference("env:")


def test_secrets_are_not_in_the_text_of_a_peer() -> None:
    assert "SECRET" not in repr(PEER)


def test_the_method_of_a_client_is_kept_in_the_document() -> None:
    by_key = replace(PEER.oauth2, client_secret="", auth_method="private_key_jwt")
    document = replace(PEER, oauth2=by_key).to_document()
    assert json.loads(str(document["OAuth2Json"]))["tokenEndpointAuthMethod"] == "private_key_jwt"
    assert read_peer(document).oauth2 == by_key


@pytest.mark.parametrize(
    ("method", "secret"),
    [("private_key_jwt", "sealed:v1:aa:bb"), ("tls_client_auth", ""), ("PRIVATE_KEY_JWT", "")],
)
def test_a_method_that_cannot_be_is_refused(method: str, secret: str) -> None:
    with pytest.raises(InvalidError):
        check_peer(replace(PEER, oauth2=replace(PEER.oauth2, client_secret=secret, auth_method=method)))


def test_a_limit_is_of_cloud_peers_and_neither_tiny_nor_negative() -> None:
    oauth2 = OAuth2("https://id.example.com", "me")
    cloud = RemotePeer("c", "h:1", PeerType.CLOUD_REMOTE, oauth2, True, PEER_RATE_MIN)
    assert read_peer(cloud.to_document()) == cloud
    assert "MaxBytesPerSecond" not in replace(cloud, max_rate=0).to_document()
    for rate in (PEER_RATE_MIN - 1, -5, PEER_RATE_MAX + 1):
        with pytest.raises(InvalidError, match="MaxBytesPerSecond is 0"):
            check_peer(replace(cloud, max_rate=rate))
    with pytest.raises(InvalidError, match="no cloud peer"):
        check_peer(RemotePeer("s", "h:1", PeerType.STATIC_REMOTE, None, True, PEER_RATE_MIN))
