"""The store's work for the replicated list of remote peers, those of the configuration included."""

from __future__ import annotations

from entgldb.actors.behaviour import ERROR, Context
from entgldb.actors.store import remote_peers
from entgldb.actors.store.members.nodes import Writer
from entgldb.messages import client
from entgldb.messages.administration import Event, Happened, RotateSecret
from entgldb.messages.errors import (
    InvalidError,
    NotAllowedError,
    NotFoundError,
    Reason,
    SecretError,
    TooLargeError,
)
from entgldb.messages.local.actors import ApplyInitialPeers, InitialPeersApplied
from entgldb.messages.local.members import SettleSecret
from entgldb.messages.model import REMOTE_PEERS, check_node_id
from entgldb.messages.remote_peers import RemotePeer
from entgldb.messages.schema import Json, Message


def put_peer(keeper: Writer, message: client.PutPeer, ctx: Context) -> Message:
    """Add a remote peer, or change the given fields of one."""
    check_node_id(message.node_id, "NodeId")
    _refuse_in_cloud(keeper)
    change = remote_peers.added if message.add else remote_peers.updated
    stored, out = keeper.store.get(REMOTE_PEERS, message.node_id), len(keeper.store.expelled())
    return _write(keeper, message.request, change(message, stored, keeper.secrets, out), ctx)


def rotate_secret(keeper: Writer, message: RotateSecret, ctx: Context) -> Message:
    """Give a cloud peer's client another secret, beside which the one before it counts for a time."""
    check_node_id(message.node_id, "NodeId")
    _refuse_in_cloud(keeper)
    stored, out = keeper.store.get(REMOTE_PEERS, message.node_id), len(keeper.store.expelled())
    peer = remote_peers.rotated(message, stored, keeper.secrets, out, ctx.now_ms())
    return _write(keeper, message.request, peer, ctx)


def settle_secret(keeper: Writer, message: SettleSecret, ctx: Context) -> Message:
    """Keep the secret before the present one no longer, if that is still so."""
    stored = keeper.store.get(REMOTE_PEERS, message.node_id)
    peer = remote_peers.settled(stored, message.secret, ctx.now_ms())
    if peer is not None:
        why = "the new one was taken" if message.secret else "its time is over"
        ctx.tell("store", Happened(Event.KEY.value, peer.node_id, f"client secret before it gone: {why}"))
    return _write(keeper, client.RequestId(ctx.random.randbytes(16), 0), peer, ctx)


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
    wanted, out = client.PutPeer(request, True, node_id), len(keeper.store.expelled())
    _write(keeper, request, remote_peers.initial(fields, wanted, keeper.secrets, out), ctx)


def _write(keeper: Writer, request: client.RequestId, peer: RemotePeer | None, ctx: Context) -> Message:
    """``peer``: None where nothing differs."""
    if peer is None:
        return client.CommitDone((), 0)
    write = client.Write(REMOTE_PEERS, peer.node_id, remote_peers.document(peer))
    return keeper.write(request, (write,), ctx, system=True)


def _refuse_in_cloud(keeper: Writer) -> None:
    if keeper.settings.role == "cloud":
        raise NotAllowedError("a cloud node keeps no list of remote peers", hint="ask a node of the LAN")
