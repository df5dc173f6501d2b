"""Hiding what has expired: a document becomes what a delete of its very version would be.

No entry says so and nothing travels: the moment stands in the header of the version, so that every node does
the same when its clock passes it. The row takes a new number, by which change feeds tell it as a delete.
"""

from __future__ import annotations

from typing import Final

from entgldb.storage.file.state import soonest
from entgldb.storage.log import members
from entgldb.storage.log.append import Batch
from entgldb.storage.log.prune import STEP_BYTES, STEP_ROWS
from entgldb.storage.log.rows import read_row, write_row
from entgldb.storage.log.transaction import Transaction
from entgldb.storage.rules import clock
from entgldb.storage.rules.merging.row import loser_of

_DUE: Final = (
    "SELECT id, collection, key, stamps IS NOT NULL, length(body) + ifnull(length(stamps), 0)"
    " FROM _entgldb_documents INDEXED BY _entgldb_expiring"
    " WHERE expires IS NOT NULL AND body IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?"
)
_HIDE: Final = "UPDATE _entgldb_documents SET body = NULL, sha256 = NULL, lsn = ? WHERE id = ?"
_CONFLICTS: Final = (
    "DELETE FROM _entgldb_conflicts WHERE id IN (SELECT id FROM _entgldb_conflicts"
    " INDEXED BY _entgldb_conflicts_expiring WHERE expires IS NOT NULL AND expires <= ? LIMIT ?)"
)


def expire(transaction: Transaction, now_ms: int) -> int:
    """Hide what has expired, a bounded step of it; how many documents and conflicts.

    ``now_ms``: of the wall clock without a leap that has not lasted yet, 0 where it is known to be wrong;
    what most clocks have shown counts too.
    """
    transaction.need_group()
    state, connection = transaction.state, transaction.connection
    batch = Batch(connection, state)
    state.time_ms = max(state.time_ms, now_ms)
    others = members.clocks_shown(connection, state)
    state.time_ms = clock.known_ms(state.time_ms, [state.time_ms, *others])
    if not 0 < state.soonest_ms <= state.time_ms:
        return 0
    hidden, size = list[tuple[int, int]](), 0
    merged = list[tuple[str, str]]()
    rows = connection.execute(_DUE, (state.time_ms, STEP_ROWS))
    for number, collection, key, merges, length in rows:
        size += length
        if merges:
            merged.append((collection, key))
        else:
            hidden.append((state.next_lsn(), number))
        if size > STEP_BYTES:
            break
    rows.close()
    connection.executemany(_HIDE, hidden)
    state.documents -= len(hidden)
    for place in merged:
        row = read_row(batch, *place)
        assert row is not None  # nobody else writes within this transaction
        write_row(batch, place, row, state.next_lsn(), bounded=False)
        for tip in row.tips:
            batch.keep_loser(*place, loser_of(row, tip))
    conflicts = connection.execute(_CONFLICTS, (state.time_ms, STEP_ROWS)).rowcount
    state.conflicts -= conflicts
    state.soonest_ms = soonest(connection)
    return len(hidden) + len(merged) + conflicts
