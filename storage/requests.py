"""Answers already given, so that a retried request does its work once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgpack

from entgldb.messages.client import RequestId, Written
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import PACK_BYTES, RESULTS_KEPT_MAX, RESULTS_KEPT_MS_MAX
from entgldb.messages.model import Origin

CLIENT_BYTES: Final = 16
COUNTER_MAX: Final = 2**63 - 1
CLIENTS_KEPT_MS_MAX: Final = 30 * 24 * 3600 * 1000
"""How long it is known that a client had answers which are forgotten."""
Answer = tuple[tuple[Written, ...], int]


def remembered(connection: sqlite3.Connection, request: RequestId) -> Answer | None:
    """The answer this id had.

    Raises InvalidError for what is no request id, EntglError unknown-outcome where it is forgotten.
    """
    if len(request.client) != CLIENT_BYTES or not 0 <= request.counter <= COUNTER_MAX:
        raise InvalidError(
            "a request id is 16 bytes and a counter from 0", hint="draw the bytes once per client"
        )
    found = connection.execute(
        "SELECT answer, 0 FROM _entgldb_requests WHERE client = ? AND counter = ?"
        " UNION ALL SELECT NULL, forgotten FROM _entgldb_clients WHERE client = ?",
        (request.client, request.counter, request.client),
    ).fetchone()
    if found is None:
        return None
    answer, forgotten = found
    if answer is not None:
        origin, seqs, lsn = msgpack.unpackb(answer)
        return tuple(Written(origin, seq) for seq in seqs), lsn
    if request.counter <= forgotten:
        raise EntglError(
            f"request {request.counter} is too old: its outcome is not known any more",
            code=ErrorCode.UNKNOWN_OUTCOME,
            hint="read the document to see whether it was written",
            definite=False,
        )
    return None


def remember(
    connection: sqlite3.Connection,
    request: RequestId,
    origin: Origin,
    written: Sequence[Written],
    lsn: int,
    lived_ms: int,
) -> None:
    """Keep an answer in the transaction that did the work."""
    answer = msgpack.packb([origin, [one.seq for one in written], lsn], buf_size=PACK_BYTES)
    connection.execute(
        "INSERT INTO _entgldb_requests (client, counter, at_ms, answer) VALUES (?, ?, ?, ?)",
        (request.client, request.counter, lived_ms, answer),
    )


def forget_old(connection: sqlite3.Connection, lived_ms: int) -> None:
    """Drop answers beyond 24 h (of the store's life) or 100,000 rows; it stays known that there were some."""
    last = connection.execute("SELECT max(id) FROM _entgldb_requests").fetchone()[0]
    if last is None:
        return
    young = connection.execute(
        "SELECT id FROM _entgldb_requests WHERE at_ms >= ? ORDER BY id LIMIT 1",
        (lived_ms - RESULTS_KEPT_MS_MAX,),
    ).fetchone()
    bound = max(last - RESULTS_KEPT_MAX, last if young is None else young[0] - 1)
    connection.execute(
        "INSERT INTO _entgldb_clients SELECT client, max(counter), max(at_ms) FROM _entgldb_requests"
        " WHERE id <= ? GROUP BY client"
        " ON CONFLICT (client) DO UPDATE SET forgotten = max(forgotten, excluded.forgotten),"
        " at_ms = excluded.at_ms",
        (bound,),
    )
    connection.execute("DELETE FROM _entgldb_requests WHERE id <= ?", (bound,))
    connection.execute("DELETE FROM _entgldb_clients WHERE at_ms < ?", (lived_ms - CLIENTS_KEPT_MS_MAX,))
