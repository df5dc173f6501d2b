"""Building the actors of a cloud node that serves tenants: each tenant has the edges of a node of its own."""

from __future__ import annotations

import resource
import select
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from socket import gethostname
from typing import Final, TypeVar

from entgldb.actors.behaviour import Asker, Context, Edge
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.oplog.snapshot_files import FileChunks, FileShelf
from entgldb.actors.ports import Disk, Links, Secrets, TokenChecker
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tenants.door import Door, Vouched
from entgldb.actors.tenants.fellows import Fellows
from entgldb.actors.tenants.keeper import StoreTenants
from entgldb.actors.tenants.links import SyncTenants
from entgldb.actors.tenants.router import Opened, Tenants
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import codec
from entgldb.messages.local.tenants import ForTenant, WrittenElsewhere
from entgldb.messages.schema import Message
from entgldb.messages.settings import OplogSettings, StoreSettings, SyncSettings
from entgldb.storage.file.open import rest
from entgldb.storage.log.read import LogQueries, LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.store import Store
from entgldb.storage.tenants.catalogue import Catalogue
from entgldb.storage.tenants.files import TenantFiles, tenant_directory

FILES_WANTED: Final = 16_384
"""Descriptors that an actor asks the system for: three for each open tenant, one for each link."""

_Made = TypeVar("_Made", bound=Tenants)
STATEMENTS: Final = 24
"""Kept prepared for the file of one tenant: those of a batch that is taken in, and not all of an opening."""


def stores(
    main: StoreKeeper, given: StoreSettings, store: Store, secrets: Secrets, disk: Disk, socket: Edge
) -> tuple[StoreTenants, Edge]:
    """The store actor: a writer for each tenant. Beside the clients' socket it hears of other processes."""
    _more_files()
    if given.storage:
        return _stores_on_postgres(main, given, secrets, disk, socket)
    files = TenantFiles(given.directory)

    def opened(tenant: str) -> Opened:
        own = replace(given, directory=str(files.make(tenant)))
        made = Store.open(own.directory, own.node_id, _now_ms(), statements=STATEMENTS)
        kept = made.connection
        return Opened(StoreKeeper(own, made, secrets, disk), kept.close, partial(rest, kept))

    return _told(StoreTenants(main, opened, Catalogue(store.connection), files), given.storage), socket


def _stores_on_postgres(
    main: StoreKeeper, given: StoreSettings, secrets: Secrets, disk: Disk, socket: Edge
) -> tuple[StoreTenants, Edge]:
    from entgldb.storage.postgres import catalogue, processes, store, tenants, waking

    files, loop = TenantFiles(given.directory), SideLoop("store")

    def opened(tenant: str) -> Opened:
        own = replace(given, directory=str(files.make(tenant)))
        made = store.Store.connect(own.storage, tenant, own.node_id, _now_ms())
        kept = made.connection
        keeper = StoreKeeper(own, made, secrets, disk)
        return Opened(keeper, kept.close, partial(rest, kept), made.follow)

    made = waking.Waking(given.storage, lambda told: loop.post(WrittenElsewhere(told)))

    loop.spawn(made.listen())
    loop.spawn(made.speak())
    rows = catalogue.Catalogue(given.storage, files.names)
    all_of_us = processes.Processes(rows, f"{gethostname()}:{given.directory}")
    fellows = Fellows(
        rows.look,
        partial(loop.call, made.tell),
        all_of_us.publish,
        all_of_us.gateways,
        all_of_us.others,
        rows.restored,
    )
    removed = tenants.TenantRows(given.storage, files)
    return _told(StoreTenants(main, opened, rows, removed, fellows), given.storage), Both(socket, loop)


class Both:
    """Two edges of one actor, as one."""

    def __init__(self, *edges: Edge) -> None:
        self._edges, self._poll = edges, select.epoll()

    def start(self) -> None:
        for edge in self._edges:
            edge.start()
            self._poll.register(edge.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._poll.fileno()

    def drain(self) -> list[tuple[Asker | None, Message]]:
        return [arrived for edge in self._edges for arrived in edge.drain()]

    def stop(self) -> None:
        for edge in self._edges:
            edge.stop()
        self._poll.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _log(directory: str, storage: str, tenant: str) -> LogQueries:
    if not storage:
        return LogReader.open(directory)
    from entgldb.storage.postgres import store as postgres

    return postgres.LogReader.connect(storage, tenant)


def _source(storage: str, tenant: str) -> Callable[[], sqlite3.Connection] | None:
    """Opens the data of a tenant for a snapshot, where it is not in a file."""
    if not storage:
        return None
    from entgldb.storage.postgres import store as postgres

    return partial(postgres.source, storage, tenant)


def oplogs(main: OplogKeeper, given: OplogSettings, loop: SideLoop, disk: Disk) -> Tenants:
    """The oplog actor: retention, snapshots and verification for each tenant."""

    def opened(tenant: str) -> Opened:
        def post(message: Message) -> None:
            loop.post(ForTenant(tenant, codec.encode(message)))

        own = replace(given, directory=str(tenant_directory(given.directory, tenant)))
        log = _log(own.directory, own.storage, tenant)
        shelf = FileShelf(post, own.directory, _source(own.storage, tenant))
        found = Fingerprints(log.connection)
        return Opened(OplogKeeper(own, log, found, shelf, disk), log.close, partial(rest, log.connection))

    _more_files()
    return _told(Tenants(main, opened), given.storage)


def syncs(given: SyncSettings, log: LogReader, links: Links, checker: TokenChecker) -> SyncTenants:
    """The sync actor: a door for all links, and the sessions of each tenant."""
    vouched = Vouched(checker)

    def opened(tenant: str) -> Opened:
        own = replace(given, directory=str(tenant_directory(given.directory, tenant)))
        read = _log(own.directory, own.storage, tenant)
        chunks, witness = FileChunks(own.directory), CaWitness(read.authorities)
        behaviour = Sync(own, read, witness, links, vouched, chunks)
        return Opened(behaviour, read.close, partial(rest, read.connection))

    _more_files()
    door = Door(given, log, CaWitness(log.authorities), links, checker, FileChunks(given.directory))
    return _told(SyncTenants(door, opened, vouched), given.storage)


def _told(made: _Made, storage: str) -> _Made:
    """Have each answer of PostgreSQL, which has a time limit, be a step that the supervisor knows."""
    if storage:
        from entgldb.storage.postgres.server import server

        def begins(ctx: Context) -> None:
            server(storage).waits = partial(ctx.busy, "waiting for PostgreSQL")

        made.begins = begins
    return made


def _more_files() -> None:
    """As many descriptors as the system lets this process have, up to what it may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
