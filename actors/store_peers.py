"""What the store does for InitialRemotePeers: each is put where neither it nor its removal is known."""

from __future__ import annotations

from typing import Protocol

from entgldb.actors import remote_peers
from entgldb.actors.behaviour import ERROR, Context
from entgldb.actors.ports import Secrets, Store
from entgldb.messages import client
from entgldb.messages.errors import EntglError, Reason
from entgldb.messages.local import ApplyInitialPeers
from entgldb.messages.model import REMOTE_PEERS
from entgldb.messages.schema import Json, Message


class Writer(Protocol):
    """The part of StoreKeeper that writes."""

    store: Store
    _secrets: Secrets

    def count(self, reason: Reason, times: int = 1) -> None: ...

    def _write(
        self,
        request: client.RequestId,
        writes: tuple[client.Write, ...],
        ctx: Context,
        *,
        system: bool = False,
    ) -> Message: ...


def initial_peers(keeper: Writer, message: ApplyInitialPeers, ctx: Context) -> Message:
    """Put those that are new; one that is wrong is counted and harms no other."""
    for number, fields in enumerate(message.peers):
        try:
            _initial_peer(keeper, number, dict(fields), ctx)
        except EntglError as fault:
            ctx.log(ERROR, f"InitialRemotePeers[{number}]: {fault.text}")
            keeper.count(Reason.INVALID)
    return client.Done()


def _initial_peer(keeper: Writer, number: int, fields: dict[str, Json], ctx: Context) -> None:
    node_id = str(fields.get("node_id", ""))
    if keeper.store.known(REMOTE_PEERS, node_id):
        return
    scopes = fields.get("scopes")
    if scopes is not None:
        fields["scopes"] = tuple(scopes)
    request = client.RequestId(ctx.random.randbytes(16), number)
    peer = remote_peers.initial(fields, client.PutPeer(request, True, node_id), keeper._secrets)
    write = client.Write(REMOTE_PEERS, peer.node_id, remote_peers.document(peer))
    keeper._write(request, (write,), ctx, system=True)
