"""Messages between the actors of one node, and the reports of their wires. Tags 80 and up.

None of these can arrive from a network or a client: the codec refuses them there.
"""

from __future__ import annotations

from entgldb.messages.model import Author, Entry, Vector
from entgldb.messages.schema import Count, Json, Message, message
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)
from entgldb.messages.wire import Claim

# --- node and its children ---------------------------------------------------------------------


@message(80)
class Boot(Message):
    """Launcher to node: begin. Answered by Ready when all actors serve."""

    settings: NodeSettings


@message(81)
class Configure(Message):
    """Node to an actor, after every start and on Reload: exactly one slice is filled."""

    store: StoreSettings | None = None
    oplog: OplogSettings | None = None
    sync: SyncSettings | None = None
    election: ElectionSettings | None = None
    gateway: GatewaySettings | None = None
    log_level: str = "INFO"


@message(82)
class Ready(Message):
    """An actor to node (``name``), and node to the launcher (``node``): serving."""

    name: str
    pid: int
    facts: dict[str, Json]
    """Facts that only the start could tell, such as the bound TLS port."""


@message(83)
class Addresses(Message):
    """Node to its children and to an administrator: where the actors are, by name, as opaque handles."""

    actors: dict[str, bytes]
    pids: dict[str, int]


@message(84)
class ChildExited(Message):
    """The host to node: the child ``name`` is gone."""

    name: str


@message(85)
class Restart(Message):
    """Node to itself, after a backoff: start ``name`` again."""

    name: str


@message(86)
class StopNow(Message):
    """Node to its children: close links and files in good order; answered by Stopped."""


@message(87)
class Stopped(Message):
    name: str


@message(88)
class Tick(Message):
    """An actor's own timer; ``what`` tells which, ``generation`` lets an outdated one be ignored."""

    what: str
    generation: int = 0


@message(89)
class Well(Message):
    """Node to the launcher, now and then while every actor serves: for a watchdog above the launcher."""


@message(124)
class HttpState(Message):
    """Launcher to node, after every change: how the HTTP server is that it started beside the actors."""

    url: str
    state: str
    """``up`` or ``down``."""
    restarts: int
    trouble: str
    """A sentence where it does not stay up, or empty."""


# --- store and oplog -----------------------------------------------------------------------------


@message(90)
class Committed(Message):
    """To sync and gateway: rows ``first``..``last`` are committed; answered by Seen while a session runs.

    ``own_last`` is the last of them that this node wrote itself (0: none).
    """

    first: int
    last: int
    own_last: int


@message(91)
class Seen(Message):
    """Sync or gateway to store, as a session starts and after each Committed: the next may come."""

    name: str
    lsn: int


@message(93)
class Apply(Message):
    """Sync or gateway to store: proven entries, whole groups. ``fault`` stops the round at this batch."""

    owner: str
    """The actor that hears Applied: ``sync`` or ``gateway``."""
    session: str
    """Unique in the life of the node."""
    round: int
    batch: int
    entries: tuple[Entry, ...]
    cloud: bool
    """By a cloud link: system entries are recorded, never applied."""
    supplied: bool = False
    """An answer to Want: applies rows already recorded; no batch order, no Applied."""
    fault: str = ""
    recorded: tuple[int, ...] = ()
    peer: str = ""
    """Node id of the sender, where it is known."""
    authors: tuple[Author, ...] = ()
    """Of the origins that the sender has named."""


@message(94)
class Applied(Message):
    """Store to sync or gateway: the result of a batch, after its commit.

    ``refused`` is empty, or the Reason (gap, out-of-order, store-busy, bad-entry) for which the session
    must ask for a new round. After ``disk-full`` it comes once more, with ``again``, when there is room.
    """

    session: str
    round: int
    batch: int
    changes: Vector
    refused: str = ""
    again: bool = False


@message(95)
class SessionEnded(Message):
    """Sync or gateway to oplog and store: forget what you keep for it.

    Node to both, when sync or gateway died: forget all that it had.
    """

    session: str
    """``sync:17``, or ``sync`` for all of that owner."""

    def covers(self, session: str) -> bool:
        """Whether that session is over."""
        return f"{session}:".startswith(f"{self.session}:")


@message(96)
class ReleaseHeld(Message):
    """Oplog to store: look whether time has caught up with held entries."""


@message(92)
class HideExpired(Message):
    """Store to itself: some version's moment has come."""


@message(97)
class RemotePeersChanged(Message):
    """Store to node: ``_system_remote_peers`` as it stands, one JSON document per peer."""

    peers: tuple[dict[str, Json], ...]


@message(98)
class ApplyInitialPeers(Message):
    """Node to store: put those for which neither a document nor a tombstone exists.

    Answered by InitialPeersApplied; without it the node says this again.
    """

    peers: tuple[Json, ...]
    ticket: int = 0


@message(121)
class PinCluster(Message):
    """Sync of a cloud node to store: ``client_id`` brings ``cluster`` over ``link``, the first of all.

    Answered by ClusterPinned.
    """

    link: int
    cluster: str
    client_id: str
    ca_key: bytes = b""
    """The public key that the name of the cluster is made from; empty where the client has not said it."""
    shared: bool = False
    """Others may come, too: nothing is pinned, the key is only believed."""
    successors: tuple[tuple[bytes, bytes], ...] = ()
    """Those of ``Hello``."""


@message(122)
class ClusterPinned(Message):
    """Store to sync, after the commit: the file says now which cluster this cloud node serves."""

    link: int


@message(120)
class InitialPeersApplied(Message):
    """Store to node, after the commit: the initial peers of this ``ticket`` stand in the file."""

    ticket: int


@message(99)
class RememberPeer(Message):
    """Sync to store: a LAN peer was reached at this address."""

    node_id: str
    address: str


@message(100)
class KnownPeers(Message):
    """Store to sync at the start: addresses remembered from last time, node id -> address."""

    peers: dict[str, str]


# --- sync, election, gateway -----------------------------------------------------------------------


@message(110)
class PeerUp(Message):
    """Sync to election and node: a session with a LAN peer is open."""

    node_id: str


@message(111)
class PeerDown(Message):
    node_id: str
    reason: str


@message(112)
class FromPeer(Message):
    """Sync to election: an election frame (encoded wire message) from a peer."""

    node_id: str
    payload: bytes


@message(113)
class ToPeer(Message):
    """Election to sync: send an election frame; ``node_id`` empty means all peers."""

    node_id: str
    payload: bytes


@message(114)
class ClaimHeard(Message):
    """Sync to election: a peer's heartbeat carried this claim; ``differs``: ours carry another, or none."""

    node_id: str
    claim: Claim
    differs: bool = False


@message(115)
class ClaimToSend(Message):
    """Election to sync: put this into heartbeats from now on; ``now`` sends one at once."""

    claim: Claim | None
    now: bool


@message(116)
class ElectionOutcome(Message):
    """Election to node: the present gateway. ``gateway`` is empty while nobody is."""

    epoch: int
    gateway: str
    why: str = ""
    """The cause of it, for a person."""


@message(117)
class Fitness(Message):
    """Gateway to election: how fit this node is to lead, and what a gateway tells all others."""

    resolvable: int
    """Enabled cloud peers whose secret this node can resolve."""
    connected: tuple[str, ...] = ()
    """Cloud peers it is linked to."""
    troubles: tuple[tuple[str, str], ...] = ()
    """Cloud peers whose link is down, or will be, and why."""
    reach: int = 0
    """Cloud peers that it has reached lately."""


@message(123)
class ProveReach(Message):
    """Election to gateway: say by probes whether this node, which does not lead, reaches the cloud peers."""


@message(118)
class Reconfigure(Message):
    """Node to gateway: the cloud links that should be. ``cause`` is ``election``, ``peers`` or
    ``restart``."""

    gateway: str
    epoch: int
    peers: tuple[dict[str, Json], ...]
    cause: str


@message(119)
class StaticPeers(Message):
    """Node to sync: enabled StaticRemote peers, node id -> address."""

    peers: dict[str, str]


# --- what the wires report to sync and gateway -------------------------------------------------------


@message(130)
class LinkUp(Message):
    """A link is open and its TLS handshake done."""

    link: int
    inbound: bool
    address: str
    node_id: str
    """From the certificate of a LAN peer; empty on cloud links."""
    key: str = ""
    """Of that certificate, SHA-256 in hex."""
    under: str = ""
    """The key of the cluster under which both sides are members: the public key of its CA, in hex."""


@message(131)
class LinkDown(Message):
    """A link is closed, or could not be opened. Said exactly once for every link id."""

    link: int
    reason: str
    text: str
    address: str = ""
    """Where the other side is, where that is known."""


@message(132)
class FrameIn(Message):
    """A frame came by ``link``. The wire has checked its length; the behaviour decodes it."""

    link: int
    payload: bytes


@message(133)
class PeerFound(Message):
    """Discovery: a hint that ``node_id`` may listen at ``address``; TLS decides."""

    node_id: str
    address: str


@message(134)
class TokenIssued(Message):
    """The token source has a token for a cloud peer."""

    node_id: str
    ticket: int
    """The number the request had: an answer to an outdated request is ignored."""
    token: str
    expires_in: float


@message(135)
class TokenFailed(Message):
    """No token. ``reason`` is a Reason; ``retry_after`` seconds asked for by the server, or 0."""

    node_id: str
    ticket: int
    reason: str
    text: str
    retry_after: float
    by_client: bool = False
    """The authority did not take the client for itself, or there is no secret here: another one may do."""


@message(136)
class TokenChecked(Message):
    """Cloud role: the judgement of a token on ``link``; ``reason`` empty when accepted."""

    link: int
    ticket: int
    client_id: str
    expires_at: float
    """Unix seconds."""
    reason: str
    text: str
    tenant: str = ""
    """The tenant of the client, on a cloud node that serves tenants."""
    issuer: str = ""
    """The authority by whose word it is that."""


@message(137)
class ProbeDone(Message):
    """The wire has tried a cloud peer for TestPeer; ``steps`` as in its Report."""

    ticket: int
    steps: tuple[Json, ...]


@message(138)
class Dropped(Message):
    """A wire has dropped or refused something that no behaviour saw: to be counted."""

    reason: str


@message(175)
class DiscoveryTold(Message):
    """A wire to sync: how discovery by multicast is getting on."""

    works: bool
    text: str
    """The fault, where it does not."""
    addresses: tuple[str, ...] = ()
    """Addresses of this node that it announces."""
    heard: Count = 0
    """Announcements of other nodes of the cluster."""
    strangers: Count = 0
    """Announcements of nodes of other clusters."""


@message(174)
class BuildIndexes(Message):
    """Store to itself: take the next step of building the indexes that are not built."""

    number: Count
    """Counted by the store: nothing is done where it has asked for a later one since."""


@message(170)
class ClockJudged(Message):
    """Sync to store: the judgement of the peers' clocks on ours. Repeated at every heartbeat while it is
    ``off``."""

    off: bool
    offset_ms: int
    """How far the clocks of those that disagree are ahead of ours, in the middle; negative: behind."""
    against: int
    """Peers that disagree, at the last count."""
    peers: int
    """Peers whose clocks are known, at the last count."""
