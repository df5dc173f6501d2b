"""The codec is strict on types, bounded, and keeps local messages off the network."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import subprocess
import sys
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entgldb
from entgldb.messages import client, codec, wire
from entgldb.messages.errors import InvalidError, ProtocolError, UnknownMessage
from entgldb.messages.limits import (
    ARRAY_ITEMS_MAX,
    DEPTH_MAX,
    FRAME_BYTES_MAX,
    MAP_ITEMS_MAX,
    STRING_BYTES_MAX,
)
from entgldb.messages.local import actors as local
from entgldb.messages.model import Entry
from entgldb.messages.schema import INT64, RECORDS, Channel, Message, Record, record


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Anything a field of this type may hold."""
    simple = {
        int: st.integers(*INT64),
        str: st.text(max_size=8),
        bytes: st.binary(max_size=8),
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        typing.Any: st.recursive(
            st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    }
    if hint in simple:
        return simple[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return st.integers(*hint.__metadata__[0])
    if origin is tuple:
        if args[-1] is Ellipsis:
            return st.lists(values(args[0]), max_size=2).map(tuple)
        return st.tuples(*map(values, args))
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{f.name: values(hints[f.name]) for f in dataclasses.fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return st.one_of(*(st.none() if a is type(None) else values(a) for a in args))


@pytest.mark.parametrize("cls", codec.known_messages().values(), ids=lambda cls: cls.__name__)
def test_every_message_survives_the_round_trip(cls: type[Message]) -> None:
    # the types of fields are few, and each of them stands in many messages
    @settings(max_examples=15)
    @given(values(cls))
    def check(message: Message) -> None:
        decoded = codec.decode(codec.encode(message, 7), Channel.LOCAL)
        assert decoded == (7, message, 0)

    check()


def test_local_messages_never_arrive_from_a_network_or_a_client() -> None:
    apply = local.Apply("sync", "s", 0, 0, (), cloud=False)
    for channel in (Channel.PEER, Channel.CLIENT):
        with pytest.raises(UnknownMessage):
            codec.decode(codec.encode(apply), channel)
    with pytest.raises(UnknownMessage):
        codec.decode(codec.encode(client.Status()), Channel.PEER)
    with pytest.raises(UnknownMessage):
        codec.decode(codec.encode(wire.Ack(0, 0)), Channel.CLIENT)


def test_a_later_minor_version_may_add_a_field() -> None:
    longer = msgpack.packb([wire.Ack.TAG, 0, 1, 2, "new"])
    assert codec.decode(longer, Channel.PEER) == (0, wire.Ack(1, 2), 1)


def test_a_field_with_a_default_may_be_missing() -> None:
    shorter = msgpack.packb([wire.Bye.TAG, 0, "stopping"])
    assert codec.decode(shorter, Channel.PEER).message == wire.Bye("stopping", "")


@pytest.mark.parametrize(
    "items",
    [
        [wire.Ack.TAG, 0, 1],
        [wire.Ack.TAG, 0, True, 2],
        [wire.Ack.TAG, 0, 1, "2"],
        [wire.Ack.TAG, 0, 1.0, 2],
        [wire.Ack.TAG],
        [wire.Ack.TAG, None, 1, 2],
        {"type": 4},
        "text",
        [wire.Entries.TAG, 0, 0, 0, [[b"h"]]],
        [wire.Entries.TAG, 0, 0, 0, [["h", None]]],
        [wire.Vectors.TAG, 0, {"o": [1]}, {}],
        [wire.Vectors.TAG, 0, {"o": [1, b"", 3]}, {}],
        [wire.Vectors.TAG, 0, {1: [1, b""]}, {}],
    ],
)
def test_malformed_frames_are_refused_by_a_typed_error(items: object) -> None:
    with pytest.raises(ProtocolError):
        codec.decode(msgpack.packb(items), Channel.PEER)


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan"), True, "1"])
def test_a_float_from_outside_is_finite(seconds: object) -> None:
    with pytest.raises(ProtocolError, match="finite float expected"):
        codec.decode(msgpack.packb([client.StandDown.TAG, 0, seconds]), Channel.CLIENT)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    try:
        codec.decode(data, Channel.PEER)
    except ProtocolError:
        return


def test_limits_are_checked() -> None:
    with pytest.raises(ProtocolError, match="allowed"):
        codec.decode(b"\x00" * (FRAME_BYTES_MAX + 1), Channel.PEER)
    with pytest.raises(ProtocolError):
        codec.decode(b"\x93\x04\x00\xdd\xff\xff\xff\xff", Channel.PEER)
    long_array = msgpack.packb([wire.Hello.TAG, 0, [0] * (ARRAY_ITEMS_MAX + 1)])
    with pytest.raises(ProtocolError, match="not a msgpack frame"):
        codec.decode(long_array, Channel.PEER)
    long_map = msgpack.packb([client.Report.TAG, 0, {str(n): 0 for n in range(MAP_ITEMS_MAX + 1)}])
    with pytest.raises(ProtocolError, match="not a msgpack frame"):
        codec.decode(long_map, Channel.CLIENT)
    deep: object = {}
    for _ in range(DEPTH_MAX + 2):
        deep = {"a": deep}
    with pytest.raises(ProtocolError, match="deeper"):
        codec.decode(msgpack.packb([client.Report.TAG, 0, {"deep": deep}]), Channel.CLIENT)
    bomb = b"\x91" * 100_000
    with pytest.raises(ProtocolError):
        codec.decode(bomb, Channel.PEER)


@pytest.mark.parametrize("fields", [("x", b""), ("", b"x")], ids=["text", "bytes"])
def test_a_string_beyond_its_limit_is_refused_where_the_frame_would_allow_it(fields: tuple[Any, Any]) -> None:
    def of(size: int) -> bytes:
        packed: bytes = msgpack.packb([client.Relay.TAG, 0, *(part * size for part in fields)])
        return packed

    assert codec.decode(of(STRING_BYTES_MAX), Channel.CLIENT, 2 * FRAME_BYTES_MAX)
    with pytest.raises(ProtocolError, match="not a msgpack frame"):
        codec.decode(of(STRING_BYTES_MAX + 1), Channel.CLIENT, 2 * FRAME_BYTES_MAX)


def test_messages_have_a_constant_text_that_shows_no_secret() -> None:
    request = client.PutPeer(client.RequestId(b"c" * 16, 1), True, "cloud", secret="hunter2")
    assert str(request) == repr(request) == "PutPeer"
    assert str(wire.Entries(0, 0, (Entry(b"h", b"b"),))) == "Entries"


def test_tags_are_unique_and_in_their_ranges() -> None:
    for tag, cls in codec.known_messages().items():
        outside = cls.CHANNELS & ~Channel.LOCAL
        ranges = {Channel.PEER: [range(1, 40)], Channel.CLIENT: [range(40, 80), range(200, 240)]}
        assert any(tag in one for one in ranges.get(outside, [range(80, 200), range(240, 1000)]))
        assert not (cls.ADMIN and Channel.CLIENT not in cls.CHANNELS)


def test_rank_prefers_resolvable_peers_then_priority_then_the_smaller_id() -> None:
    ranks = [wire.Rank(2, 0, "z"), wire.Rank(1, 5, "z"), wire.Rank(1, 1, "a"), wire.Rank(1, 1, "b")]
    for better, worse in itertools.pairwise(ranks):
        assert better.better(worse)
        assert not worse.better(better)
    assert not ranks[0].better(ranks[0])


@record
class Sample(Record):
    """A record of this test."""

    name: str
    size: int = 3
    parts: tuple[int, ...] = ()


def test_a_record_is_what_a_frozen_dataclass_with_slots_would_be() -> None:
    made = Sample("a", parts=(1,))
    assert (made.name, made.size, made.parts) == ("a", 3, (1,))
    assert repr(made) == "Sample(name='a', size=3, parts=(1,))"
    assert made == Sample("a", 3, (1,)) != Sample("a", 4, (1,))
    assert len({made, Sample("a", 3, (1,)), Sample("b")}) == 2
    assert dataclasses.replace(made, size=4) == Sample("a", 4, (1,))
    assert [field.name for field in dataclasses.fields(Sample)] == ["name", "size", "parts"]  # type: ignore[arg-type]  # the checker does not see that it is one
    assert copy.deepcopy(made) == copy.copy(made) == made
    assert not hasattr(made, "__dict__")
    for wrong in (lambda: Sample(), lambda: Sample("a", 1, (), 2), lambda: Sample(sise=1)):  # type: ignore[call-arg]  # what is shown
        with pytest.raises(TypeError):
            wrong()
    for change in (lambda: setattr(made, "size", 5), lambda: delattr(made, "size")):
        with pytest.raises(AttributeError, match=r"Sample\.size cannot be changed"):
            change()


def test_nothing_is_compiled_for_a_message_that_is_not_used() -> None:
    program = (
        "from entgldb.messages import codec\n"
        "made = {'_read', '_readers', '_write'}\n"
        "used = [c for c in codec.known_messages().values() if made & set(vars(c))]\n"
        "assert used == [], used\n"
        "from entgldb.messages.client import Ping, Status\n"
        "codec.encode(Ping())\n"
        "assert '_write' in vars(Ping) and '_write' not in vars(Status)\n"
    )
    root = str(Path(entgldb.__path__[0]).parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "message",
    [
        client.CreateIndex("c", ("\ud800",)),
        client.CommitDone((client.Written("o", 2**64),), 0),
        client.Report({"a": 2**70}),
    ],
)
def test_what_no_frame_can_hold_is_refused_by_a_typed_error(message: Message) -> None:
    with pytest.raises(InvalidError, match=r"half a surrogate pair|more than 64 bits"):
        codec.encode(message)


def test_all_that_actors_say_is_made_before_they_are_forked() -> None:
    codec.compile_for_actors()
    said = [
        cls
        for cls in codec.known_messages().values()
        if cls.CHANNELS in (Channel.LOCAL, Channel.LOCAL | Channel.PEER)
    ]
    assert said
    assert RECORDS
    for cls in [*said, *RECORDS]:
        assert {"_read", "_write"} <= vars(cls).keys(), cls
        # made of its own fields, no longer the one that makes it
        assert cls.__init__.__code__.co_varnames == ("self", *cls._names), cls
