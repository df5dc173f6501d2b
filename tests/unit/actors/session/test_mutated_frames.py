"""Frames of a peer, damaged in every way: each is taken as a message or refused by a ProtocolError.

Golden vectors of all messages are mutated by a seeded generator; a frame that can still be read goes through
a session. ``make soak`` has a million of them.
"""

from __future__ import annotations

import random
import resource
from contextlib import suppress
from typing import NamedTuple

import pytest

from entgldb.messages import codec, wire
from entgldb.messages.errors import ProtocolError
from entgldb.messages.schema import Channel, Message
from tests.unit.actors.session.test_session import Bench
from tests.unit.messages.test_wire_format import VECTORS

FRAMES = 100_000
GROWTH_BYTES_MAX = 20 * 1024 * 1024
EDGES = (0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC7, 0xCF, 0xD3, 0xD9, 0xDC, 0xDD, 0xDE, 0xDF, 0xFF)
"""First bytes of msgpack's kinds: sizes, extensions, the byte that is never used."""
CORPUS = [bytes.fromhex(payload) for _, payload in VECTORS.values()]


def mutated(rng: random.Random) -> bytes:
    """One frame with one to four changes."""
    frame = bytearray(rng.choice(CORPUS))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(frame) + 1)
        match rng.randrange(7):
            case 0:
                frame[place : place + 1] = bytes([rng.choice(EDGES)])
            case 1:
                frame[place : place + 1] = bytes([rng.randrange(256)])
            case 2:
                del frame[place:]
            case 3:
                del frame[place : place + rng.randint(1, 8)]
            case 4:
                frame[place:place] = rng.randbytes(rng.randint(1, 8))
            case 5:
                frame[place:place] = rng.choice(CORPUS)[: rng.randint(1, 64)]
            case _:
                frame[place:place] = frame[: rng.randint(1, 32)]
        if not frame:
            frame = bytearray(b"\xc1")
    return bytes(frame)


def read(frame: bytes) -> Message | None:
    """The message, or None for a frame that is refused."""
    try:
        return codec.decode(frame, Channel.PEER).message
    except ProtocolError:
        return None


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_every_cut_of_every_frame_is_refused() -> None:
    for frame in CORPUS:
        for size in range(len(frame)):
            assert read(frame[:size]) is None


class Sent(NamedTuple):
    """The fate of so many mutated frames."""

    refused: int
    read: int
    kinds: int
    grown_bytes: int


def send(count: int, seed: int) -> Sent:
    """Mutated frames through codec and session; whatever is not a ProtocolError comes out of here."""
    rng = random.Random(seed)
    refused = read_ = 0
    kinds: set[type[Message]] = set()
    bench, before = Bench().open(), peak_bytes()
    for _ in range(count):
        message = read(mutated(rng))
        if message is None:
            refused += 1
            continue
        read_ += 1
        kinds.add(type(message))
        with suppress(ProtocolError):
            if isinstance(message, wire.Part):
                bench.session.whole(message, bench.ctx)
            else:
                bench.session.receive(message, bench.ctx)
        if bench.session.fault is not None or read_ % 100 == 0:
            bench = Bench().open()
    return Sent(refused, read_, len(kinds), peak_bytes() - before)


@pytest.mark.timeout(300)
def test_a_mutated_frame_is_a_message_or_refused_and_a_session_outlives_it() -> None:
    sent = send(FRAMES, 11)
    print(sent)
    assert sent.refused > FRAMES // 2
    assert sent.read > FRAMES // 50
    assert sent.kinds > len(CORPUS) // 2
    assert sent.grown_bytes < GROWTH_BYTES_MAX
