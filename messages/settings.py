"""The settings of each actor: one frozen slice of the configuration per actor."""

from __future__ import annotations

from entgldb.messages.schema import Json, Record, record


@record
class StoreSettings(Record):
    """For StoreActor."""

    node_id: str
    directory: str
    role: str
    cluster: str
    key_file: str = ""
    """Cluster key file, for sealing secrets; empty in the cloud role."""
    soft_floor: int = 512 * 1024 * 1024
    """Bytes free on the disk below which the node warns."""
    hard_floor: int = 64 * 1024 * 1024
    """Bytes free on the disk below which the node refuses each request that makes the file grow."""
    tenants: bool = False
    """Cloud role only: it serves tenants, each from a file of its own."""
    storage: str = ""
    """The PostgreSQL that has the tenants' data instead; empty: there is none."""
    sync_interval: float = 2.0
    """Seconds between two looks at what other processes have written there."""


@record
class OplogSettings(Record):
    """For OplogActor."""

    node_id: str
    directory: str
    verify_interval: float = 600.0
    """Seconds between comparisons of all documents with every peer; 0: never by itself."""
    role: str = "lan"
    retention_hours: float = 24.0
    """How long log rows are kept that every member has."""
    retention_bytes: int = 256 * 1024 * 1024
    """A larger log is pruned of what every member has, however young."""
    absence_limit: float = 720.0
    """Hours after which a member that is not heard of holds back tombstones only."""
    hard_floor: int = 64 * 1024 * 1024
    """Free bytes on the disk below which no snapshot is taken in."""
    shared: bool = False
    """Cloud role only: it serves several clusters, and keeps tombstones for each."""
    tenants: bool = False
    """Cloud role only: it serves tenants, each from a file of its own."""
    storage: str = ""
    """The PostgreSQL that has the tenants' data instead; empty: there is none."""


@record
class SyncSettings(Record):
    """For SyncActor. Times in seconds."""

    node_id: str
    directory: str
    role: str
    cluster: str
    listen: str
    """``host:port`` of the TLS listener."""
    seeds: tuple[str, ...] = ()
    discovery: bool = True
    """Announce and browse by mDNS."""
    sync_interval: float = 2.0
    heartbeat_interval: float = 1.0
    live_push: bool = True
    """False: send only when a vector asks for it (every sync interval)."""
    announce: tuple[str, ...] = ()
    """The addresses at which this node says that others reach it, first those that are told on."""
    # cloud role only
    tls_cert: str = ""
    tls_key: str = ""
    authority: str = ""
    authority_ca: str = ""
    audience: str = ""
    scopes: tuple[str, ...] = ()
    allow_clients: tuple[str, ...] = ()
    """Empty: every client the authority vouches for."""
    token_profile: str = "rfc9068"
    """The shape of the authority's tokens: a name in ``actors.oauth.profiles``."""
    shared: bool = False
    """Several clusters may mix their data here. False: the first that a client brings is the only one."""
    proxy: tuple[str, ...] = ()
    """Networks of balancers whose connections begin with a PROXY header; ``*``: all. Empty: none does."""
    tenants: str = ""
    """Each client comes to the data of its tenant, which ``client``, ``claim`` or ``map`` names; empty: there
    are no tenants."""
    tenant_claim: str = ""
    tenant_map: tuple[tuple[str, str], ...] = ()
    """Client id -> tenant."""
    tenant_idle: float = 300.0
    """Seconds without a link after which a tenant is closed."""
    tenants_open: int = 200
    storage: str = ""
    """The PostgreSQL that has the tenants' data; empty: each has a file."""
    """Tenants that are open at one time."""


@record
class ElectionSettings(Record):
    """For ElectionActor. Times in seconds."""

    node_id: str
    role: str
    priority: int = 0
    takeover_delay: float = 10.0
    gateway_timeout: float = 3.0
    """A gateway whose beat stands still that long is taken for dead."""


@record
class GatewaySettings(Record):
    """For CloudGatewayActor. Times in seconds."""

    node_id: str
    directory: str
    role: str
    cluster: str
    key_file: str = ""
    sync_interval: float = 2.0
    heartbeat_interval: float = 1.0
    backoff_first: float = 0.5
    backoff_max: float = 60.0
    live_push: bool = True


@record
class HttpSettings(Record):
    """For the HTTP server that the launcher starts beside the actors."""

    listen: str = ""
    """``host:port``; empty: there is none."""
    names: tuple[str, ...] = ()
    """Names of the server beside its address."""
    tls_cert: str = ""
    """PEM files, beyond loopback. Empty: the node's own, or on a LAN one that the cluster's CA issues."""
    tls_key: str = ""
    tokens: bool = False
    """Whether it asks for a token on loopback, too."""


@record
class NodeSettings(Record):
    """For NodeActor: everything the others need, and what it does itself."""

    store: StoreSettings
    oplog: OplogSettings
    sync: SyncSettings
    election: ElectionSettings
    gateway: GatewaySettings
    initial_peers: tuple[Json, ...] = ()
    """``InitialRemotePeers``: PutPeer fields as JSON, secrets as references."""
    log_level: str = "INFO"
    config_file: str = ""
    http: HttpSettings = HttpSettings()
    log_format: str = "text"
    """``text``, or ``json``: an object a line."""
