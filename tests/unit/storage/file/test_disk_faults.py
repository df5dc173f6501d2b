"""EIO and ENOSPC at every single thing a commit asks of the disk, on a real file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.storage.file.open import FILE
from entgldb.storage.file.state import State
from entgldb.storage.store import Store
from tests.unit.storage.file.faulty_disk import FaultyDisk, library

NOW = 1_790_000_000_000
CLIENT = b"c" * 16
STEPS = 120
"""More than any of these commits takes, the checkpoint that it may bring included."""
FAULTS = [
    pytest.param({"full": full, "lasting": lasting, "torn": torn}, id=f"{name}-{how}{'-torn' * torn}")
    for full, name in ((True, "full"), (False, "error"))
    for lasting, how in ((False, "once"), (True, "lasting"))
    for torn in (False, True)
]


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    try:
        library()
    except AttributeError:
        pytest.skip("the SQLite of this Python does not show its functions")
    made = FaultyDisk()
    yield made
    made.close()


@pytest.fixture
def store(disk: FaultyDisk, tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path, "lan-1", NOW)) as opened:
        opened.connection.execute("PRAGMA wal_autocheckpoint = 20")  # so that commits meet checkpoints, too
        yield opened
        disk.heal()


def put(store: Store, number: int) -> None:
    writes = [Write("c", f"k{number}-{i}", b'{"text":"' + b"x" * 3000 + b'"}') for i in range(3)]
    with store.group():
        store.write(RequestId(CLIENT, number), writes, NOW)


def refused_with(store: Store, number: int) -> EntglError | None:
    try:
        put(store, number)
    except EntglError as fault:
        return fault
    return None


def is_sound(store: Store) -> bool:
    """The file is whole, and what the writer has in memory is what stands in it."""
    query = store.connection.execute
    counted = [
        query(f"SELECT count(*) FROM _entgldb_{table}").fetchone()[0] for table in ("documents", "oplog")
    ]
    return (
        query("PRAGMA integrity_check").fetchall() == [("ok",)]
        and State.load(store.connection) == store.state
        and counted == [store.state.documents, store.state.entries]
    )


def after_a_crash(directory: Path, copy: Path) -> Store:
    """The store that the next start would find if the power went now."""
    subprocess.run(["cp", "-r", str(directory), str(copy)], check=True)
    (copy / f"{FILE}-shm").unlink(missing_ok=True)
    return Store.open(copy, "lan-1", NOW)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_commit_met_by_a_fault_at_any_step_is_refused_by_name_and_done_when_asked_again(
    disk: FaultyDisk,
    store: Store,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    fault: dict[str, bool],
) -> None:
    copies = tmp_path_factory.mktemp("copies")
    wanted = {ErrorCode.DISK_FULL, ErrorCode.DISK_ERROR} if fault["full"] else {ErrorCode.DISK_ERROR}
    put(store, 1)
    refused = passed = 0
    for step in range(1, STEPS):
        number = step + 1
        disk.arm(step, **fault)
        refusal = refused_with(store, number)
        fired = disk.fired
        disk.heal()
        if refusal is not None:
            refused += 1
            assert fired
            assert refusal.code in wanted
            assert is_sound(store)
            with closing(after_a_crash(tmp_path, copies / str(step))) as found:
                assert is_sound(found)
                assert found.get("c", f"k{step}-2") is not None, "an acknowledged write is lost"
                there = found.get("c", f"k{number}-0") is not None
                assert not (there and refusal.definite), "it was said not to have happened"
            put(store, number)
        passed += not fired
        assert store.get("c", f"k{number}-2") is not None
        if step % 4 == 0:  # now and then the commit does not meet a checkpoint
            store.checkpoint()
    assert refused >= 5
    assert passed, "the last steps are beyond the end of a commit"
    assert is_sound(store)
