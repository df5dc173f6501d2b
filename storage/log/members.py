"""The last word of every member, kept in the file: a local table, never an operation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgpack

from entgldb.messages.limits import MEMBERS_MAX, PACK_BYTES
from entgldb.messages.model import Origin, node_of
from entgldb.messages.wire import Member
from entgldb.storage.file.state import State
from entgldb.storage.rules import clock
from entgldb.storage.rules.ended import is_any_log
from entgldb.storage.rules.members import member_name
from entgldb.storage.rules.results import Heard

VOICE_MS: Final = 24 * 3600 * 1000
"""A node that was not heard of for so long has no voice about the time."""


def remember_members(
    connection: sqlite3.Connection, rows: Iterable[Member], now_ms: int, lived_ms: int, *, cloud: bool
) -> None:
    """Keep rows that are later than those kept, heard at ``now_ms``; the longest silent make room.

    ``lived_ms``: the same moment in the life of the store.
    """
    connection.executemany(
        "INSERT INTO _entgldb_members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " origin = excluded.origin, counter = excluded.counter, seen_ms = excluded.seen_ms,"
        " heard_ms = excluded.heard_ms, vector = excluded.vector, lived_ms = excluded.lived_ms,"
        " shown_ms = excluded.shown_ms, cluster = excluded.cluster, unsettled = excluded.unsettled"
        " WHERE excluded.counter > counter",
        [
            (
                member_name(row.origin, cloud=cloud),
                row.origin,
                row.counter,
                row.seen_ms,
                now_ms,
                msgpack.packb(row.vector, buf_size=PACK_BYTES),
                lived_ms,
                row.shown_ms,
                row.cluster,
                msgpack.packb(row.unsettled, buf_size=PACK_BYTES),
            )
            for row in rows
        ],
    )
    connection.execute(
        "DELETE FROM _entgldb_members WHERE name NOT IN (SELECT name FROM _entgldb_members"
        " ORDER BY lived_ms DESC, name LIMIT ?)",
        (MEMBERS_MAX,),
    )


def members(connection: sqlite3.Connection) -> dict[str, Heard]:
    """Name -> the last row kept."""
    rows = connection.execute(
        "SELECT name, heard_ms, lived_ms, origin, counter, seen_ms, vector, shown_ms, cluster, unsettled"
        " FROM _entgldb_members ORDER BY lived_ms, name"
    ).fetchall()
    return {name: Heard(_row(*columns), heard_ms, lived_ms) for name, heard_ms, lived_ms, *columns in rows}


def _row(
    origin: Origin, counter: int, seen_ms: int, vector: bytes, shown_ms: int, cluster: str, unsettled: bytes
) -> Member:
    return Member(
        origin, counter, seen_ms, msgpack.unpackb(vector), shown_ms, cluster, msgpack.unpackb(unsettled)
    )


def expelled(connection: sqlite3.Connection) -> frozenset[str]:
    """The nodes that were expelled, as far as is known here: also by a word that is held."""
    rows = connection.execute("SELECT origin FROM _entgldb_ended")
    return frozenset(node_of(origin) for (origin,) in rows.fetchall() if is_any_log(origin))


def clocks_shown(connection: sqlite3.Connection, state: State) -> list[int]:
    """The latest time that the clock of each other node has shown, of those heard of lately that are not
    expelled."""
    rows = connection.execute(
        "SELECT origin, shown_ms FROM _entgldb_members"
        " WHERE shown_ms > 0 AND lived_ms >= ? ORDER BY lived_ms",
        (state.lived_ms - VOICE_MS,),
    )
    latest = {node_of(origin): shown_ms for origin, shown_ms in rows}
    latest.pop(node_of(state.own), None)
    return [shown_ms for name, shown_ms in latest.items() if not state.is_out(name)]


def known_ms(connection: sqlite3.Connection, state: State, now_ms: int) -> int:
    """The latest time that this node can believe in: see ``rules.clock.known_ms``."""
    others = clocks_shown(connection, state)
    return clock.known_ms(now_ms, [state.shown_ms, *others] if state.shown_ms else others)


def go_along(connection: sqlite3.Connection, state: State, now_ms: int) -> None:
    """Speak for the time that most clocks had shown, once stamps of that time are taken.

    This node stamps by them from now on and cannot go back. A voice that is heard later, or one that takes
    its word back by ``clock --reset``, would else make its peers hold all that it and they write.

    The median stays as it is, since nobody speaks for more than that. A node whose own clock has shown
    nothing has no voice.
    """
    if state.shown_ms and clock.too_far_ahead(state.clock, now_ms):
        state.shown_ms = max(state.shown_ms, known_ms(connection, state, now_ms))
