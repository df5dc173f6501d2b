"""Entries that cannot be applied, and held ones, between real nodes: shown and settled by the command
line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entgldb.actors.cluster_key import read_cluster_key
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb
from entgldb.launch.playground.cluster import Member, Playground
from entgldb.messages.client import ReleaseOrigin, RequestId, Write
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import Author, Entry, node_of
from entgldb.storage.rules.header import decode, digest, encode
from entgldb.storage.store import Store
from tests.support.keys import Writer, ends_of_groups
from tests.system.support.processes import until

pytestmark = pytest.mark.slow
KEYS = ("good", "bad", "also-good")
CARELESS_SEED, EARLY_SEED = b"\7" * 32, b"\5" * 32
CARELESS, EARLY = Writer("careless", CARELESS_SEED), Writer("early", EARLY_SEED)


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
    writer = Store.memory("early", EARLY_SEED, now_ms)
    with writer.group():
        writer.write(RequestId(b"e" * 16, 1), [Write("notes", "early", b'{"n":2}')], now_ms + 3_600_000)
    found = [Entry(row.header, row.body) for row in writer.rows(1, 1)]
    writer.close()
    return ends_of_groups(found, EARLY)


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    with Playground(tmp_path) as made:
        made.make_lan(2)
        now_ms = time.time_ns() // 1_000_000
        store = Store.open(made.lan[0].directory, "lan-1", now_ms)
        ca = CaOfCluster(read_cluster_key(made.lan[0].directory / "cluster.key"))
        with store.group():
            for entries, writer in ((history(now_ms), CARELESS), (ahead(now_ms), EARLY)):
                assert store.apply(entries, now_ms).refused == ""
                attestation = ca.attest(node_of(writer.origin), writer.public_key)
                store.keep_authors([Author(writer.origin, writer.public_key, attestation)])
        store.close()
        made.start()
        yield made


def said(capsys: pytest.CaptureFixture[str], member: Member, *arguments: str) -> dict[str, object]:
    """The JSON that a verb prints."""
    assert run(entgldb, [arguments[0], "-d", str(member.directory), "--json", *arguments[1:]]) == 0
    body: dict[str, object] = json.loads(capsys.readouterr().out)
    return body


def words(capsys: pytest.CaptureFixture[str], member: Member, *arguments: str) -> str:
    """The text that a verb prints for a person."""
    run(entgldb, [arguments[0], "-d", str(member.directory), *arguments[1:]])
    return capsys.readouterr().out


def test_one_bad_document_stops_nothing_and_an_operator_settles_it(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = playground.lan
    until(lambda: there.db["notes"].get("also-good"), 15.0, "what comes behind the bad one")
    assert there.db["notes"].get("bad") is None
    for member in playground.lan:
        (found,) = member.db.quarantine()
        assert (found.collection, found.key, found.reason) == ("notes", "bad", "invalid")
    assert "entgldb quarantine" in words(capsys, there, "status")
    assert "notes bad: invalid, a document is not a JSON object but an array" in words(
        capsys, there, "quarantine"
    )
    origin, seq = found.version
    assert run(entgldb, ["quarantine", "-d", str(there.directory), "--retry", origin, str(seq)]) == 2
    assert "cannot be applied still" in capsys.readouterr().err
    dropped = said(capsys, there, "quarantine", "--drop", origin, str(seq))
    assert (dropped["outcome"], said(capsys, there, "quarantine")["quarantine"]) == ("dropped", [])
    assert len(here.db.quarantine()) == 1
    there.db["notes"].put("bad", {"n": 3})
    until(lambda: here.db["notes"].get("bad"), 10.0, "the key again")


def test_what_is_held_is_shown_and_released(
    playground: Playground, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = playground.lan
    (waiting,) = here.db.held()
    assert waiting.entries == 1
    assert waiting.first_due_ms == pytest.approx(time.time() * 1000 + 3_600_000 - DRIFT_MS_MAX, abs=60_000)
    assert f"{waiting.origin}: 1 entries, the first is due 2" in words(capsys, here, "held")
    assert said(capsys, here, "held", "--release", waiting.origin)["released"] == 1
    assert here.db["notes"].get("early") == {"n": 2}
    assert here.db.held() == []
    # by the clock of the other it is as early as before
    until(lambda: there.db.held(), 10.0, "the same on the other")
    there.db.request(ReleaseOrigin(waiting.origin))
    assert there.db["notes"].get("early") == {"n": 2}
    assert said(capsys, there, "clock")["state"] == "ok"
