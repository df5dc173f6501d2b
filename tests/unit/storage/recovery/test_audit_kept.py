"""The audit log of a file outlives what takes the place of the file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from entgldb.messages.administration import Event
from entgldb.storage.audit.reading import chained, verify
from entgldb.storage.audit.rows import Act
from entgldb.storage.file.open import FILE, open_reader
from entgldb.storage.recovery import backup, rebuild, restore
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
RESTORED = ("incarnation", "restored")


def note(directory: Path, subject: str) -> None:
    store = Store.open(directory, "a", NOW)
    with store.group():
        store.trail.note(Act(Event.PEER, subject, "added"), NOW)
    store.close()


def told(directory: Path) -> list[tuple[str, str]]:
    with closing(open_reader(directory)) as connection:
        assert verify(connection).faults == []
        found = [row for row, _ in chained(connection)]
    return [(row.event, row.outcome if row.event == "incarnation" else row.subject) for row in found]


def test_a_restore_erases_nothing(tmp_path: Path) -> None:
    note(tmp_path, "before")
    backup.write(tmp_path, tmp_path / "b.db", "0", NOW, lambda done, of: None)
    note(tmp_path, "after")
    restore.restore(tmp_path / "b.db", tmp_path, "a", NOW)
    assert told(tmp_path) == [
        ("peer", "before"),
        ("peer", "after"),
        RESTORED,
    ]
    note(tmp_path, "later")
    assert told(tmp_path)[-1] == ("peer", "later")


def test_a_backup_brings_its_log_where_there_is_none(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    (other := tmp_path / "other").mkdir()
    note(home, "before")
    backup.write(home, tmp_path / "b.db", "0", NOW, lambda done, of: None)
    restore.restore(tmp_path / "b.db", other, "a", NOW)
    assert told(other) == [("peer", "before"), RESTORED]


def test_a_rebuild_keeps_it(tmp_path: Path) -> None:
    note(tmp_path, "before")
    rebuild.rebuild(tmp_path, "a", NOW)
    assert told(tmp_path)[0] == ("peer", "before")
    assert told(tmp_path)[1][0] == "incarnation"


def test_a_rebuild_keeps_the_rows_that_can_be_read(tmp_path: Path) -> None:
    """Pages of the table are torn: the chain goes on behind the last row that could be read, and says so."""
    store = Store.open(tmp_path, "a", NOW)
    with store.group():
        for number in range(2000):
            store.trail.note(Act(Event.PEER, f"peer-{number}", "x" * 150), NOW)
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT pageno FROM dbstat WHERE name = '_entgldb_audit' AND pagetype = 'leaf' ORDER BY path"
        try:
            pages = [page for (page,) in connection.execute(query)]
        except sqlite3.OperationalError:
            pages = [-20]
    content = bytearray((tmp_path / FILE).read_bytes())
    at = (pages[len(pages) // 2] - 1) * size if pages != [-20] else len(content) - 20 * size
    content[at : at + size] = b"\xff" * size
    (tmp_path / FILE).write_bytes(content)
    rebuild.rebuild(tmp_path, "a", NOW)
    rows = told(tmp_path)
    assert rows[0] == ("peer", "peer-0")
    assert 10 < len(rows) < 2000
    with closing(open_reader(tmp_path)) as connection:
        assert [row.outcome for row, _ in chained(connection)][-2] == "rows that could not be read"
