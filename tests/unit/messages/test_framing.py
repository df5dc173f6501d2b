"""Frames survive any cutting of the byte stream; a bad length is refused before memory is taken."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

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


class Reluctant:
    """A socket that takes as many bytes as it likes, and now and then none."""

    def __init__(self, data: st.DataObject) -> None:
        self.taken = b""
        self._data = data

    def send(self, data: bytes, /) -> int:
        most = self._data.draw(st.integers(0, 2 * len(data)))
        if most == 0:
            raise BlockingIOError
        self.taken += data[:most]
        return min(most, len(data))

    def sendmsg(self, parts: Sequence[bytes], /) -> int:
        return self.send(b"".join(parts))


@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3), max_size=12), st.data())
def test_a_writer_loses_and_repeats_no_byte_whatever_the_stream_takes(
    frames: list[list[bytes]], data: st.DataObject
) -> None:
    writer, stream = framing.FrameWriter(bytes_max=200), Reluctant(data)
    kept = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "WRITE_BYTES", data.draw(st.integers(1, 60)))
        for parts in frames:
            size = len(b"".join(parts))
            fits = writer.waiting + size <= 200
            assert writer.put(*parts) is fits
            kept += b"".join(parts) if fits else b""
            writer.write_to(stream)
            assert writer.waiting == len(kept) - len(stream.taken) == len(kept) - writer.written
    assert kept.startswith(stream.taken)
    rest = writer.next_parts(1_000)
    assert stream.taken + b"".join(rest) == kept


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(framing).failed == 0
