"""Several processes serve one tenant: one order, one catalogue, and each hears of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.local.tenants import TenantLink
from entgldb.messages.tenants import Quotas, Tenant, TenantState
from entgldb.storage.postgres.catalogue import Catalogue
from entgldb.storage.postgres.connection import Connection, ReplacedError
from entgldb.storage.postgres.processes import _NOW, ALIVE_MS, FORGET_MS, Processes
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.postgres.store import LogReader, Store, as_sqlite
from entgldb.storage.postgres.tenants import TenantRows
from entgldb.storage.postgres.waking import NOTE_BYTES_MAX, Waking, notes, told
from entgldb.storage.rules.header import decode
from entgldb.storage.tenants.files import TenantFiles
from tests.support import postgres

NOW = 1_790_000_000_000
GROUPS, ENTRIES = 40, 3
"""Of each writer, and in each of them."""
PATIENCE_S = 60.0


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """The connections of three other processes."""
    made = [Server(postgres.address()) for _ in range(3)]
    yield made
    for one in made:
        one.close()


def elsewhere(store: Store, server: Server) -> Store:
    """The same tenant as another process has it."""
    made = Store(as_sqlite(Connection(server, store.on.tenant)), None)
    made.serve()
    return made


def put(store: Store, writer: int, number: int, now_ms: int = NOW) -> int:
    with store.group():
        writes = [Write("users", f"{writer}-{number}-{n}", b"{}") for n in range(ENTRIES)]
        return store.write(RequestId(bytes([writer]) * 16, number), writes, now_ms)[1]


def test_two_processes_that_write_at_once_leave_no_gap_and_no_double(servers: list[Server]) -> None:
    first = postgres.open_store("cloud", NOW)
    writers = [elsewhere(first, server) for server in servers[:2]]
    faults: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for number in range(1, GROUPS + 1):
                # the clock of one process is an hour behind
                put(writers[writer], writer, number, NOW - writer * 3_600_000)
        except BaseException as fault:  # noqa: BLE001 -- told by the test
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    reader = LogReader(as_sqlite(Connection(servers[2], first.on.tenant)))
    for one in threads:
        one.start()
    seen, last, wanted = [0], 0, 2 * GROUPS * ENTRIES
    while seen[-1] < wanted and not faults:
        seen += [row.lsn for row in reader.rows(seen[-1] + 1, 1_000)]
        assert reader.last_lsn() >= last
        last = reader.last_lsn()
    for one in threads:
        one.join()
    assert faults == []
    assert seen == list(range(wanted + 1))
    rows = reader.rows(1, 1_000)
    assert [row.seq for row in rows] == list(range(1, wanted + 1))
    stamps = [decode(row.header).hlc for row in rows]
    assert stamps == sorted(set(stamps))
    for one in writers:
        one.follow(-1)
        assert one.vector() == reader.vector()
        assert one.status()["documents"] == wanted


def test_a_process_follows_without_a_lock_and_reads_only_where_something_was_written(
    servers: list[Server],
) -> None:
    one = postgres.open_store("cloud", NOW)
    other = elsewhere(one, servers[0])
    put(other, 1, 1)
    version = other.on.seen
    assert version is not None
    with other.group():
        one.follow(version)
    assert one.last_lsn() == ENTRIES
    assert one.vector() == other.vector()
    trips = one.on.server.trips
    one.follow(version)
    assert one.on.server.trips == trips
    assert put(one, 2, 1) == 2 * ENTRIES


def test_a_request_that_was_answered_by_one_process_is_answered_alike_by_another(
    servers: list[Server],
) -> None:
    one = postgres.open_store("cloud", NOW)
    other = elsewhere(one, servers[0])
    put(one, 1, 1)
    with other.group():
        assert other.answered(RequestId(bytes([1]) * 16, 1)) is not None


# --- the catalogue ---------------------------------------------------------------------------------


def catalogue(here: tuple[str, ...] = ()) -> Catalogue:
    return Catalogue(postgres.address(), lambda: list(here))


def test_of_two_processes_that_change_a_tenant_one_is_told_to_try_again() -> None:
    name, here = postgres.fresh_tenant(), catalogue()
    row = Tenant(name, "https://a.example", TenantState.ACTIVE.value, 1)
    here.put(row, None)
    with pytest.raises(EntglError, match="was changed by another process") as refused:
        here.put(replace(row, issuer="https://b.example"), None)
    assert refused.value.code == ErrorCode.BUSY
    limited = replace(row, quotas=Quotas(documents=5, origins=7))
    here.put(limited, row)
    with pytest.raises(EntglError, match="was changed by another process"):
        here.put(replace(row, state=TenantState.SUSPENDED.value), row)
    assert here.get(name) == limited
    assert here.look([name, "nobody"]) == {name: (limited, 1)}
    assert name in [one.name for one in here.page(name[:-1])]


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://b.example"},
        {"state": TenantState.SUSPENDED.value},
        {"since_ms": 2},
        *({"quotas": Quotas(**{name: 9})} for name in ("documents", "bytes", "writes", "links", "origins")),
    ],
)
def test_whatever_another_process_has_changed_of_a_tenant_is_not_overwritten(change: dict[str, Any]) -> None:
    name, here = postgres.fresh_tenant(), catalogue()
    row = Tenant(name, "https://a.example", TenantState.ACTIVE.value, 1)
    here.put(row, None)
    changed = replace(row, **change)
    here.put(changed, row)
    with pytest.raises(EntglError, match="was changed by another process"):
        here.put(replace(row, issuer="https://c.example"), row)
    assert here.get(name) == changed


def test_a_page_of_the_catalogue_begins_behind_the_name_and_of_files_alone_nothing_is_removed() -> None:
    name = postgres.fresh_tenant()
    here = catalogue((name,))
    here.put(Tenant(name, "", TenantState.ACTIVE.value, 1), None)
    assert name in [one.name for one in here.page(name[:-1])]
    assert name not in [one.name for one in here.page(name)]
    assert name not in here.deleting()


def test_a_tenant_that_is_made_again_meanwhile_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    name, here, looked = postgres.fresh_tenant(), catalogue(), server(postgres.address()).alone
    deleted = Tenant(name, "", TenantState.DELETED.value, 0)
    active = replace(deleted, state=TenantState.ACTIVE.value, since_ms=1)
    here.put(deleted, None)

    def alone(self: Server, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        found = looked(sql, parameters)
        if found == [(name,)]:  # it was the oldest
            monkeypatch.undo()
            catalogue().put(active, deleted)
        return found

    with here.asked():
        monkeypatch.setattr(Server, "alone", alone)
    assert not here.forget_oldest()
    assert here.get(name) == active
    here.put(deleted, active)
    assert here.forget_oldest()
    assert here.get(name) is None


def test_a_process_that_is_silent_is_not_shown_and_goes_after_a_day() -> None:
    name, on = postgres.fresh_tenant(), server(postgres.address())
    link = TenantLink(name, "lan-1", 1, "10.0.0.1:5")
    one, other = (Processes(catalogue(), f"{name}-{which}") for which in "ab")
    one.publish([link])
    other.publish([])
    for silent_ms, shown, kept in ((ALIVE_MS - 10_000, 1, 1), (ALIVE_MS, 0, 1), (FORGET_MS, 0, 0)):
        on.alone(
            f"UPDATE entgldb_processes SET seen_ms = {_NOW} - $2 WHERE process = $1", [f"{name}-a", silent_ms]
        )
        assert len(other.gateways(name)) == shown
        other.publish([])
        assert len(on.alone("SELECT 1 FROM entgldb_processes WHERE process = $1", [f"{name}-a"])) == kept


def test_a_process_that_has_not_heard_that_a_tenant_is_shut_cannot_write_it(servers: list[Server]) -> None:
    one = postgres.open_store("cloud", NOW)
    here, name = catalogue(), one.on.tenant
    row = here.get(name)
    assert row is not None
    suspended = replace(row, state=TenantState.SUSPENDED.value)
    here.put(suspended, row)
    with pytest.raises(EntglError, match="has no active tenant"):
        put(elsewhere(one, servers[0]), 1, 1)
    here.put(row, suspended)
    assert put(one, 1, 1) == ENTRIES


def test_a_process_that_slept_while_a_tenant_was_deleted_and_made_again_knows_nothing_of_the_first(
    servers: list[Server], tmp_path: Path
) -> None:
    one = postgres.open_store("cloud", NOW)
    slept = elsewhere(one, servers[0])
    put(slept, 1, 1)
    here, name = catalogue((one.on.tenant,)), one.on.tenant
    row = here.get(name)
    assert row is not None
    deleting = replace(row, state=TenantState.DELETING.value)
    here.put(deleting, row)
    assert name in here.deleting()
    assert name in catalogue().deleting()
    rows = TenantRows(postgres.address(), TenantFiles(tmp_path))
    while not rows.remove(name):
        pass
    deleted = replace(row, state=TenantState.DELETED.value)
    here.put(deleted, deleting)
    assert name in here.deleting()  # there are files of it here
    assert name not in catalogue().deleting()
    here.put(row, deleted)
    with pytest.raises(ReplacedError):
        slept.follow(-1)
    with pytest.raises(EntglError, match="was deleted"):
        put(slept, 1, 2)
    anew = Store.connect(postgres.address(), name, "cloud", NOW)
    put(anew, 3, 1)  # as often as the first was written
    slept.follow(-1)
    assert slept.origin == anew.origin != one.origin
    assert slept.answered(RequestId(bytes([1]) * 16, 1)) is None
    assert slept.answered(RequestId(bytes([3]) * 16, 1)) is not None
    assert put(slept, 1, 2) == 2 * ENTRIES


# --- waking ----------------------------------------------------------------------------------------


def test_a_process_hears_of_the_others_and_not_of_itself() -> None:
    async def heard() -> tuple[dict[str, int], dict[str, int]]:
        found: tuple[dict[str, int], dict[str, int]] = ({}, {})
        here, there = (Waking(postgres.address(), one.update) for one in found)
        tasks = [asyncio.create_task(work) for one in (here, there) for work in (one.listen(), one.speak())]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while "from-there" not in found[0] or not found[1].keys() >= {"from-here-1", "from-here-2"}:
                    here.tell("from-here-1", 7)
                    here.tell("from-here-1", 6)
                    here.tell("from-here-2", 8)
                    here.tell("from-here-2", 0)
                    there.tell("from-there", 1)
                    await asyncio.sleep(0.0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    here, there = asyncio.run(heard())
    assert not any(name.startswith("from-here") for name in here)
    assert "from-there" not in there
    assert (there["from-here-1"], there["from-here-2"]) == (7, 0)


def test_a_note_is_no_longer_than_postgresql_takes() -> None:
    lsns = {f"{number:064}": number for number in range(300)}
    made = notes("m" * 16, lsns)
    assert len(made) == 3
    assert all(len(note) <= NOTE_BYTES_MAX for note in made)
    assert {name: lsn for note in made for name, lsn in told("other", note).items()} == lsns
    assert told("m" * 16, made[0]) == {}


@pytest.mark.parametrize("note", ["", "x", "x y", "x y:", "x y:-1", "x y:1.5", "x " + "y:" + "9" * 30])
def test_a_note_of_somebody_else_says_nothing(note: str) -> None:
    assert told("me", note) == {}


def test_no_database_is_no_reason_to_end() -> None:
    async def silent() -> None:
        waking = Waking("host=/nowhere dbname=none", lambda names: None)
        waking.tell("t", 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.gather(waking.listen(), waking.speak())

    asyncio.run(silent())
