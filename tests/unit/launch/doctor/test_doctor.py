"""A node examined from outside: files, ports, certificates and clouds. No node runs."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from entgldb.actors.tls.certificates import authority, issue
from entgldb.client.health.finding import Look
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.doctor import clouds, machine, outside
from entgldb.launch.doctor.outside import Place
from entgldb.launch.node.init import Plan, init
from entgldb.messages.secret import Secret
from entgldb.storage.store import Store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return init(Plan(tmp_path / "n", "lan-1", host="127.0.0.1")).directory


def codes(look: Look) -> list[str]:
    return [one.code for one in look.findings]


def doctor(directory: Path, capsys: pytest.CaptureFixture[str], *topics: str) -> tuple[int, dict[str, Any]]:
    code = run(entgldb, ["doctor", "-d", str(directory), "--json", *topics])
    return code, json.loads(capsys.readouterr().out)


def test_no_directory_and_a_node_that_is_down(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = doctor(tmp_path / "none", capsys)
    assert (code, list(body["topics"])) == (5, ["node"])
    assert body["topics"]["node"]["findings"][0]["remedy"] == "entgldb init"
    code, body = doctor(directory, capsys, "db", "cloud")
    assert (code, list(body["topics"])) == (5, ["node", "db", "cloud"])
    assert [one["code"] for one in body["topics"]["node"]["findings"]] == ["node-down"]
    assert body["topics"]["db"] == {"facts": {"file": "not made yet"}, "findings": []}
    assert run(entgldb, ["doctor", "-d", str(directory), "nonsense"]) == 2


def test_every_fault_of_the_configuration_is_a_finding(directory: Path) -> None:
    file = directory / "entgldb.toml"
    file.write_text(file.read_text() + "[sync]\ninterval = 'often'\nsomething = 1\n")
    place = Place(directory)
    assert codes(outside.node(place, "")) == ["node-down", "config", "config"]
    assert codes(outside.port(place)) == codes(outside.certificate(place)) == codes(clouds.look(place)) == []


def test_a_certificate_that_is_made_just_now_is_no_finding(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_too_late(file: Path) -> bytes:
        file.touch()
        raise FileNotFoundError(file)

    place = Place(directory)
    assert place.settings.sync.role == "lan"  # type: ignore[union-attr]  # it has no fault
    monkeypatch.setattr(Path, "read_bytes", made_too_late)
    assert codes(outside.certificate(place)) == []


def test_a_directory_that_others_may_read_is_told_with_its_secrets(directory: Path) -> None:
    directory.chmod(0o755)
    (directory / "cluster.key").chmod(0o644)
    found = outside.node(Place(directory), "").findings
    assert [(one.code, one.subject) for one in found[1:]] == [
        ("too-open", str(directory)),
        ("too-open", "cluster.key"),
    ]


def test_the_last_line_counts_what_is_for_knowing_too(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.chmod(0o755)
    assert run(entgldb, ["doctor", "-d", str(directory), "db"]) == 5
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1 finding wants something done; 1 for knowing"


def test_a_node_that_does_not_answer_is_no_node_that_is_down(directory: Path) -> None:
    place = Place(directory)
    place.running, place.record = True, {"pid": 1}
    assert codes(outside.node(place, "no answer in 10 s")) == ["no-answer"]


def test_a_port_that_another_program_has_and_one_that_nobody_has(directory: Path) -> None:
    file = directory / "entgldb.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        text = file.read_text()
        listen = next(line for line in text.splitlines() if line.startswith("listen"))
        file.write_text(text.replace(listen, f'listen = "127.0.0.1:{number}"'))
        assert codes(outside.port(Place(directory))) == ["port-taken"]
    place = Place(directory)
    assert codes(outside.port(place)) == []
    place.running, place.record = True, {"ports": {"sync": number}}
    assert codes(outside.port(place)) == ["port-closed"]


@pytest.mark.parametrize(
    ("days", "running", "found"),
    [
        (0, True, []),
        (-80, True, ["certificate"]),
        (-80, False, []),
        (-120, True, ["certificate"]),
        (31, True, ["certificate"]),
    ],
)
def test_a_certificate_near_its_end_or_not_good_yet(
    directory: Path, days: int, running: bool, found: list[str]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    at = datetime.now(UTC) + timedelta(days=days)
    leaf = issue(authority(Secret(b"k" * 32)), "lan-1", key, at, at)
    (directory / "node.crt").write_bytes(leaf.public_bytes(Encoding.PEM))
    place = Place(directory)
    place.running = running
    look = outside.certificate(place)
    assert codes(look) == found
    assert "entgldb doctor network" not in [one.remedy for one in look.findings], "that is what tells of it"


def test_the_file_is_checked_and_a_broken_one_told(directory: Path) -> None:
    Store.open(directory, "lan-1", 0).close()
    look = machine.db(Place(directory))
    assert (look.facts["quick_check"], look.findings) == ("ok", [])
    file = directory / "entgldb.db"
    data = bytearray(file.read_bytes())
    data[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    file.write_bytes(data)
    assert set(codes(machine.db(Place(directory)))) == {"damaged"}


def test_the_disk_is_measured_and_a_slow_or_a_network_disk_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = machine.disk(Place(directory))
    assert 0 <= look.facts["fsync_ms"] < 250, "in memory it takes less than is told"
    monkeypatch.setattr(machine, "fsync_ms", lambda directory: 250.0)
    monkeypatch.setattr(machine, "file_system", lambda directory, mounts: "nfs4")
    assert codes(machine.disk(Place(directory))) == ["network-disk", "slow-disk"]


def test_a_step_that_failed_is_a_finding_and_one_that_it_kept_from_being_tried_is_none() -> None:
    steps = [
        {"name": "dns", "ok": True, "ms": 1.0, "detail": ""},
        {"name": "tcp", "ok": False, "ms": 5.0, "detail": "unreachable: refused"},
        {"name": "tls", "ok": False, "ms": 0.0, "detail": "not tried: no connection was opened"},
        {"name": "token", "ok": False, "ms": 9.0, "detail": "authority-refused: invalid_client"},
    ]
    assert [(one.code, one.text) for one in clouds.judged("c1", steps)] == [
        ("cloud-connection", "c1, tcp after 5.0 ms: unreachable: refused"),
        ("cloud-token", "c1, token after 9.0 ms: authority-refused: invalid_client"),
    ]


def test_no_new_secret_is_advised_where_the_authority_is_not_there() -> None:
    detail = "authority-unreachable: id.example:443 cannot be reached: Connect call failed"
    (found,) = clouds.judged("c1", [{"name": "token", "ok": False, "ms": 2.0, "detail": detail}])
    assert (found.code, found.remedy) == ("cloud-authority", "entgldb update-peer c1 --authority")
