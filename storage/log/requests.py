"""Answers already given, so that a retried request does its work once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgpack

from entgldb.messages.client import RequestId, Write, Written
from entgldb.messages.errors import EntglError, ErrorCode, InvalidError
from entgldb.messages.limits import CLIENTS_KEPT_MAX, PACK_BYTES, RESULTS_KEPT_MAX, RESULTS_KEPT_MS_MAX
from entgldb.storage.file.state import Remembered, State
from entgldb.storage.rules.header import PUT, decode, digest

CLIENT_BYTES: Final = 16
COUNTER_BYTES: Final = 8
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
RECALL: Final = (
    "SELECT lsn, header, request FROM _entgldb_oplog NOT INDEXED WHERE request IS NOT NULL"
    " AND lsn > (SELECT CASE WHEN saves = ? THEN ? ELSE lsn END FROM _entgldb_state)"
)
"""Parameters: a number of saves, and the row behind which to begin where there were no more."""
Answer = tuple[tuple[Written, ...], int]


def request_name(request: RequestId) -> bytes:
    """A request id as the log has it, beside the first entry that the request made."""
    return request.client + request.counter.to_bytes(COUNTER_BYTES, "big")


def answered(
    connection: sqlite3.Connection, state: State, request: RequestId, writes: Sequence[Write]
) -> Answer | None:
    """The answer this id had. Raises as ``remembered``, and InvalidError where it was none to ``writes``.

    Without this a name that is used twice would have a write be told as done that never was.
    """
    known = remembered(connection, state, request)
    if known is not None and writes:
        written = known[0]
        if len(written) != len(writes) or not all(
            one.seq == 0 or _made_of(connection, one, write)
            for one, write in zip(written, writes, strict=True)
        ):
            raise InvalidError("another request had this name", hint="a name of its own for each request")
    return known


def _made_of(connection: sqlite3.Connection, made: Written, write: Write) -> bool:
    """Whether a version is what ``write`` says, as far as the log still tells."""
    row = connection.execute(
        "SELECT l.header, l.body FROM _entgldb_origins o JOIN _entgldb_oplog l ON l.origin = o.id"
        " WHERE o.name = ? AND l.seq = ?",
        (made.origin, made.seq),
    ).fetchone()
    if row is None:
        return True
    header, text = decode(row[0]), row[1]
    if (header.collection, header.key) != (write.collection, write.key):
        return False
    if header.op != PUT or write.body is None or text is None or digest(write.body) == header.body_sha256:
        return True
    # a put that found all as it was names a version that was written otherwise, but says the same
    return bool(json.loads(write.body) == json.loads(text))


def remembered(connection: sqlite3.Connection, state: State, request: RequestId) -> Answer | None:
    """The answer this id had.

    Raises InvalidError for what is no request id, EntglError unknown-outcome where it is forgotten.
    """
    if len(request.client) != CLIENT_BYTES or not 0 <= request.counter <= COUNTER_MAX:
        raise InvalidError(
            "a request id is 16 bytes and a counter from 0", hint="draw the bytes once per client"
        )
    if request.counter > _newest(connection, state, request.client):
        return None
    # first the table: the log alone does not tell of an answer that was written down with its entries
    found = connection.execute(
        "SELECT answer, 0 FROM _entgldb_requests WHERE client = ? AND counter = ?"
        " UNION ALL SELECT NULL, forgotten FROM _entgldb_clients WHERE client = ?",
        (request.client, request.counter, request.client),
    ).fetchone()
    answer, forgotten = found or (None, -1)
    if answer is not None:
        origins, seqs, lsn = msgpack.unpackb(answer)
        if isinstance(origins, str):
            origins = [origins] * len(seqs)
        return tuple(map(Written, origins, seqs)), lsn
    known = state.answers.get((request.client, request.counter))
    if known is not None:
        return _answer(known)
    if request.counter <= max(forgotten, _awaited(state, request.client) - 1):
        raise EntglError(
            f"request {request.counter} is too old: its outcome is not known any more",
            code=ErrorCode.UNKNOWN_OUTCOME,
            hint="read the document to see whether it was written",
            definite=False,
        )
    return None


def remember_answer(
    connection: sqlite3.Connection,
    state: State,
    request: RequestId,
    written: Sequence[Written],
    lsns: tuple[int, int],
) -> None:
    """Remember an answer in the transaction that did the work.

    ``lsns``: the last before the request, and its own last, 0 where it made no entry. An answer that follows
    from the log goes to a table only when the state is saved, and only if somebody may still wait for it.
    """
    client, counter, awaited = request.client, request.counter, request.awaited
    before, last = lsns
    first, number = written[0].seq, len(written)
    if last == before + number and (
        number == 1
        or all(one.seq == first + at and one.origin == state.own for at, one in enumerate(written))
    ):
        answer = Remembered(state.own, first, number, last, state.lived_ms, awaited)
        _have(state, client, counter, answer)
    else:
        _insert(connection, state, [(client, counter, state.lived_ms, written, last)])
        if awaited:
            state.settled[client] = max(awaited, state.settled.get(client, 0))
    newest = counter if counter >= awaited else awaited - 1
    if newest > _newest(connection, state, client):
        state.newest[client] = newest
    # the lowest request that the client still waits for (Ongaro, "Consensus: Bridging Theory and Practice",
    # 2014, section 6.3); a copy of an earlier one may yet be on its way: it is not done again
    if awaited and counter % SETTLE_EVERY == 0:
        _settle(connection, state, client, awaited)


def recall_answers(connection: sqlite3.Connection, state: State, known: tuple[int, int] = (-1, 0)) -> None:
    """Take up the answers that follow from the log since the last save, once that log was read.

    ``known``: how often the state was saved, and the last row, when ``answers`` had all of them.
    """
    for lsn, raw, name in connection.execute(RECALL, known).fetchall():
        client, counter = name[:CLIENT_BYTES], int.from_bytes(name[CLIENT_BYTES:], "big")
        header = decode(raw)
        size = header.group_size
        answer = Remembered(header.origin, header.seq, size, lsn + size - 1, state.saved.lived_ms)
        _have(state, client, counter, answer)


def _have(state: State, client: bytes, counter: int, answer: Remembered) -> None:
    state.answers[client, counter] = answer
    if counter > state.latest.get(client, -1):
        state.latest[client] = counter


def keep_answers(connection: sqlite3.Connection, state: State) -> None:
    """Write down the answers that will not follow from the log any more, and have the state saved."""
    if not state.answers and not state.settled:
        return
    settled = dict(state.settled)
    for (client, _), answer in state.answers.items():
        if answer.awaited > settled.get(client, 0):
            settled[client] = answer.awaited
    awaited = [
        (client, counter, answer.at_ms, *_answer(answer))
        for (client, counter), answer in state.answers.items()
        if counter >= settled.get(client, 0)
    ]
    if len(awaited) < len(state.answers):
        for client in {client for client, counter in state.answers if counter < settled.get(client, 0)}:
            _settle(connection, state, client, settled[client])
    if awaited:
        _insert(connection, state, awaited)
    state.forget_answers()


def _newest(connection: sqlite3.Connection, state: State, client: bytes) -> int:
    """The counter behind which no request of a client was answered: most need no look at the file."""
    known = state.newest.get(client)
    if known is None:
        (known,) = connection.execute(
            "SELECT max(ifnull((SELECT max(counter) FROM _entgldb_requests WHERE client = ?), -1),"
            " ifnull((SELECT forgotten FROM _entgldb_clients WHERE client = ?), -1))",
            (client, client),
        ).fetchone()
        known = state.newest[client] = max(known, state.latest.get(client, -1))
    return int(known)


def _answer(known: Remembered) -> Answer:
    origin, first, entries, lsn, *_ = known
    return tuple(Written(origin, seq) for seq in range(first, first + entries)), lsn


def _insert(
    connection: sqlite3.Connection,
    state: State,
    answers: Sequence[tuple[bytes, int, int, Sequence[Written], int]],
) -> None:
    """Write answers down; now and then forget a few."""
    rows = []
    for client, counter, at_ms, written, lsn in answers:
        # a write that found all as it was names the version that it found, which may be another's
        origins = [one.origin for one in written]
        one_origin = origins[0] if len(set(origins)) == 1 else origins
        packed = msgpack.packb([one_origin, [one.seq for one in written], lsn], buf_size=PACK_BYTES)
        rows.append((client, counter, at_ms, packed))
    connection.executemany(
        "INSERT OR IGNORE INTO _entgldb_requests (client, counter, at_ms, answer) VALUES (?, ?, ?, ?)", rows
    )
    (last,) = connection.execute("SELECT max(id) FROM _entgldb_requests").fetchone()
    if last // FORGET_EVERY != (last - len(rows)) // FORGET_EVERY:
        _forget(connection, state.lived_ms)


def _awaited(state: State, client: bytes) -> int:
    """The lowest request that a client still waits for, as told since the last save."""
    told = (answer.awaited for (other, _), answer in state.answers.items() if other == client)
    return max(state.settled.get(client, 0), *told, 0)


def _settle(connection: sqlite3.Connection, state: State, client: bytes, awaited: int) -> None:
    """Forget what a client does not wait for any more, but that there was something."""
    connection.execute(
        "DELETE FROM _entgldb_requests WHERE id IN"
        " (SELECT id FROM _entgldb_requests WHERE client = ? AND counter < ? LIMIT ?)",
        (client, awaited, FORGET_ROWS_MAX),
    )
    connection.execute(_NOTE, (client, awaited - 1, state.lived_ms))


def forget_old(connection: sqlite3.Connection, state: State) -> None:
    """A step of dropping answers beyond 24 h (of the store's life) or 100,000; that they were stays known."""
    keep_answers(connection, state)
    _forget(connection, state.lived_ms)


def _forget(connection: sqlite3.Connection, lived_ms: int) -> None:
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


def kept_ms(connection: sqlite3.Connection, state: State) -> int | None:
    """How far back all answers that somebody may wait for are remembered; None: there are none."""
    row = connection.execute("SELECT at_ms FROM _entgldb_requests ORDER BY id LIMIT 1").fetchone()
    if row is None:
        return 0 if state.answers else None
    return state.lived_ms - int(row[0])
