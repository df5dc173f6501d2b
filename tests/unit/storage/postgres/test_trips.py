"""PostgreSQL is lost at any round trip: a group is there as a whole or not at all, and goes on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import EntglError, ErrorCode
from entgldb.messages.model import Entry
from entgldb.storage.postgres.connection import Connection
from entgldb.storage.postgres.server import Server, server
from entgldb.storage.postgres.store import Store, as_sqlite
from tests.support import postgres
from tests.unit.storage.postgres import proxy
from tests.unit.storage.postgres.proxy import Proxy

NOW: Final = 1_790_000_000_000
ENTRIES: Final = 30
"""Of each group."""
PLACES: Final = [False, True]


class Behind(NamedTuple):
    """One tenant, whose connections go through a proxy."""

    store: Store
    proxy: Proxy
    server: Server


@contextmanager
def behind_proxy(address: str = "") -> Iterator[Behind]:
    direct = address or postgres.address()
    tenant = Store.connect(direct, postgres.fresh_tenant(), "a", NOW).on.tenant
    with proxy.before(direct) as made:
        on = Server(made.address)
        store = Store(as_sqlite(Connection(on, tenant)), None)
        store.serve()
        yield Behind(store, made, on)
        on.close()


@pytest.fixture
def there() -> Iterator[Behind]:
    with behind_proxy() as made:
        yield made


@pytest.fixture
def giver() -> Iterator[Store]:
    made = Store.memory("g", b"g", NOW)
    yield made
    made.connection.close()


def given(giver: Store, turn: int) -> list[Entry]:
    """A group of another writer: half of its keys are new."""
    first = giver.last_lsn() + 1
    with giver.group():
        writes = [Write("users", f"k{turn * ENTRIES // 2 + n}", b'{"n":%d}' % turn) for n in range(ENTRIES)]
        giver.write(RequestId(b"g" * 16, turn), writes, NOW)
    return giver.entries([(giver.origin, seq) for seq in range(first, first + ENTRIES)])


def as_others_see(store: Store, address: str = "") -> Store:
    """The same tenant, as a process has it that begins now."""
    return Store(as_sqlite(Connection(server(address or postgres.address()), store.on.tenant)), None)


def check_same(store: Store, count: int, address: str = "") -> None:
    """The memory of the store is as the database, which has ``count`` rows without a gap."""
    anew = as_others_see(store, address)
    assert [row.lsn for row in anew.rows(1, 10_000)] == list(range(1, count + 1))
    with store.group():
        pass
    assert (store.vector(), store.last_lsn()) == (anew.vector(), count)
    assert store.status()["documents"] == anew.status()["documents"]


def lost_at_every_trip(
    there: Behind, work: Callable[[int], None], rows: Callable[[], int], *, answered: bool
) -> int:
    """Do work whose n-th trip is lost, for every n there is, and then again; how many there were."""
    for trip in itertools.count(1):
        before = rows()
        there.proxy.cut(trip, answered=answered)
        try:
            work(trip)
        except EntglError as fault:
            assert fault.code == ErrorCode.DISK_ERROR  # noqa: PT017 -- the last goes well
        lost, there.proxy.trips = there.proxy.cuts, 0
        after = rows()
        assert after in (before, before + ENTRIES)
        if not lost:
            assert after == before + ENTRIES
            return trip - 1
        work(trip)
        check_same(there.store, before + ENTRIES)
    raise AssertionError


def take(there: Behind, entries: list[Entry]) -> None:
    with there.store.group():
        assert there.store.apply(entries, NOW).refused == ""


def rows_of(there: Behind) -> Callable[[], int]:
    return lambda: as_others_see(there.store).last_lsn()


@pytest.mark.parametrize("answered", PLACES)
def test_entries_of_another_come_whole_or_not_at_all(there: Behind, giver: Store, *, answered: bool) -> None:
    groups: dict[int, list[Entry]] = {}

    def again(turn: int) -> None:
        if turn not in groups:
            groups[turn] = given(giver, turn)
        take(there, groups[turn])

    again(0)
    assert lost_at_every_trip(there, again, rows_of(there), answered=answered) == TRIPS


TRIPS: Final = 3
"""Of a group of entries of another writer."""
KILLS: Final = int(os.environ.get("ENTGLDB_POSTGRES_KILLS", "2"))
"""Deaths of a server, of the six there are: before and after each trip."""


ALTERNATING: Final = 7
"""Trips at most of a group behind one of another process."""


def test_processes_that_alternate_read_all_that_is_new_at_once(giver: Store) -> None:
    one = postgres.open_store("a", NOW)
    with closing(Server(postgres.address())) as second:
        other = Store(as_sqlite(Connection(second, one.on.tenant)), None)
        other.serve()
        for turn in range(16):
            store = (one, other)[turn % 2]
            before = store.on.server.trips
            with store.group():
                if turn // 2 % 2:
                    assert store.apply(given(giver, turn), NOW).refused == ""
                else:
                    writes = [Write("users", f"own{turn}-{n}", b"{}") for n in range(ENTRIES)]
                    assert store.answered(RequestId(b"c" * 16, turn), writes) is None
                    store.write(RequestId(b"c" * 16, turn), writes, NOW)
            assert turn < 2 or store.on.server.trips - before <= ALTERNATING
        for store in (one, other):
            check_same(store, 16 * ENTRIES)


OPENING: Final = 20
"""Trips at most of opening a tenant that is there."""


def test_a_tenant_is_opened_without_asking_for_each_part_of_it() -> None:
    address = postgres.address()
    tenant, on = postgres.open_store("a", NOW).on.tenant, server(address)
    before = on.trips
    Store.connect(address, tenant, "a", NOW)
    assert on.trips - before <= OPENING


@pytest.mark.slow
def test_a_server_that_dies_in_a_group_has_it_whole_or_not_at_all(giver: Store) -> None:
    with postgres.a_server() as running, behind_proxy(running.address) as there:
        places = [(trip, answered) for trip in range(1, TRIPS + 1) for answered in PLACES]
        take(there, given(giver, 0))
        for turn, (trip, answered) in enumerate(places[:: -max(1, len(places) // KILLS)], 1):
            entries, before = given(giver, turn), turn * ENTRIES
            there.proxy.cut(trip, answered=answered, do=running.end)
            with pytest.raises(EntglError, match="PostgreSQL"):
                take(there, entries)
            assert there.proxy.cuts == 1
            server(running.address).close()
            running.start()
            kept = as_others_see(there.store, running.address).last_lsn()
            assert kept == before + ENTRIES * ((trip, answered) == places[-1])
            take(there, entries)
            check_same(there.store, before + ENTRIES, running.address)
        server(running.address).close()


@pytest.mark.parametrize("answered", PLACES)
def test_a_request_that_is_repeated_is_done_once(there: Behind, *, answered: bool) -> None:
    def write(turn: int) -> None:
        writes = [Write("users", f"k{turn}-{n}", b"{}") for n in range(ENTRIES)]
        with there.store.group():
            request = RequestId(b"c" * 16, turn)
            if there.store.answered(request, writes) is None:
                there.store.write(request, writes, NOW)

    write(0)
    assert lost_at_every_trip(there, write, rows_of(there), answered=answered) >= TRIPS
