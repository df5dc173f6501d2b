"""Hostile kinds of input that each door refuses by an error of ours, whatever stands behind the door.

``docs/security.md`` has the table: which kind is crossed at which door, and where.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from zeroconf import ServiceStateChange

from entgldb.actors.host import wire as host_wire
from entgldb.actors.host.freshness import Freshness
from entgldb.actors.host.log import LogFile
from entgldb.actors.oauth.authority import json_object
from entgldb.actors.oauth.http import Answer, AuthorityError
from entgldb.actors.oauth.resource_server import TokenError, verify
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.sync import discovery
from entgldb.actors.sync.discovery import ADDRESSES_MAX, LOOKUPS_MAX, Discovery
from entgldb.client.wire import framed
from entgldb.launch.joining.exchange import Host, JoinError
from entgldb.messages import codec
from entgldb.messages.administration import Event
from entgldb.messages.client import Piece, Ping, Relay, RequestId, Write
from entgldb.messages.errors import ConfigError, CorruptError, EntglError, InvalidError, ProtocolError
from entgldb.messages.framing import FrameReader
from entgldb.messages.limits import (
    ANNOUNCED_MAX,
    AUDIT_PRUNED_ROWS,
    AUDIT_ROWS_MAX,
    BODY_BYTES_MAX,
    DEPTH_MAX,
    FRAME_BYTES_MAX,
    INDEX_NAME_CHARS_MAX,
    INDEX_PATHS_MAX,
    INDEX_WHERE_BYTES_MAX,
    PIECE_BYTES_MAX,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
)
from entgldb.messages.model import Author, check_collection, check_node_id
from entgldb.messages.schema import Channel
from entgldb.messages.secret import Secret
from entgldb.messages.settings import SyncSettings
from entgldb.messages.strict_json import read_object
from entgldb.messages.tenants import check_tenant
from entgldb.storage.audit.rows import Act
from entgldb.storage.audit.trail import Trail
from entgldb.storage.authorship.keys import is_signed
from entgldb.storage.recovery import backup
from entgldb.storage.rules.authorship import fits
from entgldb.storage.rules.comparing.chunks import decode_preface, decode_rows
from entgldb.storage.rules.header import decode as decode_header
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.store import Store
from tests.unit.actors.oauth import test_jwt

NOW = 1_790_000_000_000
CLUSTER = "00ff00ff00ff00ff"
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "not an object": b"[1]",
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "beyond a double": b'{"a":1e999}',
    "a name twice": b'{"a":1,"a":2}',
    "a name twice within": b'{"b":[{"a":1,"a":2}]}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "an overlong form": b'{"a":"\xc0\xaf"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "half a pair": b'{"a":"\\ud800"}',
    "NUL": b'{"a":"\\u0000"}',
    "too deep": b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
    "recursion": b'{"a":' + b"[" * 100_000,
    "two values": b'{"a":1}{"b":2}',
    "a comment": b'{"a":1}//',
    "a bare word": b"{a:1}",
    "too large": b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}',
}
GOOD = '{"a":[1,-2.5,"é",{"b":null}],"c":true}'.encode()


def commit(body: bytes) -> None:
    """A write as it comes through the socket of a node."""
    store = Store.memory("n1", b"1" * 32, NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("c", "k", body)], NOW)


def text(body: bytes) -> None:
    """As HTTP, imports, MQTT and verbs read one."""
    given = body.decode("utf-8") if b"\xff" not in body and b"\xc0" not in body else ""
    if len(body) > BODY_BYTES_MAX:
        raise InvalidError("the door counts its bytes before it reads them")
    read_object(given, "the document")


DOORS: dict[str, Callable[[bytes], None]] = {"client socket": commit, "text": text}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_that_is_no_document_is_refused(door: str, kind: str) -> None:
    with pytest.raises(EntglError) as refused:
        DOORS[door](TEXTS[kind])
    assert refused.value.text.isprintable()
    assert len(refused.value.text) < 300


@pytest.mark.parametrize("door", DOORS)
def test_a_document_that_is_cut_at_any_byte_is_refused(door: str) -> None:
    DOORS[door](GOOD)
    for end in range(len(GOOD)):
        with pytest.raises((EntglError, UnicodeDecodeError)):
            DOORS[door](GOOD[:end])


@pytest.mark.parametrize("cls", codec.known_messages().values(), ids=lambda cls: cls.__name__)
def test_a_message_of_any_kind_that_is_cut_or_of_another_channel_is_refused(cls: Any) -> None:
    packed: bytes = msgpack.packb([cls.TAG, 0])
    for end in range(len(packed)):
        with pytest.raises(ProtocolError):
            codec.decode(packed[:end], Channel.LOCAL)
    for channel in (Channel.PEER, Channel.CLIENT):
        if not cls.CHANNELS & channel:
            with pytest.raises(EntglError):
                codec.decode(packed, channel)


@pytest.mark.parametrize("tag", [-1, 255, 2**31, 2**63, 2**64 - 1, "4", None, [4], 4.0, True])
def test_an_unknown_tag_is_refused(tag: object) -> None:
    for channel in (Channel.PEER, Channel.CLIENT, Channel.LOCAL):
        with pytest.raises(EntglError):
            codec.decode(msgpack.packb([tag, 0]), channel)


@pytest.mark.parametrize("decode", [decode_preface, decode_header, lambda data: decode_rows(data, HEAD)])
def test_a_chunk_or_header_that_is_no_such_thing_is_refused(decode: Callable[[bytes], object]) -> None:
    packed = [[], {}, "x", 5, None, [None] * 20, [2, 1, [[]]], [2, 2**62, []], [1, 1, "x"]]
    kinds = [*map(msgpack.packb, packed), msgpack.packb([float("nan")] * 4)]
    kinds += [b"", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xa1\xff"]
    for data in kinds:
        with pytest.raises(ProtocolError):
            decode(data)


HEAD: Any = SimpleNamespace(marks=(), clock=0)


@pytest.fixture
def actors() -> Iterator[None]:
    before = host_wire.Serializer.key, host_wire.Serializer.freshness
    host_wire.Serializer.key, host_wire.Serializer.freshness = Secret(bytes(32)), Freshness(0)
    host_wire.Serializer.freshness.listens(4711)
    yield
    host_wire.Serializer.key, host_wire.Serializer.freshness = before


@pytest.mark.usefixtures("actors")
def test_a_frame_between_actors_that_is_cut_or_changed_at_any_byte_is_refused() -> None:
    serializer = host_wire.Serializer
    said = (host_wire.address_of(1), host_wire.Envelope(host_wire.ASK, codec.encode(Ping())))
    frame = serializer.dumps(said, 4711)
    for at in range(len(frame)):
        changed = frame[:at] + bytes([frame[at] ^ 0x41]) + frame[at + 1 :]
        for bad in (frame[:at], changed):
            with pytest.raises(pickle.UnpicklingError):
                serializer.loads(bad)
    assert serializer.loads(frame)


def test_a_token_that_is_cut_or_changed_anywhere_is_refused() -> None:
    good = test_jwt.token()
    assert verify(good, test_jwt.KEYS, test_jwt.RULES)
    for at in range(len(good)):
        changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        for bad in (good[:at], changed):
            with pytest.raises(TokenError):
                verify(bad, test_jwt.KEYS, test_jwt.RULES)


def test_an_answer_of_an_authority_that_is_no_object_is_its_fault() -> None:
    good = b'{"issuer":"https://id.example","jwks_uri":"https://id.example/k"}'
    assert json_object("https://id.example", Answer(200, {}, good))
    kinds = [b"", b"[]", b"5", b'"x"', b"\xff\xfe{", b"[" * 100_000, b'{"a":' * 50_000, good[:-1]]
    for body in kinds:
        with pytest.raises(AuthorityError) as fault:
            json_object("https://id.example", Answer(200, {}, body))
        assert fault.value.text.isprintable()


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0", b"entgldb join 1", b"entgldb join 1\n", b"entgldb join 2\n" + b"A" * 33, b"\xff" * 4096],
)
def test_what_is_no_first_frame_of_a_guest_is_refused(frame: bytes) -> None:
    with pytest.raises(JoinError):
        Host(Secret(b"12345")).greet(frame)


NAMES = [
    "../x",
    "..",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "x'; DROP TABLE _entgldb_documents; --",
    'x"',
    "a\0b",
    "a\nb",
    "a\r\nSet-Cookie: x",
    "\x1b[2J",
    "\u202e",
    "é",
    "a b",
    "x" * 10_000,
    "",
    "${HOME}",
    "%2e%2e",
]


@pytest.mark.parametrize(
    "check", [check_collection, lambda name: check_node_id(name, "node id"), check_tenant]
)
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_is_a_path_sql_or_a_control_sequence_is_refused(
    check: Callable[[str], object], name: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        check(name)
    assert refused.value.text.isprintable()
    assert len(refused.value.text) < 300


@pytest.mark.parametrize("key", [name for name in NAMES if name and "\0" not in name and len(name) < 500])
def test_a_key_that_is_sql_or_a_path_is_a_text(key: str) -> None:
    store = Store.memory("n1", b"1" * 32, NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("c", key, json.dumps({"v": key}).encode())], NOW)
    assert json.loads(store.get("c", key) or b"") == {"v": key}
    assert store.connection.execute("SELECT key FROM _entgldb_documents").fetchall() == [(key,)]


def test_a_line_of_the_log_cannot_be_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = "x\n2026-01-01T00:00:00.000Z       1 node     ERROR   all is lost"
    LogFile(tmp_path / "text", "who").line(20, forged)
    assert [line.startswith("    ") for line in (tmp_path / "text").read_text().splitlines()] == [False, True]
    monkeypatch.setattr(LogFile, "as_json", True)
    LogFile(tmp_path / "json", "who").line(20, forged)
    (line,) = (tmp_path / "json").read_text().splitlines()
    assert json.loads(line)["text"] == forged


class Announced:
    """An announcement of anybody on the network."""

    properties: dict[str, str | None] = {}

    def __init__(self, *_: object) -> None:
        self.decoded_properties = self.properties
        self.port = 1

    async def async_request(self, *_: object) -> bool:
        return True

    def parsed_scoped_addresses(self) -> list[str]:
        return [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Discovery, list[Any]]]:
    monkeypatch.setattr(discovery, "AsyncServiceInfo", Announced)
    side = SideLoop("lan-1")
    found: list[Any] = []
    monkeypatch.setattr(side, "post", found.append)
    links: Any = SimpleNamespace(port=lambda: 1)
    yield Discovery(side, SyncSettings("lan-1", "/nowhere", "lan", CLUSTER, "0.0.0.0:0"), links), found
    side.stop()


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"node": None, "cluster": CLUSTER},
        {"node": "", "cluster": CLUSTER},
        {"node": "lan-1", "cluster": CLUSTER},
        {"node": "../x", "cluster": CLUSTER},
        {"node": "x" * 200, "cluster": CLUSTER},
        {"node": "\x1b[31m", "cluster": CLUSTER},
        {"node": "lan-2", "cluster": "another"},
        {"node": "lan-2"},
    ],
    ids=str,
)
def test_a_forged_announcement_is_no_hint(
    heard: tuple[Discovery, list[Any]], told: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found = heard
    monkeypatch.setattr(Announced, "properties", told)
    asyncio.run(made._look_up(None, discovery.SERVICE, "x"))  # type: ignore[arg-type]  # it is handed on alone
    assert found == []


def test_an_announcement_of_a_thousand_addresses_gives_a_few_hints(
    heard: tuple[Discovery, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found = heard
    at = ",".join(["nonsense", "x:0", *(f"10.9.0.{number}:7700" for number in range(100))])
    monkeypatch.setattr(Announced, "properties", {"node": "lan-2", "cluster": CLUSTER, "at": at})
    asyncio.run(made._look_up(None, discovery.SERVICE, "x"))  # type: ignore[arg-type]  # as above
    assert len(found) == ADDRESSES_MAX + ANNOUNCED_MAX - 2


def test_a_flood_of_announcements_is_looked_up_a_few_at_a_time(
    heard: tuple[Discovery, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = heard

    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    async def flood() -> int:
        monkeypatch.setattr(Discovery, "_look_up", for_ever)
        for number in range(10 * LOOKUPS_MAX):
            name = f"{CLUSTER}-{number:08x}.{discovery.SERVICE}"
            made._heard(None, discovery.SERVICE, name, ServiceStateChange.Added)  # type: ignore[arg-type]  # as above
        return len(made._lookups)

    assert asyncio.run(flood()) == LOOKUPS_MAX


def test_a_backup_that_is_cut_or_another_file_is_refused(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "file.bak"
    home.mkdir()
    Store.open(home, "n1", NOW).close()
    backup.write(home, file, "t", NOW, lambda *_: None)
    backup.verify(file)
    whole = file.read_bytes()
    (tmp_path / "file.bak.json").unlink()
    for size in (0, 1, 15, 16, 99, 100, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises((CorruptError, ConfigError)):
            backup.verify(file)
    file.write_bytes(whole)
    changed = sqlite3.connect(file, isolation_level=None)
    for hostile in ("", "[]", "5", "{", "{}", "[" * 100_000, '{"node_id": 5}'):
        changed.execute("UPDATE _entgldb_backup SET manifest = ?", (hostile,))
        with pytest.raises((CorruptError, ConfigError)):
            backup.read_manifest(file)
    changed.close()
    file.write_bytes(whole)
    (tmp_path / "file.bak.json").write_text("[" * 100_000)
    with pytest.raises(CorruptError):
        backup.verify(file)


def test_a_document_of_a_backup_that_no_reader_survives_is_a_finding(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "file.bak"
    home.mkdir()
    store = Store.open(home, "n1", NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("c", "k", GOOD)], NOW)
    store.close()
    backup.write(home, file, "t", NOW, lambda *_: None)
    (tmp_path / "file.bak.json").unlink()
    body = b'{"a":' + b"[" * 100_000
    changed = sqlite3.connect(file, isolation_level=None)
    changed.execute("UPDATE _entgldb_documents SET body = ?, sha256 = ?", (body.decode(), digest(body)))
    changed.close()
    with pytest.raises(CorruptError, match="is damaged"):
        backup.verify(file)


@pytest.mark.parametrize(
    ("paths", "more"),
    [
        ([f"f{number}" for number in range(INDEX_PATHS_MAX + 1)], {}),
        ([], {}),
        (["f"], {"name": "x" * (INDEX_NAME_CHARS_MAX + 1)}),
        (["f"], {"name": "x\n"}),
        (["f"], {"where": {"a": "x" * INDEX_WHERE_BYTES_MAX}}),
        (["f'; DROP TABLE x; --"], {"name": "\x1b[2J"}),
    ],
    ids=["paths", "no path", "name", "line in a name", "filter", "sequence in a name"],
)
def test_a_definition_of_an_index_beyond_its_limits_is_refused(
    paths: list[str], more: dict[str, Any]
) -> None:
    with pytest.raises(InvalidError):
        define("c", paths, **more)


def test_an_index_as_large_as_one_may_be_is_made() -> None:
    where = {"a": "x" * (INDEX_WHERE_BYTES_MAX - len('{"a":""}'))}
    paths = [f"f{number}" for number in range(INDEX_PATHS_MAX)]
    assert define("c", paths, where=where, name="x" * INDEX_NAME_CHARS_MAX).paths == tuple(paths)


def test_the_oldest_rows_of_the_audit_log_go_many_at_a_time() -> None:
    assert signature(Trail).parameters["rows_max"].default == AUDIT_ROWS_MAX
    connection = sqlite3.connect(":memory:", isolation_level=None)
    trail = Trail(connection, "n1", 2 * AUDIT_PRUNED_ROWS)
    for number in range(2 * AUDIT_PRUNED_ROWS + 1):
        trail.note(Act(Event.TOKEN, "10.0.0.1", "refused"), NOW + number)
    (left,) = connection.execute("SELECT count(*) FROM _entgldb_audit").fetchone()
    assert AUDIT_PRUNED_ROWS <= left <= 2 * AUDIT_PRUNED_ROWS
    connection.close()


def test_a_client_cuts_a_large_request_into_pieces_of_one_size() -> None:
    whole = Relay("store", bytes(2 * PIECE_BYTES_MAX + 10 + FRAME_BYTES_MAX // 2))
    reader = FrameReader()
    reader.feed(framed(whole, 7))
    pieces = [codec.decode(payload, Channel.CLIENT).message for payload in reader]
    sizes = [len(piece.data) for piece in pieces if isinstance(piece, Piece)]
    assert len(sizes) == len(pieces) > 2
    assert set(sizes[:-1]) == {PIECE_BYTES_MAX}


@pytest.mark.parametrize("size", [0, PUBLIC_KEY_BYTES - 1, PUBLIC_KEY_BYTES + 1])
def test_a_key_or_signature_of_another_size_is_nobodys(size: int) -> None:
    store = Store.memory("n1", b"1" * 32, NOW)
    (key,) = store.connection.execute("SELECT value FROM _entgldb_meta WHERE name = 'public_key'").fetchone()
    assert fits(Author(store.origin, key, b""))
    assert not fits(Author(store.origin, (key + key)[:size], b""))
    for length in (0, SIGNATURE_BYTES - 1, SIGNATURE_BYTES, SIGNATURE_BYTES + 1):
        assert not is_signed(key, b"statement", bytes(length))
