"""Certificates of a cluster, and real handshakes between those who hold its key and those who do not."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from entgldb._version import BUILT_MS
from entgldb.actors.cluster_key import ClusterKeys, read_cluster_keys
from entgldb.actors.tls import identity as tls
from entgldb.actors.tls.certificates import authority, cluster_name, node_id_in
from entgldb.actors.tls.identity import LanIdentity, ServerIdentity, classify, cloud_context
from entgldb.messages.errors import ConfigError, ProtocolError, Reason
from entgldb.messages.secret import Secret

KEY, OTHER_KEY = Secret(bytes(range(32))), Secret(bytes(32))
NOW = datetime.now(UTC)
LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)


def identity(
    folder: Path, node_id: str = "lan-1", key: Secret = KEY, now: datetime | None = None
) -> LanIdentity:
    folder.mkdir(exist_ok=True)
    (folder / "cluster.key").write_bytes(key.reveal())
    return LanIdentity.load(folder, folder / "cluster.key", node_id, now)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None
) -> tuple[Reason | None, Reason | None]:
    """One handshake and one byte each way over real sockets; how each side ended."""
    ours, theirs = socket.socketpair()
    found: list[Reason | None] = [None, None]

    def run(side: int, raw: socket.socket, context: ssl.SSLContext) -> None:
        raw.settimeout(10)
        try:
            with context.wrap_socket(
                raw, side == 0, do_handshake_on_connect=False, server_hostname=name if side else None
            ) as link:
                link.do_handshake()
                link.sendall(b"x")
                if link.recv(1) != b"x":
                    found[side] = Reason.PEER_CLOSED
        except OSError as fault:
            found[side] = classify(fault)[0]

    thread = threading.Thread(target=run, args=(0, ours, server))
    thread.start()
    run(1, theirs, client)
    thread.join()
    return found[0], found[1]


def test_the_authority_follows_from_the_key_alone() -> None:
    first, second = authority(KEY), authority(KEY)
    assert first.pem == second.pem
    assert first.cluster == cluster_name(KEY) != cluster_name(OTHER_KEY)
    assert first.certificate.serial_number == 1
    assert first.certificate.subject.rfc4514_string() == f"CN=entgldb {first.cluster}"
    assert first.certificate.not_valid_before_utc == datetime(1970, 1, 1, tzinfo=UTC)
    assert first.certificate.not_valid_after_utc.year == 9999
    assert first.cluster == "34a580427dd7fe2a"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_cluster_key_has_32_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cluster.key"
    path.write_bytes(bytes(size))
    with pytest.raises(ConfigError, match=r"cluster\.key"):
        read_cluster_keys(path)
    with pytest.raises(ConfigError, match="32 bytes"):
        cluster_name(Secret(bytes(size)))


def test_an_unreadable_cluster_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.key"):
        LanIdentity.load(tmp_path, tmp_path / "nowhere.key", "lan-1")


def test_the_identity_is_kept_and_private(tmp_path: Path) -> None:
    identity(tmp_path)
    before = (tmp_path / "node.crt").read_bytes(), (tmp_path / "node.key").read_bytes()
    for name in ("node.crt", "node.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    identity(tmp_path)
    assert before == ((tmp_path / "node.crt").read_bytes(), (tmp_path / "node.key").read_bytes())
    leaf = x509.load_pem_x509_certificate(before[0])
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=120)


@pytest.mark.parametrize(
    ("node_id", "key", "days", "renewed"),
    [
        ("lan-1", KEY, 59, False),
        ("lan-1", KEY, 61, True),
        ("lan-1", KEY, -29, False),
        ("lan-1", KEY, -31, True),
        ("lan-2", KEY, 0, True),
        ("lan-1", OTHER_KEY, 0, True),
    ],
)
def test_a_leaf_is_renewed_when_due_or_foreign(
    tmp_path: Path, node_id: str, key: bytes, days: int, renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_BUILT", LONG_AGO)
    identity(tmp_path, now=NOW)
    before = (tmp_path / "node.crt").read_bytes()
    identity(tmp_path, node_id, key, NOW + timedelta(days=days))
    assert ((tmp_path / "node.crt").read_bytes() != before) is renewed


IN_1970 = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


def leaf(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "node.crt").read_bytes())


def test_a_clock_that_does_not_know_the_time_replaces_no_certificate(tmp_path: Path) -> None:
    identity(tmp_path, now=NOW + timedelta(days=400))
    before = leaf(tmp_path)
    made = identity(tmp_path, now=IN_1970)
    assert leaf(tmp_path) == before
    assert not made.renew_if_due(IN_1970)
    assert not made.renew_if_due(NOW + timedelta(days=401))


def test_a_new_node_in_1970_has_a_certificate_as_of_the_release_and_one_of_today_when_it_knows(
    tmp_path: Path,
) -> None:
    made = identity(tmp_path, now=IN_1970)
    built = datetime.fromtimestamp(BUILT_MS / 1000, UTC)
    assert leaf(tmp_path).not_valid_before_utc == built - timedelta(days=30)
    today = built + timedelta(days=500)
    assert made.renew_if_due(today)
    assert leaf(tmp_path).not_valid_before_utc == today - timedelta(days=30)


def test_a_certificate_is_good_at_the_latest_time_that_was_stored(tmp_path: Path) -> None:
    stored = datetime.fromtimestamp(BUILT_MS / 1000, UTC) + timedelta(days=500)
    known_ms = int(stored.timestamp() * 1000)
    LanIdentity(tmp_path, lambda: ClusterKeys((KEY,)), "lan-1", IN_1970, known_ms)
    assert leaf(tmp_path).not_valid_before_utc < stored < leaf(tmp_path).not_valid_after_utc


@pytest.mark.parametrize("name", ["node.crt", "node.key"])
def test_a_damaged_file_is_replaced(tmp_path: Path, name: str) -> None:
    identity(tmp_path)
    (tmp_path / name).write_text("damaged")
    made = identity(tmp_path)
    assert handshake(made.server, made.client) == (None, None)


def test_members_of_one_cluster_know_each_other_by_certificate(tmp_path: Path) -> None:
    one, two = identity(tmp_path / "a"), identity(tmp_path / "b", "lan-2")
    assert handshake(one.server, two.client) == (None, None)
    assert one.peer_of({"subjectAltName": (("URI", f"entgldb://{one.cluster}/node/lan-2"),)}) == "lan-2"


@pytest.mark.parametrize(
    "names",
    [(), (("URI", "entgldb://feed/node/x"),), (("DNS", "lan-2"),), (("URI", "entgldb://CLUSTER/node/"),)],
)
def test_a_certificate_without_a_node_of_this_cluster_is_refused(
    tmp_path: Path, names: tuple[tuple[str, str], ...]
) -> None:
    made = identity(tmp_path)
    given = tuple((kind, name.replace("CLUSTER", made.cluster)) for kind, name in names)
    with pytest.raises(ProtocolError, match="names no node"):
        made.peer_of({"subjectAltName": given})
    with pytest.raises(ProtocolError, match="names no node"):
        made.peer_of(None)


def test_a_node_id_survives_its_uri() -> None:
    assert node_id_in("entgldb://c/node/lan-1.A_b", "c") == "lan-1.A_b"


def test_another_key_is_refused_by_both_sides(tmp_path: Path) -> None:
    ours, strange = identity(tmp_path / "a"), identity(tmp_path / "b", key=OTHER_KEY)
    assert handshake(ours.server, strange.client) == (Reason.TLS_REFUSED, Reason.TLS_REFUSED)
    assert handshake(strange.server, ours.client) == (Reason.TLS_REFUSED, Reason.TLS_REFUSED)
    # the server itself refuses too, were the client blind
    blind = strange.client
    blind.verify_mode = ssl.CERT_NONE
    assert handshake(ours.server, blind)[0] == Reason.TLS_REFUSED


def test_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    made = identity(tmp_path)
    naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    naked.check_hostname = False
    naked.load_verify_locations(cadata=authority(KEY).pem)
    assert handshake(made.server, naked)[0] == Reason.TLS_REFUSED


def test_older_tls_is_refused(tmp_path: Path) -> None:
    made = identity(tmp_path)
    old = identity(tmp_path).client
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(made.server, old) == (Reason.TLS_REFUSED, Reason.TLS_REFUSED)


@pytest.mark.parametrize("days", [-100, 40])
def test_a_certificate_outside_its_time_is_reported_as_clock(
    tmp_path: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_BUILT", LONG_AGO)
    ours, off = identity(tmp_path / "a"), identity(tmp_path / "b", "lan-2", now=NOW + timedelta(days=days))
    assert handshake(off.server, ours.client)[1] == Reason.CLOCK
    assert handshake(ours.server, off.client)[0] == Reason.CLOCK
    if days < 0:
        assert handshake(off.server, ours.client)[0] == Reason.CLOCK


def test_the_cloud_asks_for_no_client_certificate_and_is_verified_by_name(tmp_path: Path) -> None:
    identity(tmp_path)
    server = ServerIdentity(tmp_path / "node.crt", tmp_path / "node.key").server
    client = cloud_context(authority(KEY).pem)
    assert handshake(server, client, "cloud.example.com")[1] == Reason.TLS_REFUSED
    client.check_hostname = False
    assert handshake(server, client) == (None, None)
    client = cloud_context(authority(OTHER_KEY).pem)
    client.check_hostname = False
    assert handshake(server, client)[1] == Reason.TLS_REFUSED


def test_a_wrong_server_certificate_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    identity(tmp_path)
    with pytest.raises(ConfigError, match=r"missing\.crt"):
        ServerIdentity(tmp_path / "missing.crt", tmp_path / "node.key")
    (tmp_path / "bad.key").write_text("bad")
    with pytest.raises(ConfigError, match=r"bad\.key"):
        ServerIdentity(tmp_path / "node.crt", tmp_path / "bad.key")


def test_a_ca_pem_without_a_certificate_is_an_ssl_error() -> None:
    with pytest.raises(ssl.SSLError):
        cloud_context("no certificate")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), Reason.UNREACHABLE),
        (socket.gaierror(-2, "Name or service not known"), Reason.UNREACHABLE),
        (TimeoutError(), Reason.UNREACHABLE),
        (ConnectionAbortedError("SSL handshake is taking longer"), Reason.HANDSHAKE_TIMEOUT),
        (ConnectionResetError(), Reason.PEER_CLOSED),
        (OSError(113, "No route to host"), Reason.UNREACHABLE),
    ],
)
def test_every_failure_has_its_reason(fault: Exception, reason: Reason) -> None:
    found, text = classify(fault)
    assert found is reason
    assert text
