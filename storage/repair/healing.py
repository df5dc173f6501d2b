"""Ending a fork: one branch of an origin's log stays, the other is taken out and kept as versions that lost.

Two branches use the same numbers, so they cannot both stand in one log. The other branch's last write to
each key goes into a log of its own, under a new origin and with the smallest clocks there are. If the key
has another version, this write loses, and every node lists it as a conflict. If the key has none, this write
stays.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from entgldb.messages.errors import EntglError, InvalidError, Reason
from entgldb.messages.limits import BODY_BYTES_MAX
from entgldb.messages.model import SYSTEM_PREFIX, Origin, Version
from entgldb.storage.authorship import runs
from entgldb.storage.file.scratch import empty
from entgldb.storage.file.state import State
from entgldb.storage.log import unfit
from entgldb.storage.log.append import Batch
from entgldb.storage.log.rows import read_operation, read_row, write_row
from entgldb.storage.log.unfit import APPLIED, UNFIT
from entgldb.storage.rules.chain import Head
from entgldb.storage.rules.header import MERGE, PUT, Header, body_text, decode, digest, encode, expiring
from entgldb.storage.rules.merging.accumulating import tags_removed
from entgldb.storage.rules.merging.changes import plant
from entgldb.storage.rules.merging.row import Merging, Operation, read_merging, refolded
from entgldb.storage.rules.merging.stored import Stored
from entgldb.storage.rules.merging.tree import Stamp, render, settle, text_of
from entgldb.storage.snapshot.steps import Steps


def branch(connection: sqlite3.Connection, origin: Origin, keep: str) -> tuple[int, bytes] | None:
    """An entry that tells the branch to keep, ``ours`` or ``theirs``, from the other; None without a fork.

    Raises InvalidError for theirs where ours is pruned.
    """
    row = connection.execute(
        "SELECT f.seq, f.ours, f.theirs, h.seq, h.head FROM _entgldb_forks f JOIN _entgldb_origins o"
        " ON o.id = f.origin JOIN _entgldb_heads h ON h.id = o.id"
        " WHERE o.name = ? AND o.quarantined = 1 ORDER BY f.seq, f.id LIMIT 1",
        (origin,),
    ).fetchone()
    if row is None:
        return None
    _, ours, theirs, *end = row
    if keep == "theirs" and not ours:
        raise InvalidError(
            f"the branch of {origin} that is here is pruned: it can no more be taken out", hint="keep ours"
        )
    raw = ours if keep == "ours" else theirs
    return (decode(raw).seq, digest(raw)) if raw else (end[0], end[1])


def cut(connection: sqlite3.Connection, state: State, origin: Origin, seq: int, kept: bytes) -> int:
    """First seq to take out so that the branch with entry ``kept`` at ``seq`` can stay; 0: nothing."""
    known = state.origins.get(origin)
    if known is None or seq <= known.floor:
        return 0
    number, head, floor, _ = known
    row = connection.execute(
        "SELECT hash FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (number, seq)
    ).fetchone()
    if row is not None:
        return 0 if row[0] == kept else seq
    if not head.forked or head.seq <= floor:
        return 0
    # The branches part earlier than the entry we know them by: go back one by one until they meet. Nobody has
    # the other branch's hashes below it. To go back further at a time would take out entries that both have:
    # they come again by the log, and stand beside themselves as conflicts.
    proofs = connection.execute(
        "SELECT theirs FROM _entgldb_forks WHERE origin = ? AND seq = ?", (number, head.seq + 1)
    )
    apart = any(decode(raw).prev_hash != head.hash for (raw,) in proofs.fetchall() if raw)
    return head.seq if apart else 0


def reopen(state: State, origin: Origin) -> None:
    """Take the origin's entries again: our entries are the branch to keep, as far as they go."""
    known = state.origins.get(origin)
    if known is not None and known.head.forked:
        state.move(origin, known.head._replace(forked=False))


def first_ahead(connection: sqlite3.Connection, number: int, head: int, bound: int) -> int:
    """The first seq of a log that is not stamped right; a transaction is one thing, and goes as a whole."""
    rows = connection.execute(
        "SELECT header FROM _entgldb_oplog WHERE origin = ? ORDER BY seq DESC", (number,)
    )
    first = head + 1
    for (raw,) in rows:
        header = decode(raw)
        if header.hlc <= bound:
            break
        first = header.seq - header.group_index
    rows.close()
    return first


def take_out(batch: Batch, firsts: Mapping[Origin, int], *, expected: bool = False) -> None:
    """Remove the entries of each origin from its first on; ``dropped`` tells the last document that they put
    to each key.

    ``expected``: a merge that is under way has counted without them, but for their keys.

    One key at a time is in memory, with what the log has of it; the log is walked once.
    """
    connection, state = batch.connection, batch.state
    empty(connection, "touched", "logged", "dropped", "removed", "replaced", "named", "cuts")
    heads = {origin: _remember_all(batch, origin, first) for origin, first in firsts.items()}
    pruned_to = max(known.floor_hlc for known in state.origins.values())
    connection.execute(
        "INSERT INTO temp.logged SELECT t.id, l.lsn FROM _entgldb_oplog l CROSS JOIN temp.touched t"
        " ON t.collection = l.collection AND t.key = l.key WHERE l.applied = ?"
        " AND NOT EXISTS (SELECT 1 FROM temp.cuts c WHERE c.origin = l.origin AND l.seq >= c.first)",
        (APPLIED,),
    )
    _note_names(batch, firsts, _forget_notes(connection))
    for origin, head in heads.items():
        _cut(connection, state, origin, head)
    _refold(batch, pruned_to)
    if state.unfit_logged:
        unfit.set_aside_again(connection, state)
    # the branch may have set the rule of a collection
    state.read_rules(connection)
    steps = Steps(connection, state)
    if expected:
        steps.note("temp.touched")
    else:
        steps.forsake()


def _remember_all(batch: Batch, origin: Origin, first: int) -> Head:
    """Note what the entries from ``first`` on have done; the end of the log without them."""
    connection, state = batch.connection, batch.state
    known = state.origins[origin]
    number = known.number
    connection.execute("INSERT INTO temp.cuts VALUES (?, ?)", (number, first))
    previous, rows, size = b"", 0, 0
    for raw, body, applied, waits in connection.execute(
        "SELECT header, body, applied, EXISTS (SELECT 1 FROM _entgldb_quarantine q WHERE q.origin = l.origin"
        " AND q.seq = l.seq) FROM _entgldb_oplog l WHERE origin = ? AND seq >= ? ORDER BY seq",
        (number, first),
    ):
        header = decode(raw)
        previous = header.prev_hash if rows == 0 else previous
        rows, size = rows + 1, size + len(raw) + len(body or "")
        if applied == APPLIED:
            _remember(batch, header, body)
        elif waits:
            _keep_waiting(batch, header, body)
        if applied == UNFIT or (applied and header.op != MERGE and state.unfit_logged):
            unfit.note_named(connection, header)
    state.entries -= rows
    state.log_bytes -= size
    before = connection.execute(
        "SELECT header FROM _entgldb_oplog WHERE origin = ? AND seq = ?", (number, first - 1)
    ).fetchone()
    return Head(first - 1, previous, hlc=known.floor_hlc if before is None else decode(before[0]).hlc)


def _forget_notes(connection: sqlite3.Connection) -> set[Version]:
    """Drop the notes about versions that entries of the branch named: it may have been these alone."""
    noted = connection.execute(
        "SELECT s.origin, s.seq FROM temp.replaced r CROSS JOIN _entgldb_successors s"
        " ON s.origin = r.origin AND s.seq = r.seq"
    ).fetchall()
    connection.executemany("DELETE FROM _entgldb_successors WHERE origin = ? AND seq = ?", noted)
    return {Version(*one) for one in noted}


def _note_names(batch: Batch, firsts: Mapping[Origin, int], forgotten: Set[Version]) -> None:
    """Entries that stay may name versions of the branch that is to come: it has the same numbers.

    ``forgotten``: versions of which a note was dropped, and is made again where one that stays names them.
    """
    connection, state = batch.connection, batch.state
    find = "SELECT collection, key FROM _entgldb_oplog WHERE origin = ? AND seq = ?"
    # a header is taken apart only where it has such a name at all
    origins = {*firsts, *(version.origin for version in forgotten)}
    named = re.compile(b"|".join(re.escape(origin.encode()) for origin in origins)).search
    for raw, collection, key in connection.execute(
        "SELECT l.header, l.collection, l.key FROM _entgldb_oplog l WHERE NOT EXISTS"
        " (SELECT 1 FROM temp.cuts c WHERE c.origin = l.origin AND l.seq >= c.first)"
    ):
        for version in decode(raw).named if named(raw) else ():
            if version in forgotten:
                batch.note_successor(version)
            elif version.seq >= firsts.get(version.origin, version.seq + 1):
                here = connection.execute(
                    find, (state.origins[version.origin].number, version.seq)
                ).fetchone()
                # nobody has said yet where a log ends: then it may be this very version that comes
                if here != (collection, key) or state.may_still_come(version):
                    batch.note_successor(version)


def _cut(connection: sqlite3.Connection, state: State, origin: Origin, head: Head) -> None:
    """The log of ``origin`` ends with ``head``; nothing of it is held."""
    behind = (state.origins[origin].number, head.seq)
    connection.execute("DELETE FROM _entgldb_oplog WHERE origin = ? AND seq > ?", behind)
    connection.execute("DELETE FROM _entgldb_held WHERE origin = ?", behind[:1])
    state.held.discard(origin)
    state.move(origin, head)
    runs.cut(connection, *behind)
    # an entry of another branch may come under its number
    state.unfit -= connection.execute(
        "DELETE FROM _entgldb_quarantine WHERE origin = ? AND seq > ?", behind
    ).rowcount
    state.conflicts -= connection.execute(
        "DELETE FROM _entgldb_conflicts WHERE origin = ? AND seq > ?", behind
    ).rowcount


class Dropped(NamedTuple):
    """A document of the branch that was taken out."""

    collection: str
    key: str
    body: str
    expires: int = 0


def dropped(connection: sqlite3.Connection) -> Iterator[Dropped]:
    """The documents of the branch that was taken out."""
    last = 0
    while row := connection.execute(
        "SELECT id, collection, key, body, expires FROM temp.dropped WHERE id > ? AND body IS NOT NULL"
        " ORDER BY id LIMIT 1",
        (last,),
    ).fetchone():
        last = row[0]
        yield Dropped(*row[1:])


def lost(connection: sqlite3.Connection) -> Counter[str]:
    """Keys of the branch that was taken out of which something can be kept nowhere, by the Reason."""
    query = "SELECT reason, count(*) FROM temp.dropped WHERE reason IS NOT NULL GROUP BY reason"
    return Counter(dict(connection.execute(query).fetchall()))


def _remember(batch: Batch, header: Header, body: str | None) -> None:
    """Note which key an entry of the branch wrote, under which stamps, and what the key has by it."""
    execute = batch.connection.execute
    place = (header.collection, header.key)
    execute("INSERT OR IGNORE INTO temp.touched (collection, key) VALUES (?, ?)", place)
    stamps: list[Stamp] = [(header.hlc, header.origin)]
    if header.op == MERGE and body is not None:
        # the merge carries the stamp of a delete below it: without the merge, leaves that the delete hid
        # show again
        said = read_merging(body, stamps[0])
        stamps += [] if said.over is None else [said.over]
        # and a removed tag the stamp of its adding
        stamps += tags_removed(said.change)
        body = batch.text(place)
        if body is not None and len(body.encode()) > BODY_BYTES_MAX:
            # larger than anybody can take as a put: the branch's own fields, without what others wrote
            body = own_fields(said, stamps[0])
    for stamp in stamps:
        execute(
            "INSERT OR IGNORE INTO temp.removed SELECT id, ?, ? FROM temp.touched"
            " WHERE collection = ? AND key = ?",
            (*stamp, *place),
        )
    for version in header.named:
        execute(
            "INSERT OR IGNORE INTO temp.replaced SELECT id, ?, ? FROM temp.touched"
            " WHERE collection = ? AND key = ?",
            (*version, *place),
        )
    _keep(batch, header, body)


def _keep_waiting(batch: Batch, header: Header, body: str | bytes | None) -> None:
    """An entry in quarantine has done nothing here, but its writer was answered as for the others."""
    try:
        text = None if body is None else body_text(header, body.encode() if isinstance(body, str) else body)
    except EntglError as fault:
        # what the branch had put to this key before is kept
        _note_lost(batch, header, Reason(fault.code.value))
        return
    if header.op == MERGE and text is not None:
        stamp = (header.hlc, header.origin)
        text = own_fields(read_merging(text, stamp), stamp)
    _keep(batch, header, text)


def own_fields(said: Merging, stamp: Stamp) -> str | None:
    """The document that a merge has made where nothing else was; None: it deletes."""
    # elements of which it changed a field show with that alone
    return text_of(render(settle(plant(said.change, stamp)), partial=True))


def _keep(batch: Batch, header: Header, body: str | None) -> None:
    """The last document that the branch has put to this key, if any."""
    execute, place = batch.connection.execute, (header.collection, header.key)
    execute("DELETE FROM temp.dropped WHERE collection = ? AND key = ?", place)
    if body is None:
        return
    if header.collection.startswith(SYSTEM_PREFIX):
        _note_lost(batch, header, Reason.FILTERED)
    elif len(body.encode()) > BODY_BYTES_MAX:
        _note_lost(batch, header, Reason.TOO_LARGE)
    else:
        execute(
            "INSERT INTO temp.dropped (collection, key, body, expires) VALUES (?, ?, ?, ?)",
            (*place, body, header.expires),
        )


def _note_lost(batch: Batch, header: Header, reason: Reason) -> None:
    batch.connection.execute(
        "INSERT INTO temp.dropped (collection, key, reason) VALUES (?, ?, ?)"
        " ON CONFLICT (collection, key) DO UPDATE SET reason = excluded.reason",
        (header.collection, header.key, reason.value),
    )


def is_shown(connection: sqlite3.Connection, document: Dropped) -> bool:
    """Whether somebody has put the same body beside or in the place of it already."""
    row = connection.execute(
        "SELECT 1 FROM _entgldb_documents WHERE collection = ? AND key = ? AND body = ? UNION ALL"
        " SELECT 1 FROM _entgldb_conflicts WHERE collection = ? AND key = ? AND body = ?",
        document[:3] * 2,
    ).fetchone()
    return row is not None


def as_versions_that_lost(origin: Origin, documents: Iterable[Dropped]) -> Iterator[tuple[bytes, str]]:
    """A log of ``origin`` that puts ``documents`` with the smallest clocks: headers and bodies."""
    previous = b""
    for seq, (collection, key, body, expires) in enumerate(documents, 1):
        header = Header(origin, seq, seq, collection, key, PUT, None, 0, 1, digest(body.encode()), previous)
        header = header._replace(optional=expiring(expires))
        raw = encode(header)
        previous = digest(raw)
        yield raw, body


def _refold(batch: Batch, pruned_to: int) -> None:
    """Documents and conflicts of the touched keys anew: what they have without the branch, and the log.

    ``pruned_to``: the greatest stamp of all that is pruned.
    """
    execute = batch.connection.execute
    for number, *names in execute("SELECT id, collection, key FROM temp.touched ORDER BY collection, key"):
        place = (names[0], names[1])
        before = read_row(batch, *place)
        if before is None:
            continue
        logged = execute(
            "SELECT l.header, l.body FROM temp.logged t CROSS JOIN _entgldb_oplog l ON l.lsn = t.lsn"
            " WHERE t.place = ? ORDER BY t.lsn",
            (number,),
        )
        # an entry that cannot be applied here is not among them, and what it names is replaced all the same
        headers = (
            (unfit.replace_unfit(batch.connection, batch.state, decode(raw))[0], body) for raw, body in logged
        )
        operations = [read_operation(header, body) for header, body in headers]
        gone = set(execute("SELECT hlc, origin FROM temp.removed WHERE place = ?", (number,)))
        settled = _settled(batch, number, place, before, operations, pruned_to)
        row, losers = refolded(before, operations, gone, settled, batch.state.time_ms)
        if row is None:
            batch.bury(*place)
            batch.state.documents -= before.shown
            continue
        write_row(batch, place, row, batch.state.next_lsn(), bounded=False)
        for tip in {row.newest, *row.tips, *(one.row.newest for one in operations)}:
            batch.clear_conflict(place, tip.version)
        for loser in losers:
            batch.keep_loser(*place, loser)


def _settled(
    batch: Batch,
    touched: int,
    place: tuple[str, str],
    row: Stored,
    left: list[Operation],
    pruned_to: int,
) -> set[Version]:
    """The versions that only an entry which is pruned can have replaced: nothing in the log names them, the
    branch included, and yet they neither stand nor are listed.

    So it is, too, where the entry that replaced them had come before the one that it names. Those that are
    newer than all that is pruned are of that kind.
    """
    # a delete of the whole document has nothing to be shown
    older = {
        one.row.newest.version
        for one in left
        if one.row.newest.hlc < pruned_to and (one.row.live or one.row.fields is not None)
    }
    if not older:
        return older
    execute = batch.connection.execute
    known = execute(
        "SELECT origin, seq FROM temp.replaced WHERE place = ? UNION ALL"
        " SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
        " WHERE c.collection = ? AND c.key = ? UNION ALL"
        " SELECT o.name, d.seq FROM _entgldb_documents d JOIN _entgldb_origins o ON o.id = d.origin"
        " WHERE d.collection = ? AND d.key = ?",
        (touched, *place, *place),
    )
    named = {Version(*version) for version in known} | {version for one in left for version in one.named}
    named |= {tip.version for tip in row.tips}
    return older - named
