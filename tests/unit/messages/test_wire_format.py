"""``docs/wire-format.md`` is the format: its tables and golden vectors against the code, both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import pytest

from entgldb.messages import codec, limits
from entgldb.messages.codec import known_messages
from entgldb.messages.errors import ProtocolError
from entgldb.messages.model import Author
from entgldb.messages.schema import Channel, Message
from entgldb.storage.authorship.keys import Signer, public_of
from entgldb.storage.rules import header
from entgldb.storage.rules.authorship import author_statement, fits, head_statement, incarnation

PAGE = (Path(__file__).parents[3] / "docs" / "wire-format.md").read_text()
ROWS = {
    name: (int(tag), told)
    for tag, name, told in re.findall(r"^\| (\d+) \| `(\w+)` \| (.*?) \| [^|]*\|$", PAGE, re.MULTILINE)
}
VECTORS = {
    name: (array, payload)
    for name, array, payload in re.findall(r"### (\w+)\n\n```json\n(.*)\n```\n```hex\n(.*)\n```", PAGE)
}
AUTHORSHIP = re.findall(r"```authorship\n(.*?)\n```", PAGE, re.DOTALL)[0].split("\n")
HEADERS = re.findall(r"```header\n(.*)\n(.*)\n(.*)\n```", PAGE)


def outside(channel: Channel) -> list[type[Message]]:
    return [kind for kind in known_messages().values() if channel in kind.CHANNELS]


def bytes_again(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("hex:"):
        return bytes.fromhex(value[4:])
    if isinstance(value, list):
        return [bytes_again(item) for item in value]
    return {key: bytes_again(item) for key, item in value.items()} if isinstance(value, dict) else value


def test_every_message_from_outside_has_its_row() -> None:
    known = {kind.__name__ for channel in (Channel.PEER, Channel.CLIENT) for kind in outside(channel)}
    assert set(ROWS) == known


@pytest.mark.parametrize("name", ROWS)
def test_a_row_tells_tag_and_fields(name: str) -> None:
    tag, told = ROWS[name]
    found = [f"{field.name}: {field.type}" for field in fields(known_messages()[tag])]  # type: ignore[arg-type]  # @message makes a dataclass
    assert known_messages()[tag].__name__ == name
    assert re.findall(r"`(.*?)`", told.replace("\\|", "|")) == found


def test_every_message_between_nodes_has_a_vector() -> None:
    assert set(VECTORS) == {kind.__name__ for kind in outside(Channel.PEER)}


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_read_and_written_as_it_stands(name: str) -> None:
    array, payload = bytes_again(json.loads(VECTORS[name][0])), bytes.fromhex(VECTORS[name][1])
    assert msgpack.packb(array) == payload
    decoded = codec.decode(payload, Channel.PEER)
    assert type(decoded.message).__name__ == name
    assert (decoded.request_id, decoded.trailing) == (0, 0)
    assert codec.encode(decoded.message) == payload


def with_one_too_large(value: Any) -> Iterator[Any]:
    """``value`` again and again, each time with another of its integers beyond what any field takes."""
    if type(value) is int:
        yield from (2**64 - 1, -(2**63))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in with_one_too_large(item))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from ({**value, key: other} for other in with_one_too_large(item))


@pytest.mark.parametrize("name", VECTORS)
def test_no_number_from_outside_is_taken_beyond_its_range(name: str) -> None:
    tag, request, *fields_ = bytes_again(json.loads(VECTORS[name][0]))
    for changed in with_one_too_large(fields_):
        with pytest.raises(ProtocolError, match="expected, "):
            codec.decode(msgpack.packb([tag, request, *changed]), Channel.PEER)


@pytest.mark.parametrize(("array", "raw", "digest"), HEADERS)
def test_a_header_is_read_and_written_as_it_stands(array: str, raw: str, digest: str) -> None:
    items = bytes_again(json.loads(array))
    made = header.decode(bytes.fromhex(raw))
    assert header.encode(made).hex() == msgpack.packb(items).hex() == raw
    assert header.digest(bytes.fromhex(raw)).hex() == digest


def test_the_headers_are_a_chain() -> None:
    one, two, three = (header.decode(bytes.fromhex(raw)) for _, raw, _ in HEADERS)
    assert (one.seq, two.seq, three.seq) == (1, 2, 3)
    assert [two.prev_hash.hex(), three.prev_hash.hex()] == [hash_ for _, _, hash_ in HEADERS[:2]]
    assert (two.parent, three.parent) == (one.version, two.version)
    assert [number for number, _ in three.optional] == [1, 300]
    assert one.body_sha256 == header.digest(b'{"name":"Ada"}')


def test_signature_and_attestation_are_made_as_it_says() -> None:
    seed, ca, public, origin, cluster, signature, attestation = AUTHORSHIP
    key = public_of(bytes.fromhex(seed))
    assert (key.hex(), origin) == (public, f"lan-1/{incarnation(key)}")
    assert cluster == sha256(public_of(bytes.fromhex(ca))).hexdigest()[:16]
    head = head_statement(bytes.fromhex(HEADERS[1][2]))
    assert Signer(bytes.fromhex(seed)).sign(head).hex() == signature
    author = author_statement(cluster, "lan-1", key)
    assert Signer(bytes.fromhex(ca)).sign(author).hex() == attestation
    assert fits(Author(origin, key, bytes.fromhex(attestation)))
    assert not fits(Author(f"lan-1/{32 * '0'}", key, bytes.fromhex(attestation)))


@pytest.mark.parametrize("name", ["FRAME_BYTES_MAX", "HELLO_BYTES_MAX", "SIGNED_BYTES_MAX"])
def test_the_bounds_are_told(name: str) -> None:
    assert f"{getattr(limits, name):,} (`{name}`)" in PAGE.replace("\n", " ")
