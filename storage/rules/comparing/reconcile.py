"""Which keys differ between two nodes, found with traffic that grows with the differences.

Range-based set reconciliation (Meyer, "Range-Based Set Reconciliation", SRDS 2023), two levels deep:
keys are ordered by a hash, so that ranges are prefixes of it. Level 1 compares 64 fingerprints, level 2
64 for each range that differs, and then the items of the 4,096ths that still differ are listed. A
fingerprint is the number of items and the sum of their hashes modulo 2^128: one walk in any order
computes them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

FANOUT: Final = 64
BUCKETS: Final = FANOUT * FANOUT
PLACE_BYTES: Final = 8
ITEM_BYTES: Final = 8
"""Bytes of the digest that stands for a version and its body in a listing."""
SUM_BYTES: Final = 20
"""One fingerprint: 4 bytes of count, 16 of sum."""
_MODULUS: Final = 1 << 128


class Item(NamedTuple):
    """One live document as the other side needs to know it."""

    place: bytes
    """Hash of collection and key; its first 12 bits are the bucket."""
    value: bytes
    """Hash of place, version and body, 16 bytes."""


Sum = tuple[int, int]
"""The fingerprint of a range: how many items, and the sum of their values."""


def place_of(collection: str, key: str) -> bytes:
    """The place of a key in the order that both sides share."""
    return sha256(f"{collection}\0{key}".encode()).digest()[:PLACE_BYTES]


def item_of(place: bytes, origin: str, seq: int, body_sha256: bytes) -> Item:
    """A live document; ``body_sha256`` is computed from the body itself, so that damage shows."""
    return Item(place, sha256(b"%s%s\0%d\0%s" % (place, origin.encode(), seq, body_sha256)).digest()[:16])


def bucket_of(place: bytes) -> int:
    """Which of the 4,096 ranges a place is in."""
    return (place[0] << 4) | (place[1] >> 4)


class Table:
    """The fingerprints of all 4,096 ranges."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self._totals = [0] * BUCKETS

    def add(self, item: Item) -> None:
        bucket = bucket_of(item.place)
        self.counts[bucket] += 1
        self._totals[bucket] += int.from_bytes(item.value, "big")

    def joined(self, other: Table) -> Table:
        """Of two sets without a common key."""
        both = Table()
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both._totals = [a + b for a, b in zip(self._totals, other._totals, strict=True)]
        return both

    def top(self) -> list[Sum]:
        """Level 1: 64 ranges."""
        return [self._sum(range(start, start + FANOUT)) for start in range(0, BUCKETS, FANOUT)]

    def within(self, top: int) -> list[Sum]:
        """Level 2: the 64 ranges of one of level 1."""
        return [self._sum((bucket,)) for bucket in range(top * FANOUT, top * FANOUT + FANOUT)]

    def _sum(self, buckets: Iterable[int]) -> Sum:
        count = total = 0
        for bucket in buckets:
            count += self.counts[bucket]
            total += self._totals[bucket]
        return count, total % _MODULUS


def pack_sums(sums: Iterable[Sum]) -> bytes:
    """Fingerprints as they travel."""
    return b"".join(count.to_bytes(4, "big") + total.to_bytes(16, "big") for count, total in sums)


def unpack_sums(data: bytes) -> list[Sum]:
    """The reverse; bytes beyond the last whole one are left out."""
    whole = range(0, len(data) - len(data) % SUM_BYTES, SUM_BYTES)
    return [
        (int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + SUM_BYTES], "big"))
        for at in whole
    ]


def differing_tops(table: Table, theirs: bytes) -> bytes:
    """The ranges of level 1 that differ, a byte each."""
    pairs = zip(table.top(), unpack_sums(theirs), strict=False)
    return bytes(index for index, (mine, other) in enumerate(pairs) if mine != other)


def differing_buckets(table: Table, tops: bytes, theirs: bytes) -> list[int]:
    """The ranges of level 2 that differ, within those of level 1 that the other side named.

    Of names beyond the number of ranges the first count.
    """
    sums, found = unpack_sums(theirs), []
    for position, top in enumerate(tops[:FANOUT]):
        if top >= FANOUT:
            continue
        other = sums[position * FANOUT : (position + 1) * FANOUT]
        mine = table.within(top)
        found += [top * FANOUT + i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b]
    return found


def pack_items(items: Mapping[bytes, bytes]) -> bytes:
    """Place and the beginning of its value, one after the other, in the order of places."""
    return b"".join(place + items[place][:ITEM_BYTES] for place in sorted(items))


def unpack_items(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The reverse."""
    step = PLACE_BYTES + ITEM_BYTES
    for at in range(0, len(data) - len(data) % step, step):
        yield data[at : at + PLACE_BYTES], data[at + PLACE_BYTES : at + step]


def unpack_places(data: bytes) -> list[bytes]:
    """Places one after the other."""
    return [data[at : at + PLACE_BYTES] for at in range(0, len(data) - len(data) % PLACE_BYTES, PLACE_BYTES)]


def differing_places(
    mine: Mapping[bytes, bytes], theirs: bytes, after: bytes = b"", through: bytes = b""
) -> list[bytes]:
    """Places behind ``after``, up to ``through``, where one side has what the other has not, in order."""
    other = dict(unpack_items(theirs))
    here = {place: value[:ITEM_BYTES] for place, value in mine.items()}
    both = here.keys() | other.keys()
    apart = [place for place in both if place > after and here.get(place) != other.get(place)]
    return sorted(place for place in apart if not through or place <= through)


def chosen(buckets: list[int], counts: list[int], items_max: int, first: int) -> list[int]:
    """As many of ``buckets`` as hold at most ``items_max`` items, at least one, from ``first`` on, around."""
    turned = [b for b in buckets if b >= first] + [b for b in buckets if b < first]
    found: list[int] = []
    size = 0
    for bucket in turned:
        size += counts[bucket]
        if found and size > items_max:
            break
        found.append(bucket)
    return found
