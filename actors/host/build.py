"""The one place where a behaviour meets its edges: files, sockets, tokens. Called in the actor's process.

Edges are imported here, on the first Configure, so that an actor loads only what it uses.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from entgldb.actors.behaviour import Behaviour, Edge
from entgldb.actors.cluster_key import CLUSTER_KEY_NAME, KeyFile
from entgldb.messages import codec, settings
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import TENANT_LINKS_MAX
from entgldb.messages.local.actors import Configure

if TYPE_CHECKING:
    from entgldb.actors.tls.attestation import CaOfCluster


Built = tuple[Behaviour, Edge | None]
ACTORS: Final = ("node", "store", "oplog", "sync", "election", "gateway")
EDGES: Final = (
    "store.client_socket",
    "side_loop",
    "sync.discovery",
    "gateway.behaviour",
    "oauth.resource_server",
    "tls.links",
    "oauth.client",
    "oplog.behaviour",
    "gateway.probe",
    "oauth.secrets",
    "oplog.snapshot_files",
    "store.behaviour",
    "tls.attestation",
    "tls.witness",
    "sync.behaviour",
    "tls.identity",
    "tls.key_ring",
    "election.behaviour",
    "host.free_space",
)


def preload(given: settings.SyncSettings) -> None:
    """Load what the actors of such a node will need, before the fork: the pages are then shared by all of
    them."""
    spared = set() if given.discovery else {"sync.discovery"}
    spared |= set() if given.role == "cloud" else {"oauth.resource_server"}
    for name in EDGES:
        if name not in spared:
            import_module(f"entgldb.actors.{name}")
    for name in ("store", "log.read", "file.swap", "file.upgrade"):
        import_module(f"entgldb.storage.{name}")
    codec.compile_for_actors()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # OpenSSL makes its tables for the first one, 1.6 MB


def build(configure: Configure) -> Built:
    """The behaviour for the one slice that is filled, and its edge, not started yet."""
    slices = (configure.store, configure.oplog, configure.sync, configure.election, configure.gateway)
    filled = [part for part in slices if part is not None]
    if len(filled) != 1:
        raise EntglError(f"a Configure with {len(filled)} slices, exactly one is needed")
    return _BUILDERS[type(filled[0])](filled[0])


def _key_file(directory: str) -> KeyFile:
    return KeyFile(Path(directory) / CLUSTER_KEY_NAME)


def _ca(file: KeyFile) -> CaOfCluster:
    from entgldb.actors.tls.attestation import CaOfCluster

    return CaOfCluster(lambda: file.keys)


def _store(given: settings.StoreSettings) -> Built:
    from entgldb.actors.host.free_space import FreeSpace
    from entgldb.actors.oauth.secrets import KeyedSecrets
    from entgldb.actors.store.behaviour import StoreKeeper
    from entgldb.actors.store.client_socket import ClientSocket
    from entgldb.storage.store import Store

    now_ms = time.time_ns() // 1_000_000
    ring = None
    if given.role == "cloud":
        store = Store.open(given.directory, given.node_id, now_ms)
    else:
        from entgldb.actors.tls.key_ring import FileRing

        file = _key_file(given.directory)
        ring = FileRing(given.directory, file)
        store = Store.open(given.directory, given.node_id, now_ms, _ca(file).attest)
    socket = ClientSocket(given.directory)
    secrets = KeyedSecrets(given.key_file, given.cluster, ring)
    disk = FreeSpace(given.directory)
    keeper = StoreKeeper(given, store, secrets, disk)
    if given.tenants:
        from entgldb.actors.host import tenants

        return tenants.stores(keeper, given, store, secrets, disk, socket)
    return keeper, socket


def _oplog(given: settings.OplogSettings) -> Built:
    from entgldb.actors.host.free_space import FreeSpace
    from entgldb.actors.oplog.behaviour import OplogKeeper
    from entgldb.actors.oplog.snapshot_files import FileShelf
    from entgldb.actors.side_loop import SideLoop
    from entgldb.storage.log.read import LogReader
    from entgldb.storage.repair.copies import Fingerprints

    log = LogReader.open(given.directory)
    loop = SideLoop("oplog")
    shelf = FileShelf(loop.post, given.directory)
    fingerprints, disk = Fingerprints(log.connection), FreeSpace(given.directory)
    keeper = OplogKeeper(given, log, fingerprints, shelf, disk)
    if given.tenants:
        from entgldb.actors.host import tenants

        return tenants.oplogs(keeper, given, loop, disk), loop
    return keeper, loop


def _election(given: settings.ElectionSettings) -> Built:
    from entgldb.actors.election.behaviour import Bully

    return Bully(given), None


def _sync(given: settings.SyncSettings) -> Built:
    from entgldb.actors.oplog.snapshot_files import FileChunks
    from entgldb.actors.side_loop import SideLoop
    from entgldb.actors.sync.behaviour import Sync
    from entgldb.actors.tls.certificates import ca_keys
    from entgldb.actors.tls.links import TlsLinks
    from entgldb.actors.tls.witness import CaWitness
    from entgldb.storage.log.read import LogReader

    log = LogReader.open(given.directory)
    loop = SideLoop("sync")
    chunks = FileChunks(given.directory)
    if given.role == "cloud":
        from entgldb.actors.oauth.resource_server import JwtChecker
        from entgldb.actors.tls.identity import ServerIdentity

        server = ServerIdentity(given.tls_cert, given.tls_key)
        most = TENANT_LINKS_MAX if given.tenants else 0
        links = TlsLinks(loop, listen=given.listen, server=server, links_max=most, balancers=given.proxy)
        checker = JwtChecker(loop, given)
        if given.tenants:
            from entgldb.actors.host import tenants

            return tenants.syncs(given, log, links, checker), loop
        return Sync(given, log, CaWitness(log.authorities), links, checker, chunks), loop
    from entgldb.actors.tls.identity import LanIdentity

    key = Path(given.directory) / CLUSTER_KEY_NAME
    lan = LanIdentity.load(given.directory, key, given.node_id, known_ms=log.high_mark_ms())
    links = TlsLinks(loop, lan=lan, listen=given.listen)
    if given.discovery:
        from entgldb.actors.sync.discovery import Discovery

        Discovery(loop, given, links)
    file = _key_file(given.directory)
    witness = CaWitness(_ca(file).authorities, lambda: ca_keys(file.keys))
    return Sync(given, log, witness, links, None, chunks, lan.key, lambda: ca_keys(file.keys)[0].hex()), loop


def _gateway(given: settings.GatewaySettings) -> Built:
    from entgldb.actors.gateway.behaviour import Gateway
    from entgldb.actors.gateway.probe import CloudProber
    from entgldb.actors.oauth.client import HttpTokenSource
    from entgldb.actors.oauth.secrets import KeyedSecrets
    from entgldb.actors.oplog.snapshot_files import FileChunks
    from entgldb.actors.side_loop import SideLoop
    from entgldb.actors.tls.links import TlsLinks
    from entgldb.actors.tls.witness import CaWitness
    from entgldb.storage.log.read import LogReader

    secrets = KeyedSecrets(given.key_file, given.cluster)
    loop = SideLoop("gateway")
    tokens = HttpTokenSource(loop, secrets)
    links = TlsLinks(loop)
    log = LogReader.open(given.directory)
    chunks = FileChunks(given.directory)
    ca = None if given.role == "cloud" else _ca(_key_file(given.directory))
    witness = CaWitness(log.authorities if ca is None else ca.authorities)
    prober = CloudProber(loop, tokens)
    return Gateway(given, log, witness, links, tokens, secrets, prober, chunks, ca), loop


_BUILDERS: Final[dict[type, Callable[[Any], Built]]] = {
    settings.StoreSettings: _store,
    settings.OplogSettings: _oplog,
    settings.SyncSettings: _sync,
    settings.ElectionSettings: _election,
    settings.GatewaySettings: _gateway,
}
