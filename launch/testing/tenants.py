"""The tenants of a simulated cloud node: the routers of production, over databases that outlive a crash."""

from __future__ import annotations

from typing import Final, Protocol

from entgldb.actors.oauth.tenancy import BY_CLIENT, Naming
from entgldb.actors.oplog.behaviour import OplogKeeper
from entgldb.actors.ports import Links
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.actors.sync.behaviour import Sync
from entgldb.actors.tenants.door import Door, Vouched
from entgldb.actors.tenants.keeper import StoreTenants
from entgldb.actors.tenants.links import SyncTenants
from entgldb.actors.tenants.router import Opened, Tenants
from entgldb.actors.tls.witness import CaWitness
from entgldb.launch.testing.edges import Deliver, VirtualChecker, VirtualDisk, VirtualSecrets
from entgldb.launch.testing.shelf import SnapshotDisk, VirtualShelf
from entgldb.launch.testing.world import Clock, World
from entgldb.messages import codec
from entgldb.messages.errors import NotFoundError
from entgldb.messages.local.tenants import ForTenant
from entgldb.messages.schema import Message
from entgldb.messages.settings import OplogSettings, StoreSettings, SyncSettings
from entgldb.storage.log.read import LogReader
from entgldb.storage.repair.copies import Fingerprints
from entgldb.storage.store import Store
from entgldb.storage.tenants.catalogue import Catalogue

NAMING: Final = Naming(BY_CLIENT)
STEPS: Final = 3
"""Steps that it takes to remove the files of a tenant."""


class Owner(Protocol):
    """A simulated node, as far as its tenants need it."""

    name: str
    world: World
    clock: Clock
    store: Store
    log: LogReader
    disk: VirtualDisk
    snapshots: SnapshotDisk

    @property
    def kind(self) -> type[Store]:
        """Its stores."""

    @property
    def shelf(self) -> type[VirtualShelf]:
        """Its shelves."""

    def full(self) -> bool:
        """Whether nothing more can be written on its disk."""


class TenantDisk:
    """The directory of one tenant."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.snapshots = SnapshotDisk()
        self.steps = STEPS


class TenantDisks:
    """The folder ``tenants`` of one node, and the actors that work on it in each of its lives."""

    def __init__(self, node: Owner) -> None:
        self._node = node
        self.disks: dict[str, TenantDisk] = {}

    def crash(self) -> None:
        """Lose the writes that were not committed."""
        for disk in self.disks.values():
            if disk.store.connection.in_transaction:
                disk.store.connection.execute("ROLLBACK")
            disk.snapshots.crash()

    def close(self) -> None:
        """Give the memory back."""
        for disk in self.disks.values():
            disk.store.connection.close()
            disk.snapshots.close()
        self.disks.clear()

    # --- ports.TenantFiles -----------------------------------------------------------------------

    def size(self, tenant: str) -> int:
        return 0 if tenant not in self.disks else len(self.disks[tenant].store.connection.serialize())

    def remove(self, tenant: str) -> bool:
        disk = self.disks.get(tenant)
        if disk is None:
            return True
        disk.steps -= 1
        if disk.steps <= 0:
            # sync and oplog may still hold it for a moment, as they hold a file that has no name any more
            del self.disks[tenant]
        return disk.steps <= 0

    # --- actors ----------------------------------------------------------------------------------

    def stores(self, main: StoreKeeper, given: StoreSettings) -> StoreTenants:
        def opened(tenant: str) -> Opened:
            store = self._opened(tenant)
            return Opened(StoreKeeper(given, store, VirtualSecrets(), self._node.disk), lambda: None)

        return StoreTenants(main, opened, Catalogue(self._node.store.connection), self)

    def oplogs(self, main: OplogKeeper, given: OplogSettings, deliver: Deliver) -> Tenants:
        node = self._node

        def opened(tenant: str) -> Opened:
            disk = self._there(tenant)

            def to_tenant(actor: str, message: Message) -> bool:
                return deliver(actor, ForTenant(tenant, codec.encode(message)))

            connection = disk.store.connection
            shelf = node.shelf(disk.snapshots, connection, node.world, to_tenant, node.full)
            log, found = LogReader(connection), Fingerprints(connection)
            return Opened(OplogKeeper(given, log, found, shelf, node.disk), lambda: None)

        return Tenants(main, opened)

    def syncs(self, given: SyncSettings, links: Links, checker: VirtualChecker) -> SyncTenants:
        vouched, node = Vouched(checker), self._node
        checker.naming = NAMING

        def opened(tenant: str) -> Opened:
            disk = self._there(tenant)
            log = LogReader(disk.store.connection)
            made = Sync(given, log, CaWitness(log.authorities), links, vouched, disk.snapshots)
            return Opened(made, lambda: None)

        door = Door(given, node.log, CaWitness(node.log.authorities), links, checker, node.snapshots)
        return SyncTenants(door, opened, vouched)

    def _there(self, tenant: str) -> TenantDisk:
        disk = self.disks.get(tenant)
        if disk is None:
            raise NotFoundError(f"there is no tenant {tenant}")
        return disk

    def _opened(self, tenant: str) -> Store:
        node, kept, disk = self._node, _kept(self._node.kind), self.disks.get(tenant)
        if disk is None:
            made = kept.memory(node.name, node.world.random.randbytes(32), node.clock.now_ms())
            disk = self.disks[tenant] = TenantDisk(made)
        else:
            disk.store = kept.reopen(disk.store, node.clock.now_ms())
        return disk.store


def _kept(kind: type[Store]) -> type[Store]:
    """Stores of a kind whose memory is the disk: it stays when one is closed."""

    class Kept(kind):  # type: ignore[misc,valid-type]  # a class that is only known as it runs
        def close(self) -> None:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    return Kept
