"""``clock --reset``: own writes that a clock far ahead has stamped, stamped anew, as a new writer.

Nobody else has them: others hold what is stamped far ahead. Left alone they would be applied when time has
caught up, and win against all that was written meanwhile. So the old log *ends* before them. That is said by
the key of an entry of ``_system_ended``, in the new log and before the rest of it: headers go everywhere, a
cloud included, so that every node drops what it holds beyond the end, and takes nothing more of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import DRIFT_MS_MAX, NAMED_MAX
from entgldb.messages.model import ENDED, Origin, Version, node_of
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import Known
from entgldb.storage.log import members
from entgldb.storage.log.append import Batch
from entgldb.storage.log.apply import Applier
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.log.unfit import RECORDED
from entgldb.storage.log.writes import Writing
from entgldb.storage.repair import healing
from entgldb.storage.repair.incarnations import Incarnations
from entgldb.storage.repair.rewrite import Tail, Writer, entries, last_seen
from entgldb.storage.rules import clock
from entgldb.storage.rules.chain import NO_HEAD, Head
from entgldb.storage.rules.ended import ending
from entgldb.storage.rules.header import MERGE, Header, decode
from entgldb.storage.rules.incarnations import Why

_HOLD: Final = (
    "INSERT INTO _entgldb_held (origin, seq, hash, header, body, cloud, signature)"
    " SELECT origin, seq, hash, header, body, cloud, signature FROM temp.waiting"
)


class Reset(NamedTuple):
    """The result of a reset."""

    origin: Origin
    """The origin under which this node writes from now on."""
    written: int
    """Entries that were stamped anew."""
    put_off: int
    """Entries that are held here now, until time has caught up with them or their writer ends its log."""


def reset_clock(
    transaction: Transaction,
    incarnations: Incarnations,
    writing: Writing,
    request: RequestId,
    entropy: bytes,
    now_ms: int,
    *,
    ends: bool,
) -> Reset:
    """Go on from ``now_ms``, which is right, with the node's unseen writes. Raises InvalidError.

    ``ends``: others hear of it where this node ends its log; else its unseen writes wait, as those of others.
    """
    state, connection = transaction.state, transaction.connection
    state.shown_ms = now_ms
    state.time_ms = members.known_ms(connection, state, now_ms)
    bound = clock.from_ms(members.known_ms(connection, state, now_ms) + DRIFT_MS_MAX)
    if state.clock <= bound:
        raise InvalidError(
            "the stamps of this node do not run ahead of most clocks: there is nothing to reset"
        )
    old, batch = state.own, Batch(connection, state)
    tail = Tail(batch, old, _seen_elsewhere(transaction, bound), last_seen(batch, old, {}))
    put_off = 0
    if tail.covered.hlc <= bound:
        put_off = _put_off(transaction, _firsts(transaction, bound))
    before = _greatest_without(transaction, tail)
    if before > bound:
        raise InvalidError(
            "others have taken what was stamped ahead: every node goes on from there",
            hint="nothing is held for it where most clocks have shown that time: entgldb clock",
        )
    state.clock = before
    if not tail.exists():
        return Reset(old, 0, put_off)
    if not ends:
        put_off += _put_off(transaction, {old: tail.covered.seq + 1})
        return Reset(incarnations.reincarnate(entropy, Why.CLOCK, now_ms), 0, put_off)
    _set_aside(tail)
    _need_whole_log(transaction, "tail")
    healing.take_out(Batch(connection, state), {old: tail.covered.seq + 1})
    new = incarnations.reincarnate(entropy, Why.CLOCK, now_ms)
    writing.write(request, [Write(ENDED, ending(old, tail.covered.seq), b"{}")], now_ms, system=True)
    state.end(connection, old, tail.covered.seq)
    return Reset(new, _write_again(transaction, tail, new, now_ms), put_off)


def _firsts(transaction: Transaction, bound: int) -> dict[Origin, int]:
    """The first entry stamped ahead of each log but the own one, where the log still has it."""
    firsts = {}
    for origin, known in transaction.state.origins.items():
        if origin == transaction.state.own or known.head.hlc <= bound:
            continue
        first = healing.first_ahead(transaction.connection, known.number, known.head.seq, bound)
        if first > known.floor:
            firsts[origin] = first
    return firsts


def _put_off(transaction: Transaction, firsts: Mapping[Origin, int]) -> int:
    """Hold what each log has from its first on, however much is held already; how many entries.

    Its writer may never come again, and a former log of this node has no other writer: nothing is let go.
    """
    connection, state = transaction.connection, transaction.state
    lasts, moved = dict[Origin, Head](), 0
    empty(connection, "waiting")
    for origin, first in firsts.items():
        number, head, *_ = state.origins[origin]
        lasts[origin] = state.held.get(origin, head._replace(forked=False))
        moved += connection.execute(
            "INSERT INTO temp.waiting"
            " SELECT origin, seq, hash, header, CAST(body AS BLOB), applied = ?, signature"
            " FROM _entgldb_oplog WHERE origin = ? AND seq >= ?",
            (RECORDED, number, first),
        ).rowcount
    _need_whole_log(transaction, "waiting")
    for origin in firsts:
        number = state.origins[origin].number
        connection.execute(
            "INSERT INTO temp.waiting SELECT origin, seq, hash, header, body, cloud, signature"
            " FROM _entgldb_held WHERE origin = ?",
            (number,),
        )
    if lasts:
        healing.take_out(Batch(connection, state), firsts)
        connection.execute(_HOLD)
        for origin, last in lasts.items():
            state.held[origin] = last
    return moved


def _write_again(transaction: Transaction, tail: Tail, new: Origin, now_ms: int) -> int:
    """The entries that were set aside, each merged as it will be by whoever takes the new log."""
    batch = Batch(transaction.connection, transaction.state)
    writer = Writer(batch, new, now_ms, old=tail.old, after=tail.covered.seq)
    applier = Applier(batch, now_ms)
    for header, text in _rows(transaction):
        made, said, lsn = writer.again(header, text)
        transaction.state.move(new, writer.head)
        applier.merge(made, said, lsn)
    writer.end()
    return writer.written


def _set_aside(tail: Tail) -> None:
    empty(tail.connection, "tail")
    tail.connection.execute(
        "INSERT INTO temp.tail SELECT seq, header, body FROM _entgldb_oplog WHERE origin = ? AND seq > ?",
        (tail.number, tail.covered.seq),
    )


def _need_whole_log(transaction: Transaction, table: str) -> None:
    """A change of fields can be taken back, and written again, only on what it was made from. Raises
    InvalidError."""
    for (raw,) in transaction.connection.execute(f"SELECT header FROM temp.{table}"):  # noqa: S608 -- a constant
        header = decode(raw)
        for version in header.named if header.op == MERGE else ():
            known = transaction.state.origins.get(version.origin)
            if known is None or version.seq <= known.floor:
                raise InvalidError(
                    f"{header.collection}/{header.key} was changed on a version that is pruned here",
                    hint="wait until time has caught up, or entgldb held --release on the others",
                )


def _rows(transaction: Transaction) -> Iterator[tuple[Header, str | None]]:
    for header, text in entries(transaction.connection, "temp.tail WHERE seq > ?", after=0):
        named = _standing(transaction.connection, header)
        parent = named[0] if header.parent is not None and named else None
        seen = tuple(version for version in named if version != parent)
        yield header._replace(parent=parent, seen=seen[:NAMED_MAX]), text


def _standing(connection: sqlite3.Connection, header: Header) -> list[Version]:
    """The versions that an entry names, its parent first; in the place of one that is put off stand those
    that it named itself.

    Nothing may be stamped before what it names: who gets the two in the other order would see it otherwise.
    """
    found, waiting, met = list[Version](), _in_turn(header), set[Version]()
    while waiting:
        version = waiting.pop()
        if version in met:
            continue
        met.add(version)
        row = connection.execute(
            "SELECT h.header FROM _entgldb_held h JOIN _entgldb_origins o ON o.id = h.origin"
            " WHERE o.name = ? AND h.seq = ?",
            version,
        ).fetchone()
        if row is None:
            found.append(version)
        else:
            waiting += _in_turn(decode(row[0]))
    return found


def _in_turn(header: Header) -> list[Version]:
    """The versions that an entry names, its parent last."""
    return [*reversed(header.seen), *(() if header.parent is None else (header.parent,))]


def _seen_elsewhere(transaction: Transaction, bound: int) -> Head:
    """The end of our log as far as some other node has it that is not expelled, or it is stamped right."""
    state = transaction.state
    known, own = state.origins[state.own], node_of(state.own)
    seq = healing.first_ahead(transaction.connection, known.number, known.head.seq, bound) - 1
    rows = [(one.row, node_of(one.row.origin)) for one in members.members(transaction.connection).values()]
    told = [row.vector.get(state.own, 0) for row, name in rows if name != own and not state.is_out(name)]
    return _head(transaction, known, max([seq, known.floor, *told]))


def _head(transaction: Transaction, known: Known, seq: int) -> Head:
    """Our log as it was when it ended at ``seq``."""
    find = "SELECT header, hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?"
    row = transaction.connection.execute(find, (known.number, seq)).fetchone()
    if row is not None:
        return Head(seq, row[1], hlc=decode(row[0]).hlc)
    after = transaction.connection.execute(find, (known.number, seq + 1)).fetchone()
    if seq == 0 or after is None:
        return known.head if seq else NO_HEAD
    return Head(seq, decode(after[0]).prev_hash, hlc=known.floor_hlc)


def _greatest_without(transaction: Transaction, tail: Tail) -> int:
    """The greatest stamp of all that stays: nothing may be stamped before what its writer had seen."""
    state = transaction.state
    heads = [known.head.hlc for origin, known in state.origins.items() if origin != tail.old]
    found = [state.collected_hlc, tail.covered.hlc, *heads]
    for table in ("_entgldb_documents", "_entgldb_conflicts"):
        (hlc,) = transaction.connection.execute(
            f"SELECT ifnull(max(hlc), 0) FROM {table} WHERE NOT (origin = ? AND seq > ?)",  # noqa: S608 -- constants
            (tail.number, tail.covered.seq),
        ).fetchone()
        found.append(hlc)
    return max(found)
