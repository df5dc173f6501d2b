"""Verbs that move files or rewrite much, killed at every file operation and every few statements.

``python -m tests.kills.verbs [--stride N] [VERB ...]`` ends with 1 where something was lost. Python tells of
every file it opens, renames or removes before it does so (audit events), SQLite of every statement.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

# the checkout need not be installed
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from entgldb.messages.client import RequestId, Write
from entgldb.messages.model import Entry
from entgldb.storage.file import fingerprint
from entgldb.storage.file.open import FILE, open_reader
from entgldb.storage.log import prune
from entgldb.storage.recovery import backup, restore
from entgldb.storage.recovery import rebuild as salvage
from entgldb.storage.recovery.check import Checkup
from entgldb.storage.repair import lost_writes, salvaged
from entgldb.storage.rules.header import decode, digest
from entgldb.storage.rules.indexing.definition import define
from entgldb.storage.snapshot import steps
from entgldb.storage.snapshot.freeze import freeze, read_chunk
from entgldb.storage.snapshot.staging import Staging
from entgldb.storage.store import Store
from tests.support.compacting import compacted
from tests.support.memory import in_memory
from tests.support.merging import install_whole, left_by_a_merge, wrong_in_indexes

NOW: Final = 1_800_000_000_000
NODE: Final = "a"
OLD, NEW = 3, 6
"""Documents in the backup, and acknowledged in all."""
ROOM: Final = 200_000_000
"""Many times of what one verb's copies need."""
_CHANGES: Final = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile")
Faults = Iterator[str]


class Verb(NamedTuple):
    """Something an operator, or the store, does to the file of a node."""

    prepare: Callable[[Path], None]
    """Fills an empty folder, in which ``home`` is the node's."""
    run: Callable[[Path], Any]
    check: Callable[[Path, Any], Faults]
    """Of a folder in which ``run`` was cut short, and of what the next run said; None: there was none."""


class Trap:
    """Kills this process at the ``left``-th step; a statement is one step in ``stride``."""

    def __init__(self, root: Path, left: int, stride: int) -> None:
        self.root, self.left, self.stride = str(root), left, stride
        self._statements = 0
        sys.addaudithook(self._heard)
        self._connect, sqlite3.connect = sqlite3.connect, self._connected  # type: ignore[assignment]  # this process ends soon

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root):  # type: ignore[arg-type]  # of strings alone
                self._passed()
        elif event in _CHANGES and str(given[0]).startswith(self.root):
            self._passed()

    def _connected(self, *given: Any, **named: Any) -> sqlite3.Connection:
        connection = self._connect(*given, **named)
        connection.set_trace_callback(self._statement)
        return connection

    def _statement(self, sql: str) -> None:
        self._statements += 1
        if self._statements % self.stride == 0:
            self._passed()

    def _passed(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def put(store: Store, *numbers: int) -> None:
    """Own writes, acknowledged."""
    for number in numbers:
        with store.group():
            write = Write("users", f"k{number}", b'{"n":%d}' % number)
            store.write(RequestId(b"c" * 16, number), [write], NOW + number)


def entries(store: Store) -> list[Entry]:
    return [Entry(row.header, row.body) for row in store.rows(1, 500)]


def shown(file: Path) -> int:
    """Live documents of a database file, with whatever WAL lies beside it."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        sql = "SELECT count(*) FROM _entgldb_documents WHERE body IS NOT NULL AND collection = 'users'"
        return int(connection.execute(sql).fetchone()[0])


def lived(root: Path) -> None:
    """A node that was killed: its last acknowledged writes are in the WAL alone. A backup is older."""
    home = root / "home"
    home.mkdir()
    store = Store.open(home, NODE, NOW)
    put(store, *range(OLD))
    backup.write(home, root / "b.db", "1", NOW, lambda done, of: None)
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    put(store, *range(OLD, NEW))
    # the reader keeps the WAL from being folded in when the writer goes
    with closing(open_reader(home)):
        store.connection.close()
    assert (home / f"{FILE}-wal").stat().st_size > 0


def aside(root: Path, why: str) -> list[int]:
    found = [path for path in (root / "home").glob(f"{FILE}.{why}-*") if path.name[-1].isdigit()]
    return [shown(path) for path in found]


def started(root: Path) -> tuple[int, int]:
    """Documents, and own writes that wait to be written again, after a start without more ado."""
    with closing(Store.open(root / "home", NODE, NOW + 100)) as store:
        return shown(root / "home" / FILE), int(str(store.status()["salvaged"]))


def salvaging(root: Path) -> None:
    """A node was rebuilt, and nobody has its writes."""
    lived(root)
    with closing(Store.open(root / "home", NODE, NOW)) as store:
        put(store, *range(NEW))
    salvage.rebuild(root / "home", NODE, NOW + 50)


def write_again(root: Path) -> Any:
    with (
        patch.object(lost_writes, "PAGE_ROWS", 2),
        patch.object(salvaged, "STEP_PAGES", 1),
        patch.object(salvaged, "STEP_KEYS", 2),
        closing(Store.open(root / "home", NODE, NOW + 60)) as store,
    ):
        while store.salvages():
            with store.group():
                store.reissue_salvaged(NOW + 60)
        return True


def written_again(root: Path, said: Any) -> Faults:
    with closing(Store.open(root / "home", NODE, NOW + 100)) as store:
        documents = [key for key, _ in store.documents("users")]
        logged = [decode(row.header).key for row in store.rows(1, 500)]
        left = store.salvages()
    if documents != logged or logged != [f"k{number}" for number in range(len(logged))]:
        yield f"the log has {logged}, shown are {documents}"
    if left is (len(logged) == NEW) or (said is not None and left):
        yield f"{len(logged)} are written again, {left}"


def rebuilt(root: Path, said: Any) -> Faults:
    documents, salvaged = started(root)
    if documents + salvaged != NEW or (said is not None and documents):
        yield f"{documents} documents and {salvaged} salvaged writes"
    if salvaged and aside(root, "corrupt").count(NEW) != 1:
        yield f"set aside: {aside(root, 'corrupt')}"
    if said is not None and not (root / "home" / said.set_aside).exists():
        yield f"{said.set_aside} is named, and not there"


def restored(root: Path, said: Any) -> Faults:
    documents, _ = started(root)
    if documents not in ((OLD,) if said is not None else (OLD, NEW)):
        yield f"{documents} documents"
    if documents == OLD and NEW not in aside(root, "before-restore"):
        yield f"set aside: {aside(root, 'before-restore')}"
    if said is not None and not (root / "home" / said.set_aside).exists():
        yield f"{said.set_aside} is named, and not there"


def backed_up(root: Path, said: Any) -> Faults:
    found = backup.verify(root / "b.db").documents
    if found not in ((NEW,) if said is not None else (OLD, NEW)):
        yield f"the backup has {found} documents"
    if started(root)[0] != NEW:
        yield "the node itself is not what it was"


def checked_after_compacting(root: Path, said: Any) -> Faults:
    if started(root)[0] != NEW:
        yield "documents are missing"


def compact(root: Path) -> Any:
    with closing(Store.open(root / "home", NODE, NOW)) as store:
        return compacted(store)


def forked(root: Path) -> None:
    """A fork, of which the branch that is here is not to stay."""
    lived(root)
    one, two = Store.memory("f", b"f" * 32, NOW), Store.memory("f", b"f" * 32, NOW)
    put(one, 10, 11)
    put(two, 12)
    with closing(Store.open(root / "home", NODE, NOW)) as store:
        for branch in (one, two):
            with store.group():
                store.apply(entries(branch), NOW)


def heal(root: Path) -> Any:
    other = Store.memory("f", b"f" * 32, NOW)
    put(other, 12)
    with closing(Store.open(root / "home", NODE, NOW)) as store, store.group():
        return store.incarnations.heal(
            other.origin, 1, digest(entries(other)[0].header), lambda: b"e" * 32, NOW
        )


def healed(root: Path, said: Any) -> Faults:
    # the branch that is taken out stays as versions that lost: nobody else has its keys
    if (found := started(root)[0]) != NEW + 2:
        yield f"{found} documents"
    with closing(Store.open(root / "home", NODE, NOW)) as store:
        (logged,) = store.connection.execute("SELECT count(*) FROM _entgldb_oplog").fetchone()
        if logged != store.state.entries:
            yield f"{logged} rows of the log, and {store.state.entries} are counted"


def with_snapshot(root: Path) -> None:
    """A snapshot of another node lies staged, of whose log a part has come before."""
    lived(root)
    other = Store.memory("g", b"g" * 32, NOW)
    put(other, 20, 21)
    with closing(Store.open(root / "home", NODE, NOW)) as store, store.group():
        store.apply(entries(other), NOW)
        store.indexes.create(define("users", ["n"]))
        store.indexes.create(define("users", ["n"], text=True, name="words"))
    put(other, 22)
    frozen = sqlite3.connect(":memory:", isolation_level=None)
    facts = freeze(other.connection, frozen)
    with closing(sqlite3.connect(root / "staged.db", isolation_level=None)) as connection:
        staging = Staging(connection)
        for number in range(facts.chunks):
            found = read_chunk(frozen, number)
            assert found is not None
            staging.add_chunk(number, *found)
        staging.finish(facts.id, whole=True)


def install(root: Path) -> Any:
    small = patch.multiple(steps, STEP_ROWS=3, AT_ONCE_BYTES=0, LOG_ROWS_LEFT=0)
    with small, patch.object(prune, "STEP_ROWS", 1), closing(Store.open(root / "home", NODE, NOW)) as store:
        staged = f"file:{root / 'staged.db'}?mode=ro"
        return install_whole(store, staged, b"e" * 32, NOW + 1_000, cloud=False)


def installed(root: Path, said: Any) -> Faults:
    found = started(root)[0]
    if found not in ((NEW + 3,) if said is not None else (NEW + 2, NEW + 3)):
        yield f"{found} documents"
    with closing(Store.open(root / "home", NODE, NOW)) as store:
        if store.state.documents != found:
            yield f"{found} documents, and {store.state.documents} are counted"
        (rows,) = store.connection.execute("SELECT count(*) FROM _entgldb_oplog").fetchone()
        if store.state.entries != rows:
            yield f"{rows} rows of the log, and {store.state.entries} are counted"
        if said is not None and (left := left_by_a_merge(store)):
            yield f"{left} are left"
        yield from wrong_in_indexes(store)


VERBS: Final = {
    "rebuild": Verb(lived, lambda root: salvage.rebuild(root / "home", NODE, NOW + 50), rebuilt),
    "reissue": Verb(salvaging, write_again, written_again),
    "restore": Verb(
        lived, lambda root: restore.restore(root / "b.db", root / "home", NODE, NOW + 50), restored
    ),
    "backup": Verb(
        lived,
        lambda root: backup.write(root / "home", root / "b.db", "1", NOW, lambda done, of: None),
        backed_up,
    ),
    "compact": Verb(lived, compact, checked_after_compacting),
    "heal": Verb(forked, heal, healed),
    "install": Verb(with_snapshot, install, installed),
}


def looked_over(root: Path) -> Faults:
    """The node's file, a part of it against the other: its heads, runs, counts."""
    with closing(Checkup.open(root / "home")) as checkup:
        yield from (f"{one.where}: {one.text}" for one in checkup.run())


def killed(verb: Verb, root: Path, step: int, stride: int) -> bool:
    """Run it in a process of its own; whether it was killed at ``step``."""
    child = os.fork()
    if child == 0:
        Trap(root, step, stride)
        try:
            verb.run(root)
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- whatever it is, the parent must hear of it
            import traceback

            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise AssertionError(f"{root} ended with {status}")
    return status != 0


def kill_everywhere(name: str, stride: int, folder: Path) -> tuple[int, list[str]]:
    """At how many steps it was killed, and what was wrong afterwards."""
    verb, faults = VERBS[name], []
    base = folder / name
    base.mkdir()
    verb.prepare(base)
    step = 0
    while True:
        step += 1
        root = folder / f"{name}-{step}"
        shutil.copytree(base, root)
        if not killed(verb, root, step, stride):
            break
        again = folder / f"{name}-{step}-again"
        shutil.copytree(root, again)
        found = (*verb.check(root, None), *looked_over(root))
        faults += [f"{name} killed at {step}, started: {fault}" for fault in found]
        said = verb.run(again)
        found = (*verb.check(again, said), *looked_over(again))
        faults += [f"{name} killed at {step}, run again: {fault}" for fault in found]
        shutil.rmtree(root)
        shutil.rmtree(again)
    return step - 1, faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.kills.verbs", description=__doc__)
    parser.add_argument("--stride", type=int, default=7)
    parser.add_argument("verbs", nargs="*", default=list(VERBS))
    chosen = parser.parse_args()
    # a copy of a directory stands for the directory itself here
    fingerprint._place = lambda directory: ("machine", 1, 2)
    wrong = 0
    for name in chosen.verbs:
        with tempfile.TemporaryDirectory(prefix="kills-", dir=in_memory(ROOM)) as folder:
            count, faults = kill_everywhere(name, chosen.stride, Path(folder))
        print(f"{name}: killed at {count} steps; {len(faults)} violations")
        for fault in faults[:10]:
            print(f"  {fault}")
        wrong += len(faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
