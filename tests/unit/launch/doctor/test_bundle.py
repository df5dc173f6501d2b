"""The file for whoever helps: all that is needed, and nothing secret."""

from __future__ import annotations

import errno
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entgldb.client.database import Database
from entgldb.client.forms import found
from entgldb.launch.doctor.bundle import write
from entgldb.launch.doctor.redacting import REMOVED, text_without, without

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
CANARIES = ("canary-body", "canary-key", "canary-secret", "canary-environment", JWT)


def test_secrets_are_known_by_their_form_their_value_and_their_name() -> None:
    text = f"Authorization: Bearer abc123, {JWT}, sealed:v1:k1:AAAA==, https://u:pass@h/x, my-secret"
    cleaned = text_without(text, ["my-secret", "x"])
    assert (
        cleaned == f"Authorization: Bearer {REMOVED}, {REMOVED}, {REMOVED}, https://{REMOVED}@h/x, {REMOVED}"
    )
    pem = "a -----BEGIN EC PRIVATE KEY-----\nMIG\n-----END EC PRIVATE KEY----- b"
    assert text_without(pem) == f"a {REMOVED} b"
    value: dict[str, Any] = {"clientSecret": "s", "keys": [["users", "k"]], "token_expires": 5, "n": None}
    value["peers"] = [{"a": JWT}]
    assert without(value) == {
        "clientSecret": REMOVED,
        "keys": REMOVED,
        "token_expires": 5,
        "peers": [{"a": REMOVED}],
        "n": None,
    }


def test_a_bundle_that_a_full_disk_cut_short_is_not_left(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.zip"
    monkeypatch.setattr("entgldb.launch.doctor.bundle.examine", lambda *_, **__: {})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(OSError, match="No space left"):
            write(directory, file)
    assert not file.exists()
    assert "doctor.json" in write(directory, file)


def test_no_secret_key_token_or_document_is_in_the_bundle_of_a_node(
    directory: Path, db: Database, says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-environment")
    db["users"].put("canary-key", {"text": "canary-body"})
    db["users"].create_index("text", where={"text": "canary-body"})
    for node_id, secret in (("c1", "canary-secret"), ("c2", "env:CANARY")):
        db.peers.add_cloud_peer(
            node_id, "127.0.0.1:1", authority="http://127.0.0.1:1", client_id="me", client_secret=secret
        )
    says("log-level", "debug")
    db["users"].put("canary-key", {"text": "canary-body 2"})
    monkeypatch.setattr(found, "SLOW_SECONDS", 0.0)
    assert db["users"].count({"text": "canary-body 2"}) == 1
    with (directory / "log" / "entgldb.log").open("a") as log:
        log.write(f"what must not stand here: {JWT} canary-environment\n")
    file = tmp_path / "node.zip"
    assert "doctor.json" in says("diag", "-o", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cluster_key = (directory / "cluster.key").read_bytes()
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name, part in parts.items():
        for canary in (*(one.encode() for one in CANARIES), cluster_key.strip(), cluster_key.hex().encode()):
            assert canary not in part, f"{canary!r} in {name}"
    assert json.loads(parts["status.json"])["node_id"] == "lan-1"
    configured = json.loads(parts["configuration.json"])
    assert configured["node.id"] == {"value": "lan-1", "origin": "entgldb.toml"}
    assert configured["sync.interval"] == {"value": 2.0, "origin": "default"}
    assert [peer["held_as"] for peer in json.loads(parts["remote_peers.json"])] == ["sealed", "env"]
    assert json.loads(parts["indexes.json"])[0]["collection"] == "users"
    assert b" is committed as lan-1/" in parts["log/entgldb.log"]
    assert b'"filter": {"text": "text"}' in parts["log/slow-queries.log"]
    assert "is there already" in says("diag", "-o", str(file), code=1)
    says("log-level", "configured")
