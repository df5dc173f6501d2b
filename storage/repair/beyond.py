"""Logs of which more is here than counts, and can no more be taken out.

A snapshot has brought it, from a node that had not heard yet that their node was expelled.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from entgldb.messages.model import EXPELLED, node_of
from entgldb.messages.schema import Json
from entgldb.storage.file.state import State
from entgldb.storage.rules.ended import any_log, end_of_expelled, ending, said_in

BEYOND_END: Final = "beyond-end"


def alarms(connection: sqlite3.Connection, state: State) -> list[Json]:
    """One for each node, in the form of ``actors.alarms``."""
    kept = dict[str, int]()
    for origin, known in state.origins.items() if state.ended else ():
        end = end_of_expelled(state.ended, origin)
        if end is not None and known.floor > end:
            kept[node_of(origin)] = kept.get(node_of(origin), 0) + known.floor - end
    return [
        {
            "code": BEYOND_END,
            "subject": name,
            "text": f"a snapshot has brought {count} writes of {name} that count nowhere else: it had been "
            "expelled before them. Make this node anew: entgldb invite --for its name, on another node",
            "since_ms": _heard_ms(connection, state, name),
        }
        for name, count in sorted(kept.items())
    ]


def _heard_ms(connection: sqlite3.Connection, state: State, name: str) -> int:
    """When this node has said again that a node is out; a cloud says nothing again."""
    row = connection.execute(
        "SELECT body FROM _entgldb_documents WHERE collection = ? AND key = ?",
        (EXPELLED, ending(any_log(name), 0)),
    ).fetchone()
    said = said_in(row[0] if row else None)["Said"]
    return int(said.get(node_of(state.own), state.shown_ms))
