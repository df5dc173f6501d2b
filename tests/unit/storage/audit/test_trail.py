"""The chain of the audit log: whatever is done to its rows shows, and the oldest go without breaking it."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.administration import Event
from entgldb.messages.limits import AUDIT_BURST, AUDIT_PAUSE_SECONDS, AUDIT_TEXT_CHARS_MAX
from entgldb.storage.audit.reading import chained, newest, verify
from entgldb.storage.audit.rows import FAULTS_MAX, Act
from entgldb.storage.audit.sparing import Sparing
from entgldb.storage.audit.trail import Trail, exists

NOW = 1_800_000_000_000


def trail_of(rows: int, rows_max: int = 1000) -> tuple[sqlite3.Connection, Trail]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    trail = Trail(connection, "n1", rows_max)
    for number in range(rows):
        trail.note(Act(Event.PEER, f"cloud-{number}", "added", "uid 1 pid 2"), NOW + number)
    return connection, trail


def test_a_file_in_which_nothing_has_happened_has_no_table() -> None:
    connection, trail = trail_of(0)
    assert not exists(connection)
    assert trail.head() == ""
    assert newest(connection, 9) == []
    assert verify(connection).faults == []


def test_rows_are_read_in_order_and_are_one_chain() -> None:
    connection, trail = trail_of(700)
    rows = [row for row, _ in chained(connection)]
    assert [row.number for row in rows] == list(range(1, 701))
    assert rows[0][1:] == (NOW, "peer", "n1", "uid 1 pid 2", "cloud-0", "added", "", 0)
    assert [row.number for row in newest(connection, 2)] == [700, 699]
    verdict = verify(connection)
    assert (verdict.rows, verdict.first, verdict.last, verdict.faults) == (700, 1, 700, [])
    assert trail.head() == f"700:{verdict.digest.hex()}"


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("UPDATE _entgldb_audit SET who = 'somebody else' WHERE number = 5", "row 5 is not what was"),
        ("UPDATE _entgldb_audit SET at_ms = at_ms - 1 WHERE number = 9", "row 9 is not what was"),
        ("UPDATE _entgldb_audit SET hash = zeroblob(32) WHERE number = 4", "row 4 is not what was"),
        ("DELETE FROM _entgldb_audit WHERE number BETWEEN 3 AND 6", "rows 3 to 6 are missing"),
        ("DELETE FROM _entgldb_audit WHERE number < 8", "no row says that those before row 8"),
        ("UPDATE _entgldb_audit SET number = number + 100", "row 102 is not what was"),
    ],
)
def test_what_is_done_to_the_rows_shows(harm: str, fault: str) -> None:
    connection, _ = trail_of(10)
    connection.execute(harm)
    assert fault in verify(connection).faults[0]


def test_the_newest_rows_can_be_missed_only_by_who_has_noted_one() -> None:
    connection, trail = trail_of(10)
    noted = trail.head()
    assert verify(connection, noted).faults == []
    connection.execute("DELETE FROM _entgldb_audit WHERE number > 7")
    assert verify(connection).faults == []
    assert verify(connection, noted).faults == ["row 10 is not there as it was noted"]


def test_a_row_that_was_noted_stays_provable_while_it_is_there() -> None:
    connection, trail = trail_of(10)
    noted = trail.head()
    trail.note(Act(Event.RULE), NOW)
    assert verify(connection, noted).faults == []


def test_the_oldest_rows_go_and_the_chain_says_so() -> None:
    connection, _ = trail_of(57, rows_max=20)
    rows = [row for row, _ in chained(connection)]
    assert len(rows) <= 21
    assert rows[0].number > 1
    assert verify(connection).faults == []
    pruned = [row for row in rows if row.event == Event.PRUNED]
    assert pruned[-1].subject.startswith(f"{rows[0].number}:")
    # whoever takes more away than the log itself has is found out
    connection.execute("DELETE FROM _entgldb_audit WHERE number = ?", (rows[0].number,))
    assert verify(connection).faults == [f"no row says that those before row {rows[1].number} were pruned"]


def test_faults_are_told_up_to_a_bound() -> None:
    connection, _ = trail_of(FAULTS_MAX * 3)
    connection.execute("UPDATE _entgldb_audit SET who = 'x'")
    assert len(verify(connection).faults) == FAULTS_MAX


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=AUDIT_TEXT_CHARS_MAX * 2))
def test_a_text_of_any_kind_and_length_has_a_row(text: str) -> None:
    connection, trail = trail_of(1)
    trail.note(Act(Event.TOKEN, text + "\ud800", text, text, text), NOW)
    assert verify(connection).faults == []
    row = newest(connection, 1)[0]
    assert max(map(len, row[4:8])) <= AUDIT_TEXT_CHARS_MAX


def test_what_others_cause_without_end_has_few_rows_and_is_counted() -> None:
    sparing = Sparing()
    taken = [sparing.take("token", number / 1000) for number in range(5000)]
    assert [left for left in taken if left is not None] == [0] * AUDIT_BURST
    assert sparing.take("leader", 5.0) == 0
    assert sparing.overdue(5.0) == []
    [(kind, times)] = sparing.overdue(AUDIT_PAUSE_SECONDS + 1)
    assert (kind, times) == ("token", 5000 - AUDIT_BURST)
    assert sparing.overdue(AUDIT_PAUSE_SECONDS * 9) == []
    assert sparing.take("token", AUDIT_PAUSE_SECONDS * 9) == 0
