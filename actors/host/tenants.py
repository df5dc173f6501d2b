"""Building the actors of a cloud node that serves tenants: each tenant has the edges of a node of its own."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from functools import partial
from typing import Final

from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.oplog.snapshot_files import FileChunks, FileShelf
from entgldb.actors.ports import Disk, Links, Secrets, TokenChecker
from entgldb.actors.side_loop import SideLoop
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tenants.door import Door, Vouched
from entgldb.actors.tenants.keeper import StoreTenants
from entgldb.actors.tenants.links import SyncTenants
from entgldb.actors.tenants.router import Opened, Tenants
from entgldb.actors.tls.witness import CaWitness
from entgldb.messages import codec
from entgldb.messages.local.tenants import ForTenant
from entgldb.messages.schema import Message
from entgldb.messages.settings import OplogSettings, StoreSettings, SyncSettings
from entgldb.storage.file.open import rest
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.store import Store
from entgldb.storage.tenants.catalogue import Catalogue
from entgldb.storage.tenants.files import TenantFiles, tenant_directory

FILES_WANTED: Final = 16_384
"""Descriptors that an actor asks the system for: three for each open tenant, one for each link."""

STATEMENTS: Final = 24
"""Kept prepared for the file of one tenant: those of a batch that is taken in, and not all of an opening."""


def stores(
    main: StoreKeeper, given: StoreSettings, store: Store, secrets: Secrets, disk: Disk
) -> StoreTenants:
    """The store actor: a writer for each tenant."""
    files = TenantFiles(given.directory)

    def opened(tenant: str) -> Opened:
        own = replace(given, directory=str(files.make(tenant)))
        now_ms = time.time_ns() // 1_000_000
        made = Store.open(own.directory, given.node_id, now_ms, statements=STATEMENTS)
        kept = made.connection
        return Opened(StoreKeeper(own, made, secrets, disk), kept.close, partial(rest, kept))

    _more_files()
    return StoreTenants(main, opened, Catalogue(store.connection), files)


def oplogs(main: OplogKeeper, given: OplogSettings, loop: SideLoop, disk: Disk) -> Tenants:
    """The oplog actor: retention, snapshots and verification for each tenant."""

    def opened(tenant: str) -> Opened:
        def post(message: Message) -> None:
            loop.post(ForTenant(tenant, codec.encode(message)))

        own = replace(given, directory=str(tenant_directory(given.directory, tenant)))
        log = LogReader.open(own.directory)
        shelf, found = FileShelf(post, own.directory), Fingerprints(log.connection)
        return Opened(OplogKeeper(own, log, found, shelf, disk), log.close, partial(rest, log.connection))

    _more_files()
    return Tenants(main, opened)


def syncs(given: SyncSettings, log: LogReader, links: Links, checker: TokenChecker) -> SyncTenants:
    """The sync actor: a door for all links, and the sessions of each tenant."""
    vouched = Vouched(checker)

    def opened(tenant: str) -> Opened:
        own = replace(given, directory=str(tenant_directory(given.directory, tenant)))
        read = LogReader.open(own.directory)
        chunks, witness = FileChunks(own.directory), CaWitness(read.authorities)
        behaviour = Sync(own, read, witness, links, vouched, chunks)
        return Opened(behaviour, read.close, partial(rest, read.connection))

    _more_files()
    door = Door(given, log, CaWitness(log.authorities), links, checker, FileChunks(given.directory))
    return SyncTenants(door, opened, vouched)


def _more_files() -> None:
    """As many descriptors as the system lets this process have, up to what it may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
