"""``db.peers``: the replicated list of remote peers, managed from any node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from entgldb.messages.administration import RotateSecret
from entgldb.messages.client import CommitDone, PutPeer, RemovePeer, Report, TestPeer
from entgldb.messages.errors import EntglError, InvalidError, NotFoundError
from entgldb.messages.remote_peers import SEALED, PeerType, RemotePeer
from entgldb.messages.schema import Json

if TYPE_CHECKING:
    from entgldb.client.door import Door

OVERLAP_SECONDS: Final = 24 * 3600.0
"""So long the secret before counts beside a new one, where nothing is said."""
TEST_PEER_SECONDS: Final = 60.0
"""Five steps, each bounded by the gateway; this only bounds a gateway that does not answer."""

UPDATABLE: Final = (
    "address",
    "authority",
    "client_id",
    "client_secret",
    "scopes",
    "audience",
    "ca_pem",
    "token_endpoint",
    "auth_method",
    "enabled",
    "max_rate",
)
"""The fields that ``update_remote_peer`` takes."""


class SecretRow(NamedTuple):
    """How the client secret of a cloud peer stands."""

    node_id: str
    sealed: bool
    """Whether it lies sealed in the list, so that every member knows it; else it is a reference, or a key."""
    known_outside: bool
    """Whether a node that was expelled knows it: it is to be changed at the authority and here."""
    changes_over_until: int | None
    """Until then, in milliseconds since 1970, the secret before it may be used as well; None: it is gone."""


class Peers:
    """Changes reach every node of the LAN and take effect there, without a restart."""

    def __init__(self, database: Door) -> None:
        self._database = database

    def add_cloud_peer(
        self,
        node_id: str,
        address: str,
        *,
        authority: str,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] = ("entgldb:sync",),
        audience: str = "",
        ca_pem: str = "",
        token_endpoint: str = "",
        auth_method: str = "",
        enabled: bool = True,
        max_rate: int = 0,
    ) -> bool:
        """Add a cloud peer, which the gateway dials; False when an equal one is there already.

        ``client_secret`` is ``env:NAME``, ``file:PATH`` (read on the gateway) or the secret itself, which
        is sealed for the cluster. ``auth_method`` is ``client_secret_post``, ``client_secret_basic`` or
        ``private_key_jwt``; with the last each node signs with a key of its own, which ``entgldb client-key``
        makes, and no secret is needed. ``max_rate`` is how many bytes a second it is sent at most; 0: no
        limit. Raises InvalidError naming a bad field, EntglError
        ``already-exists``.
        """
        return self._put(
            add=True,
            node_id=node_id,
            type=int(PeerType.CLOUD_REMOTE),
            address=address,
            authority=authority,
            client_id=client_id,
            secret=client_secret or None,
            scopes=tuple(scopes),
            audience=audience or None,
            ca_pem=ca_pem or None,
            token_endpoint=token_endpoint or None,
            auth_method=auth_method or None,
            enabled=enabled,
            max_rate=max_rate,
        )

    def add_static_peer(self, node_id: str, address: str, *, enabled: bool = True) -> bool:
        """Add a LAN peer by address, which every node dials; False when it is there already."""
        kind = int(PeerType.STATIC_REMOTE)
        return self._put(add=True, node_id=node_id, type=kind, address=address, enabled=enabled)

    def update_remote_peer(self, node_id: str, **fields: Any) -> bool:
        """Change the given fields (those of ``add_cloud_peer``); False when nothing differs.

        Another authority, client id or CA needs ``client_secret`` anew. Raises NotFoundError, InvalidError.
        """
        unknown = sorted(set(fields) - set(UPDATABLE))
        if unknown:
            raise InvalidError(
                f"{unknown[0]} is no field of a remote peer", hint=f"use {', '.join(UPDATABLE)}"
            )
        if "client_secret" in fields:
            fields["secret"] = fields.pop("client_secret")
        if fields.get("scopes") is not None:
            fields["scopes"] = tuple(fields["scopes"])
        return self._put(add=False, node_id=node_id, **fields)

    def rotate_secret(self, node_id: str, client_secret: str, *, overlap: float = OVERLAP_SECONDS) -> bool:
        """Give the client of a cloud peer another secret; the one before counts beside it for ``overlap`` s.

        The gateway asks the authority with the new one, and with the one before as long as the new one is
        refused. The one before goes from the list once the authority has taken the new one twice, a minute
        apart, or when its time is over. The link stays. ``client_secret`` as in ``add_cloud_peer``. Raises
        NotFoundError, InvalidError.
        """
        request = self._database.next_request()
        answer = self._database.request(
            RotateSecret(request, node_id, client_secret, max(0, int(overlap * 1000)))
        )
        return isinstance(answer, CommitDone) and answer.lsn > 0

    def secrets(self) -> list[SecretRow]:
        """How the secret of each cloud peer stands, by node id; no secret is in it."""
        out = len(self._database.documents.expelled())
        found = [(peer.node_id, peer.oauth2) for peer in self.get_all_remote_peers()]
        return [
            SecretRow(
                node_id,
                oauth2.client_secret.startswith(SEALED),
                oauth2.is_known_outside(out),
                oauth2.previous_until if oauth2.previous_secret else None,
            )
            for node_id, oauth2 in found
            if oauth2 is not None
        ]

    def enable_peer(self, node_id: str) -> bool:
        """Let the peer be dialled again; False when it is enabled already. Raises NotFoundError."""
        return self._put(add=False, node_id=node_id, enabled=True)

    def disable_peer(self, node_id: str) -> bool:
        """Have its link closed until it is enabled; False when it is disabled already."""
        return self._put(add=False, node_id=node_id, enabled=False)

    def remove_remote_peer(self, node_id: str) -> None:
        """Remove the peer for good. Raises NotFoundError."""
        self._database.request(RemovePeer(self._database.next_request(), node_id))

    def get_remote_peer(self, node_id: str) -> RemotePeer:
        """One peer. Raises NotFoundError."""
        for peer in self.get_all_remote_peers():
            if peer.node_id == node_id:
                return peer
        raise NotFoundError(f"no remote peer {node_id}", hint="entgldb list-peers")

    def get_all_remote_peers(self) -> list[RemotePeer]:
        """All peers this node knows of, by node id; secrets are references or sealed."""
        return self._database.documents.peers()

    def test_peer(self, node_id: str) -> list[dict[str, Json]]:
        """Try a cloud peer from here: DNS, TLS, token, hello, clock, each ``{"name", "ok", "ms", ...}``."""
        self.get_remote_peer(node_id)
        answer = self._database.ask("gateway", TestPeer(node_id), timeout=TEST_PEER_SECONDS)
        if not isinstance(answer, Report):
            raise EntglError(f"the gateway answered {answer} to a test")
        steps: list[dict[str, Json]] = answer.body["steps"]
        return steps

    def _put(self, **fields: Any) -> bool:
        answer = self._database.request(PutPeer(self._database.next_request(), **fields))
        return isinstance(answer, CommitDone) and answer.lsn > 0
