"""``entgldb audit`` on a node that runs and on one that does not, by HTTP, and on the page."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from entgldb.client.aio.database import connect
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.messages.limits import AUDIT_BURST
from entgldb.storage.file.open import FILE
from entgldb.storage.store import Store
from entgldb.web.app import application
from entgldb.web.door.tokens import Tokens
from tests.unit.web.serving import served

Says = Callable[..., str]
pytestmark = pytest.mark.slow


def rows(says: Says, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(says("audit", "--json", *arguments))["rows"]
    return found


def test_acts_by_verbs_and_by_http_are_told_with_their_doers(
    says: Says, directory: Path, db: Database
) -> None:
    says("add-static-peer", "--node-id", "lan-7", "--address", "127.0.0.1:9")
    says("http-token", "add", "ops", "--scope", "admin")
    with served(directory) as http:
        assert http.put("/v1/collections/users/rule", json={"conflict": "merge"}).status_code == 200
        told = http.get("/v1/audit", params={"limit": 2}).json()["rows"]
        page = http.get("/ui/upkeep", headers={"HX-Request": "true"}).text
    found = [(row["event"], row["subject"], row["outcome"]) for row in rows(says, "--since", "1h")]
    acts = [row for row in found if row[0] not in ("leader", "received")]
    assert acts == [
        ("peer", "lan-7", "added"),
        ("http-token", "ops", "made for admin"),
        ("rule", "users", "conflict merge"),
    ]
    whole = {row["event"]: row for row in rows(says)}
    assert whole["peer"]["who"].startswith("uid ")
    assert whole["rule"]["who"].startswith("http 127.0.0.1 by uid ")
    assert len(whole["http-token"]["key_id"]) == 12
    # the node may have been elected meanwhile
    assert len(told) == 2
    assert whole["rule"] in told
    assert "conflict merge" in page
    assert whole["rule"] in db.audit(2)
    assert "rule, users, conflict merge, by http 127.0.0.1" in says("audit")


def test_a_log_that_is_whole_is_proved_and_a_noted_row_is_looked_for(says: Says) -> None:
    head = json.loads(says("audit", "--verify", "--json"))["newest"]
    says("pause", "lan")
    says("resume", "lan")
    assert "is whole" in says("audit", "--verify", "--noted", head)
    number, _, _ = head.partition(":")
    assert run(command, ["audit", "--verify", "--noted", f"{number}:{'0' * 64}", "-d", "."]) != 0


def test_a_node_that_is_down_is_read_and_told_of_what_is_done_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert run(command, [*arguments, "-d", str(tmp_path)]) == code
        return capsys.readouterr().out

    said("init", "--node-id", "lan-1")
    said("http-token", "add", "early")  # there is no file yet to write it into
    Store.open(tmp_path, "lan-1", 1).close()
    assert said("audit") == ""
    said("http-token", "add", "ops")
    said("http-token", "revoke", "ops")
    lines = said("audit").splitlines()
    assert [line.split(", ")[1:3] for line in lines] == [["ops", "made for read"], ["ops", "withdrawn"]]
    assert lines[0].split(", ")[3] == lines[1].split(", ")[3]
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE _entgldb_audit SET subject = 'x' WHERE number = 1")
    connection.close()
    assert "row 1 is not what was written" in said("audit", "--verify", code=1)


def test_the_name_of_a_token_is_told_and_refused_ones_have_few_rows(says: Says, directory: Path) -> None:
    token = says("http-token", "add", "keeper", "--scope", "admin").strip()

    async def asked() -> list[int]:
        place, rule, codes = "/v1/collections/kept/rule", {"conflict": "merge"}, []
        async with connect(directory) as db:
            app = application(db, tokens=Tokens(directory))
            transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                for one in ["wrong"] * (AUDIT_BURST + 20) + [token]:
                    headers = {"Authorization": f"Bearer {one}"}
                    codes.append((await http.put(place, json=rule, headers=headers)).status_code)
        return codes

    assert asyncio.run(asked()) == [401] * (AUDIT_BURST + 20) + [200]
    found = rows(says)
    assert [row["who"].partition(" by ")[0] for row in found if row["subject"] == "kept"] == [
        "http-token keeper"
    ]
    refused = [row for row in found if row["event"] == "token"]
    assert [(row["subject"], row["outcome"]) for row in refused] == [
        ("http 192.0.2.7", "token-refused")
    ] * AUDIT_BURST
