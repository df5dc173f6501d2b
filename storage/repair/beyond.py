"""Logs of which more is here than counts, and can no more be taken out.

A snapshot has brought it, from a node that had not heard yet that their node was expelled.
"""

from __future__ import annotations

from typing import Final

from entgldb.messages.model import node_of
from entgldb.messages.schema import Json
from entgldb.storage.file.state import State
from entgldb.storage.rules.ended import end_of_expelled

BEYOND_END: Final = "beyond-end"


def alarms(state: State) -> list[Json]:
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
            "since_ms": state.shown_ms,
        }
        for name, count in sorted(kept.items())
    ]
