"""Header bytes: golden, round trip, and everything that is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from entgldb.messages.errors import InvalidError, ProtocolError
from entgldb.messages.limits import (
    COUNT_MAX,
    GROUP_ENTRIES_MAX,
    HEADER_BYTES_MAX,
    KEY_BYTES_MAX,
    NAMED_MAX,
    OPTIONAL_BYTES_MAX,
)
from entgldb.messages.model import Version
from entgldb.storage.rules import header
from entgldb.storage.rules.header import DELETE, PUT, Header, body_matches, body_text, decode, digest, encode

ORIGIN = "lan-1/00112233445566778899aabbccddeeff"
OTHER = "lan-2/ffeeddccbbaa99887766554433221100"
BODY = b'{"name":"Ada"}'
FIRST = Header(ORIGIN, 1, 117309440000000000, "users", "u1", PUT, None, 0, 1, digest(BODY), b"")
SECOND = Header(
    ORIGIN, 2, 117309440000000001, "users", "u1", DELETE, Version(OTHER, 7), 1, 2, b"", digest(b"x")
)
GOLDEN = {
    "first": (
        "9c01d9266c616e2d312f303031313232333334343535363637373838393961616262636364646565666601cf01a0c450"
        "6c000000a57573657273a2753100c00001c42088bab6d8f6dc68a877064d584cbb5b6c50e74f617ea50d81d3a53c2ee6"
        "ffbc4fc400"
    ),
    "first hash": ("ad835efd5f856dd49366471a15b1a0748921fb7a7dbe58120f48bf987279ca69"),
    "second": (
        "9c01d9266c616e2d312f303031313232333334343535363637373838393961616262636364646565666602cf01a0c450"
        "6c000001a57573657273a275310192d9266c616e2d322f66666565646463636262616139393838373736363535343433"
        "33323231313030070102c400c4202d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    ),
}
OPTIONAL = SECOND._replace(optional=((1, 1_790_000_000_000), (7, "order 12"), (300, b"\x00\x01")))
FIELDS = list(msgpack.unpackb(encode(SECOND)))


def test_golden_bytes() -> None:
    assert encode(FIRST).hex() == GOLDEN["first"]
    assert digest(encode(FIRST)).hex() == GOLDEN["first hash"]
    assert encode(SECOND).hex() == GOLDEN["second"]


def test_names_are_looked_at_however_many_have_come_and_whatever_was_said_of_them_before() -> None:
    for number in range(header._NAMES_KEPT + 10):
        one = FIRST._replace(origin=f"n{number}/{'0' * 32}", collection=f"c{number}")
        assert decode(encode(one)) == one
        for wrong in (one._replace(origin=f"n{number}/"), one._replace(collection=f"c/{number}")):
            for _ in range(2):
                with pytest.raises(ProtocolError, match=r"origin|collection"):
                    decode(encode(wrong))
    assert header._is_origin.cache_info().currsize == header._NAMES_KEPT
    assert header._check_collection.cache_info().currsize == header._NAMES_KEPT
    longest = f"{'n' * 64}/{'0' * 32}"
    assert header.is_origin(longest)
    before = header._is_origin.cache_info().misses
    assert not header.is_origin(f"n{longest}")
    assert header._is_origin.cache_info().misses == before, "nothing longer is kept"


@pytest.mark.parametrize("one", [FIRST, SECOND, OPTIONAL, OPTIONAL._replace(seen=(Version(OTHER, 6),))])
def test_round_trip(one: Header) -> None:
    assert decode(encode(one)) == one


@pytest.mark.parametrize(
    ("index", "value", "field"),
    [
        (0, 2, "begins with 1"),
        (0, True, "begins with 1"),
        (1, "lan-1", "origin"),
        (1, "lan-1/0011", "origin"),
        (1, 7, "origin"),
        (2, 0, "seq"),
        (2, True, "seq"),
        (2, 2**63, "seq"),
        (3, -1, "hlc"),
        (3, 2**63, "hlc"),
        (3, 1.5, "hlc"),
        (4, "_users", "collection"),
        (4, "sqlite_master", "collection"),
        (4, b"users", "collection or key"),
        (5, "", "key"),
        (5, "k" * 513, "key"),
        (6, 3, "op"),
        (6, False, "op"),
        (7, [OTHER], "parent"),
        (7, [OTHER, 0], "parent"),
        (7, ["x", 1], "parent"),
        (7, 5, "parent"),
        (8, 2, "group index"),
        (8, -1, "group index"),
        (9, 0, "group size"),
        (9, GROUP_ENTRIES_MAX + 1, "group size"),
        (10, bytes(32), "body hash"),
        (11, b"", "previous hash"),
        (11, bytes(31), "previous hash"),
    ],
)
def test_each_bad_field_is_named(index: int, value: Any, field: str) -> None:
    fields = [*FIELDS]
    fields[index] = value
    with pytest.raises(ProtocolError, match=field):
        decode(msgpack.packb(fields))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({}),
        encode(FIRST) + b"\x00",
        encode(FIRST)[:-1],
        bytes(HEADER_BYTES_MAX + 1),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_body_belongs_to_its_header() -> None:
    assert body_matches(FIRST, BODY)
    assert body_text(FIRST, BODY) == BODY.decode()
    assert body_matches(FIRST, None)
    assert not body_matches(FIRST, b"{}")
    assert not body_matches(SECOND, b"{}")
    with pytest.raises(InvalidError, match="JSON"):
        body_text(FIRST, b"nonsense")


def test_fields_appended_by_a_newer_release_are_part_of_the_hash_and_mean_nothing_here() -> None:
    newer = msgpack.packb(
        [*FIELDS, [], [], {"signature": b"x"}, 7]
    )  # behind versions seen and optional fields
    assert decode(newer) == decode(msgpack.packb(FIELDS))
    assert digest(newer) != digest(msgpack.packb(FIELDS))


@pytest.mark.parametrize(
    ("optional", "field"),
    [
        (5, "list of optional fields"),
        ([1, 2], "optional field"),
        ([[1]], "optional field"),
        ([[0, 1]], "number of an optional field"),
        ([[True, 1]], "number of an optional field"),
        ([[65_536, 1]], "number of an optional field"),
        ([[2, 1], [1, 1]], "number of an optional field"),
        ([[1, 1], [1, 1]], "number of an optional field"),
        ([[1, 1.5]], "optional field"),
        ([[1, [1]]], "optional field"),
    ],
)
def test_each_bad_optional_field_is_refused(optional: Any, field: str) -> None:
    with pytest.raises(ProtocolError, match=field):
        decode(msgpack.packb([*FIELDS, [], optional]))


def test_optional_fields_have_a_bound_and_the_largest_header_fits() -> None:
    fitting = OPTIONAL._replace(optional=((2, "x" * (OPTIONAL_BYTES_MAX - 6)),))
    assert decode(encode(fitting)) == fitting
    with pytest.raises(ProtocolError, match="size of optional fields"):
        decode(encode(fitting._replace(optional=((2, "x" * (OPTIONAL_BYTES_MAX - 5)),))))
    long = "n" * 64 + "/" + "0" * 32
    largest = fitting._replace(
        origin=long,
        seq=COUNT_MAX,
        hlc=2**63 - 1,
        collection="_system_" + "c" * 56,
        key="k" * KEY_BYTES_MAX,
        op=PUT,
        parent=Version(long, COUNT_MAX),
        group_index=GROUP_ENTRIES_MAX - 1,
        group_size=GROUP_ENTRIES_MAX,
        body_sha256=bytes(32),
        seen=(Version(long, COUNT_MAX),) * NAMED_MAX,
    )
    assert decode(encode(largest)) == largest
