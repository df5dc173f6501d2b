"""A row of the audit log, and what makes rows a chain.

The digest of a row is SHA-256 over the digest of the row before and the row's fields. The oldest rows are
pruned; a later row of the chain then says which row is the first, with its digest. So rows that somebody else
took away, changed or put in show, all but the newest: of these whoever has noted a digest elsewhere can say
that they were there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from entgldb.messages.administration import Event
from entgldb.messages.limits import AUDIT_TEXT_CHARS_MAX

BEGINNING: Final = bytes(32)
"""Stands for the digest before row 1."""
FAULTS_MAX: Final = 20
"""Faults of one chain that are told."""


class Act(NamedTuple):
    """An event that is to have a row."""

    event: Event
    subject: str = ""
    """Whom or what it was done to."""
    outcome: str = ""
    """How it went, where ``event`` does not tell; of what was refused the reason."""
    who: str = ""
    """The one who did it."""
    key_id: str = ""
    left_out: int = 0
    """Events of this kind since the row of it before, of which there is no row."""


class Row(NamedTuple):
    """One event as it is kept."""

    number: int
    """From 1 on, without a gap."""
    at_ms: int
    """By the node's wall clock."""
    event: str
    node: str
    who: str
    subject: str
    outcome: str
    key_id: str
    left_out: int


class Verdict(NamedTuple):
    """The result of a look over the whole chain."""

    rows: int
    first: int
    """Number of the first row; 0 where there is none."""
    last: int
    digest: bytes
    """Of the last row."""
    faults: list[str]


def digest(before: bytes, row: Row) -> bytes:
    """The digest of a row that follows the one with the digest ``before``."""
    return sha256(before + json.dumps(row, separators=(",", ":")).encode()).digest()


def cut(text: str) -> str:
    """A text as a row has it."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= AUDIT_TEXT_CHARS_MAX else f"{text[: AUDIT_TEXT_CHARS_MAX - 1]}…"


def named(number: int, found: bytes) -> str:
    """A row by its number and digest, as a person notes it down."""
    return f"{number}:{found.hex()}"


def judge(rows: Iterable[tuple[Row, bytes]], noted: str = "") -> Verdict:
    """Whether rows with their digests, in the order of their numbers, are one whole chain.

    ``noted``: the name of a row that was seen before (see ``named``), which has to be there.
    """
    faults: list[str] = []
    pruned: list[str] = []
    before, count, first, last, beginning = BEGINNING, 0, 0, 0, ""
    seen = not noted
    for row, found in rows:
        if not count:
            first = row.number
        if not count and first != 1:
            # the digest of such a row stands for all before it: a later row has to name it
            beginning = named(first, found)
        elif row.number != last + 1:
            faults.append(f"rows {last + 1} to {row.number - 1} are missing")
        elif digest(before, row) != found:
            faults.append(f"row {row.number} is not what was written, or not where it was written")
        if row.event == Event.PRUNED:
            pruned.append(row.subject)
        seen = seen or named(row.number, found) == noted
        before, last, count = found, row.number, count + 1
    if beginning and beginning not in pruned:
        faults.append(f"no row says that those before row {first} were pruned")
    if not seen:
        faults.append(f"row {noted.partition(':')[0]} is not there as it was noted")
    return Verdict(count, first, last, before if count else b"", faults[:FAULTS_MAX])
