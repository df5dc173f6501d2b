"""Frames survive any cutting of the byte stream; a bad length is refused before memory is taken."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entgldb.messages import framing
from entgldb.messages.errors import ProtocolError
from entgldb.messages.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_any_cut_gives_the_same_frames(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framing.frame, payloads))
    reader = framing.FrameReader()
    out: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:cut])
        stream = stream[cut:]
        out += list(reader)
    assert out == payloads


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_bad_length_is_refused_on_its_four_bytes(length: int) -> None:
    reader = framing.FrameReader()
    reader.feed(length.to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="announced"):
        list(reader)


def test_the_first_frame_has_a_smaller_bound() -> None:
    with pytest.raises(ProtocolError):
        framing.payload_length((HELLO_BYTES_MAX + 1).to_bytes(4, "big"), HELLO_BYTES_MAX)


def test_a_frame_too_large_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        framing.frame(b"x" * (FRAME_BYTES_MAX + 1))


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(framing).failed == 0
