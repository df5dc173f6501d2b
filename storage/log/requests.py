"""Answers already given, so that a retried request does its work once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgpack

from entgldb.messages.client import RequestId, Written
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import CLIENTS_KEPT_MAX, PACK_BYTES, RESULTS_KEPT_MAX, RESULTS_KEPT_MS_MAX
from entgldb.messages.model import Origin

CLIENT_BYTES: Final = 16
COUNTER_MAX: Final = 2**63 - 1
CLIENTS_KEPT_MS_MAX: Final = 30 * 24 * 3600 * 1000
"""How long it is known that a client had answers which are forgotten."""
SETTLE_EVERY: Final = 64
"""Requests of one client between two times that what it does not wait for is forgotten."""
FORGET_EVERY: Final = 1024
"""Requests of all between two looks at what is too old or too much."""
FORGET_ROWS_MAX: Final = 2048
"""Answers, and clients, forgotten in one step: twice what may have come since the last."""
_NOTE: Final = (
    "INSERT INTO _entgldb_clients VALUES (?, ?, ?) ON CONFLICT (client) DO UPDATE SET"
    " forgotten = max(forgotten, excluded.forgotten), at_ms = excluded.at_ms"
)
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


def remember_answer(
    connection: sqlite3.Connection,
    request: RequestId,
    origin: Origin,
    written: Sequence[Written],
    lsn: int,
    lived_ms: int,
) -> None:
    """Keep an answer in the transaction that did the work; now and then forget a few."""
    answer = msgpack.packb([origin, [one.seq for one in written], lsn], buf_size=PACK_BYTES)
    row = connection.execute(
        "INSERT INTO _entgldb_requests (client, counter, at_ms, answer) VALUES (?, ?, ?, ?)",
        (request.client, request.counter, lived_ms, answer),
    ).lastrowid
    if request.awaited and request.counter % SETTLE_EVERY == 0:
        _settle(connection, request, lived_ms)
    if row is not None and row % FORGET_EVERY == 0:
        forget_old(connection, lived_ms)


def _settle(connection: sqlite3.Connection, request: RequestId, lived_ms: int) -> None:
    """Forget what the client does not wait for any more, but that there was something.

    A client names the lowest request that it still waits for (Ongaro, "Consensus: Bridging Theory and
    Practice", 2014, section 6.3). A copy of an earlier one may still be on its way: it is not done again.
    """
    connection.execute(
        "DELETE FROM _entgldb_requests WHERE id IN"
        " (SELECT id FROM _entgldb_requests WHERE client = ? AND counter < ? LIMIT ?)",
        (request.client, request.awaited, FORGET_ROWS_MAX),
    )
    connection.execute(
        _NOTE,
        (request.client, request.awaited - 1, lived_ms),
    )


def forget_old(connection: sqlite3.Connection, lived_ms: int) -> None:
    """A step of dropping answers beyond 24 h (of the store's life) or 100,000; that they were stays known."""
    count = connection.execute("SELECT count(*) FROM _entgldb_requests").fetchone()[0]
    young = connection.execute(
        "SELECT id FROM _entgldb_requests WHERE at_ms >= ? ORDER BY id LIMIT 1",
        (lived_ms - RESULTS_KEPT_MS_MAX,),
    ).fetchone()
    # by order of arrival: a clock may have been set back meanwhile
    old = connection.execute(
        "SELECT count(*) FROM (SELECT id FROM _entgldb_requests ORDER BY id LIMIT ?) WHERE id < ?",
        (FORGET_ROWS_MAX, COUNTER_MAX if young is None else young[0]),
    ).fetchone()[0]
    rows = connection.execute(
        "DELETE FROM _entgldb_requests WHERE id IN (SELECT id FROM _entgldb_requests ORDER BY id LIMIT ?)"
        " RETURNING client, counter, at_ms",
        (min(FORGET_ROWS_MAX, max(old, count - RESULTS_KEPT_MAX)),),
    ).fetchall()
    connection.executemany(_NOTE, rows)
    connection.execute(
        "DELETE FROM _entgldb_clients WHERE client IN"
        " (SELECT client FROM _entgldb_clients WHERE at_ms < ? LIMIT ?)",
        (lived_ms - CLIENTS_KEPT_MS_MAX, FORGET_ROWS_MAX),
    )
    clients = connection.execute("SELECT count(*) FROM _entgldb_clients").fetchone()[0]
    if clients > CLIENTS_KEPT_MAX:
        connection.execute(
            "DELETE FROM _entgldb_clients WHERE client IN"
            " (SELECT client FROM _entgldb_clients ORDER BY at_ms LIMIT ?)",
            (min(FORGET_ROWS_MAX, clients - CLIENTS_KEPT_MAX),),
        )


def kept_ms(connection: sqlite3.Connection, lived_ms: int) -> int | None:
    """How far back all answers that somebody may wait for are remembered; None: there are none."""
    row = connection.execute("SELECT at_ms FROM _entgldb_requests ORDER BY id LIMIT 1").fetchone()
    return None if row is None else lived_ms - row[0]
