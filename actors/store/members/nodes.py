"""The store's work for the list of members: writes into ``_system_nodes``, and the table of last words."""

from __future__ import annotations

from typing import Protocol

from entgldb.actors import nodes
from entgldb.actors.behaviour import WARNING, Context
from entgldb.actors.ports import Secrets, Store
from entgldb.actors.store.indexing.building import Building
from entgldb.messages import client
from entgldb.messages.administration import AcceptKey, RetireNode, UnpinCluster
from entgldb.messages.errors import NotAllowedError, NotFoundError, Reason
from entgldb.messages.local.actors import ClusterPinned, PinCluster, RememberPeer
from entgldb.messages.local.members import NoteSelf, RememberMembers
from entgldb.messages.model import NODES, check_node_id, node_of
from entgldb.messages.schema import Message
from entgldb.messages.settings import StoreSettings

Writes = tuple[client.Write, ...]


class Writer(Protocol):
    """The part of StoreKeeper that its handlers use."""

    settings: StoreSettings
    store: Store
    secrets: Secrets
    building: Building

    def count(self, reason: Reason, times: int = 1) -> None: ...

    def write(
        self, request: client.RequestId, writes: Writes, ctx: Context, *, system: bool = ...
    ) -> Message:
        """Write as this node, and answer so."""

    def wrote(self, written: tuple[client.Written, ...], lsn: int) -> Message:
        """The answer to a write of this node; the links' owners hear of it."""


def note_self(keeper: Writer, message: NoteSelf, ctx: Context) -> Message:
    """Write this node's own document, if something in it differs."""
    store = keeper.store
    # this is said whenever a peer has given all it has: the entries of a damaged file that it lacks come
    # back now
    if store.salvages() and not store.disowned:
        ctx.busy("writing again what a damaged file had")
        again = store.reissue_salvaged(ctx.now_ms())
        if again:
            ctx.log(WARNING, f"{again} writes of a damaged file, which no peer has, were written again")
        if store.salvages():
            # what others say meanwhile comes between
            ctx.tell("store", message)
    if keeper.settings.role == "cloud":
        return client.Done()
    ring = keeper.secrets.ring
    body = nodes.about_self(store, ctx.now_ms(), message.key, ring)
    if body is None:
        return client.Done()
    request = client.RequestId(ctx.random.randbytes(16), 0)
    write = client.Write(NODES, node_of(store.origin), body)
    return keeper.write(request, (write,), ctx, system=True)


def pin_cluster(keeper: Writer, message: PinCluster, ctx: Context) -> Message:
    """A client of this cluster was let in: a cloud node serves the first that comes, and believes its CA."""
    if not message.shared:
        keeper.store.pin_cluster(message.cluster, message.client_id)
    if message.ca_key:
        keeper.store.trust(message.cluster, message.ca_key, message.successors)
    return ClusterPinned(message.link)


def unpin_cluster(keeper: Writer, message: UnpinCluster, ctx: Context) -> Message:
    """Forget which cluster a cloud node serves; what it was."""
    if keeper.settings.role != "cloud":
        raise NotAllowedError(
            "only a cloud node has a cluster pinned", hint="run it in the cloud node's directory"
        )
    cluster, client_id = keeper.store.pinned_cluster()
    if message.cluster not in ("", cluster):
        if not keeper.store.forget_cluster(message.cluster):
            raise NotFoundError(f"no node of a cluster {message.cluster} was heard of", hint="entgldb status")
        ctx.log(WARNING, f"nothing is kept for nodes of cluster {message.cluster} any more")
        return client.Report({"cluster": message.cluster, "client_id": ""})
    keeper.store.unpin_cluster()
    ctx.log(WARNING, f"cluster {cluster or '(none)'} of client {client_id or '(none)'} was unpinned")
    return client.Report({"cluster": cluster, "client_id": client_id})


def retire_node(keeper: Writer, message: RetireNode, ctx: Context) -> Message:
    check_node_id(message.node_id)
    if keeper.settings.role == "cloud":
        raise NotAllowedError("a cloud node keeps no list of nodes", hint="ask a node of the LAN")
    body = nodes.as_retired(keeper.store, message.node_id)
    if body is None:
        return client.CommitDone((), 0)
    return keeper.write(message.request, (client.Write(NODES, message.node_id, body),), ctx, system=True)


def accept_key(keeper: Writer, message: AcceptKey, ctx: Context) -> Message:
    """Pin another key to a node, for everybody."""
    check_node_id(message.node_id)
    if keeper.settings.role == "cloud":
        raise NotAllowedError("a cloud node keeps no list of members", hint="ask a node of the LAN")
    body = nodes.as_accepted(keeper.store, message.node_id, message.key)
    if body is None:
        return client.CommitDone((), 0)
    ctx.log(WARNING, f"{message.node_id} is to show key {message.key[:16]} from now on")
    return keeper.write(message.request, (client.Write(NODES, message.node_id, body),), ctx, system=True)


def remember_members(keeper: Writer, message: RememberMembers, ctx: Context) -> Message:
    """Keep the last words of members in the file."""
    keeper.store.remember_members(message.rows, ctx.now_ms(), cloud=keeper.settings.role == "cloud")
    return client.Done()


def remember_peer(keeper: Writer, message: RememberPeer, ctx: Context) -> Message:
    """Note where a peer of the LAN was reached."""
    keeper.store.remember_peer(message.node_id, message.address, ctx.now_ms())
    return client.Done()
