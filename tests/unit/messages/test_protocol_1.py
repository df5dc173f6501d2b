"""Frames that nodes of protocol 1 sent before anything was appended: this release takes every one."""

from __future__ import annotations

from pathlib import Path

import pytest

from entgldb.messages import codec
from entgldb.messages.schema import Channel

CORPUS = Path(__file__).parents[2] / "corpus" / "protocol-1"
FRAMES = [line.split() for line in (CORPUS / "frames.txt").read_text().splitlines()]


def test_the_corpus_has_every_message_of_protocol_1() -> None:
    assert len(FRAMES) == len({name for name, _ in FRAMES}) == 15


@pytest.mark.parametrize(("name", "frame"), FRAMES)
def test_a_frame_is_read_as_what_it_was(name: str, frame: str) -> None:
    decoded = codec.decode(bytes.fromhex(frame), Channel.PEER)
    assert (type(decoded.message).__name__, decoded.trailing) == (name, 0)


@pytest.mark.parametrize(("name", "frame"), FRAMES)
def test_what_was_appended_is_what_an_older_node_skips(name: str, frame: str) -> None:
    """Said again, the frame and what it holds begin with the same fields in order; only more may follow."""
    old = codec.msgpack.unpackb(bytes.fromhex(frame))
    new = codec.msgpack.unpackb(codec.encode(codec.decode(bytes.fromhex(frame), Channel.PEER).message))
    assert begins_with(new, old)


def begins_with(new: object, old: object) -> bool:
    if not isinstance(old, list) or not isinstance(new, list):
        return new == old
    return len(new) >= len(old) and all(map(begins_with, new, old))
