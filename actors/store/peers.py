"""The store's work for the replicated list of remote peers, those of the configuration included."""

from __future__ import annotations

from entgldb.actors.behaviour import ERROR, Context
from entgldb.actors.store import remote_peers
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.errors import (
    InvalidError,
    NotAllowedError,
    NotFoundError,
    Reason,
    SecretError,
    TooLargeError,
)
from entgldb.messages.local.actors import ApplyInitialPeers, InitialPeersApplied
from entgldb.messages.model import REMOTE_PEERS, check_node_id
from entgldb.messages.schema import Json, Message


def put_peer(keeper: Writer, message: client.PutPeer, ctx: Context) -> Message:
    """Add a remote peer, or change the given fields of one."""
    check_node_id(message.node_id, "NodeId")
    _refuse_in_cloud(keeper)
    change = remote_peers.added if message.add else remote_peers.updated
    peer = change(message, keeper.store.get(REMOTE_PEERS, message.node_id), keeper.secrets)
    if peer is None:
        return client.CommitDone((), 0)
    body = remote_peers.document(peer)
    return keeper.write(message.request, (client.Write(REMOTE_PEERS, peer.node_id, body),), ctx, system=True)


def remove_peer(keeper: Writer, message: client.RemovePeer, ctx: Context) -> Message:
    """Remove a remote peer everywhere, for good."""
    _refuse_in_cloud(keeper)
    if keeper.store.get(REMOTE_PEERS, message.node_id) is None:
        raise NotFoundError(f"no remote peer {message.node_id}", hint="entgldb list-peers")
    writes = (client.Write(REMOTE_PEERS, message.node_id, None),)
    return keeper.write(message.request, writes, ctx, system=True)


def initial_peers(keeper: Writer, message: ApplyInitialPeers, ctx: Context) -> Message:
    """Put those that are new; one that is wrong is counted and harms no other. Any other fault undoes all."""
    for number, fields in enumerate(message.peers):
        try:
            _initial_peer(keeper, number, dict(fields), ctx)
        except (InvalidError, SecretError, TooLargeError) as fault:
            ctx.log(ERROR, f"InitialRemotePeers[{number}]: {fault.text}")
            keeper.count(Reason.INVALID)
    return InitialPeersApplied(message.ticket)


def _initial_peer(keeper: Writer, number: int, fields: dict[str, Json], ctx: Context) -> None:
    node_id = str(fields.get("node_id", ""))
    if keeper.store.known(REMOTE_PEERS, node_id):
        return
    scopes = fields.get("scopes")
    if scopes is not None:
        fields["scopes"] = tuple(scopes)
    request = client.RequestId(ctx.random.randbytes(16), number)
    peer = remote_peers.initial(fields, client.PutPeer(request, True, node_id), keeper.secrets)
    write = client.Write(REMOTE_PEERS, peer.node_id, remote_peers.document(peer))
    keeper.write(request, (write,), ctx, system=True)


def _refuse_in_cloud(keeper: Writer) -> None:
    if keeper.settings.role == "cloud":
        raise NotAllowedError("a cloud node keeps no list of remote peers", hint="ask a node of the LAN")
