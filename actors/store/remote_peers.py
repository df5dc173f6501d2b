"""Changes to ``_system_remote_peers``: from a request to the document that will replicate. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from entgldb.actors.ports import Secrets
from entgldb.messages.administration import RotateSecret
from entgldb.messages.client import PutPeer
from entgldb.messages.errors import ExistsError, InvalidError, NotFoundError
from entgldb.messages.limits import SECRET_OVERLAP_MS_MAX
from entgldb.messages.remote_peers import (
    PRIVATE_KEY_JWT,
    SEALED,
    OAuth2,
    PeerType,
    RemotePeer,
    check_oauth2,
    check_peer,
    is_reference,
    read_peer,
)


def added(request: PutPeer, stored: bytes | None, secrets: Secrets, out: int) -> RemotePeer | None:
    """The peer that ``request`` adds; None where an equal one is there already.

    ``out``, here and below: how many nodes have been expelled.
    """
    if request.address is None:
        raise InvalidError("Address is missing")
    kind = PeerType.CLOUD_REMOTE if request.type is None else _kind(request.type)
    oauth2 = None
    if kind is PeerType.CLOUD_REMOTE:
        for field, value in (("authority", request.authority), ("client_id", request.client_id)):
            if not value:
                raise InvalidError(f"{field} is missing for cloud peer {request.node_id}")
        oauth2 = _settings(request, OAuth2("", ""))
    peer = RemotePeer(
        request.node_id, request.address, kind, oauth2, request.enabled is not False, request.max_rate or 0
    )
    if stored is not None and _same(read_peer(json.loads(stored)), peer, request.secret, secrets):
        return None
    if stored is not None:
        raise ExistsError(
            f"remote peer {request.node_id} exists with other content",
            hint=f"entgldb update-peer {request.node_id} ...",
        )
    return check_peer(_sealed(peer, request.secret, secrets, out))


def updated(request: PutPeer, stored: bytes | None, secrets: Secrets, out: int) -> RemotePeer | None:
    """The peer after the given fields were changed; None where nothing differs."""
    if stored is None:
        raise NotFoundError(f"no remote peer {request.node_id}", hint="entgldb list-peers")
    old = read_peer(json.loads(stored))
    peer = replace(
        old,
        address=old.address if request.address is None else request.address,
        type=old.type if request.type is None else _kind(request.type),
        enabled=old.enabled if request.enabled is None else request.enabled,
        max_rate=old.max_rate if request.max_rate is None else request.max_rate,
    )
    if old.oauth2 is not None or request.authority is not None or request.client_id is not None:
        peer = replace(peer, oauth2=_settings(request, old.oauth2 or OAuth2("", "")))
    _refuse_moved_secret(old, peer, request)
    if request.secret and peer.oauth2 is not None:
        peer = replace(peer, oauth2=peer.oauth2.settled)
    peer = check_peer(_sealed(peer, request.secret, secrets, out))
    return None if peer == old else peer


def rotated(
    request: RotateSecret, stored: bytes | None, secrets: Secrets, out: int, now_ms: int
) -> RemotePeer:
    """The peer with another secret, beside which the one before it counts for a time.

    A third one takes the place of the second: the first is the one that is known to have been good.
    """
    if stored is None:
        raise NotFoundError(f"no remote peer {request.node_id}", hint="entgldb list-peers")
    old = read_peer(json.loads(stored))
    if old.oauth2 is None:
        raise InvalidError(f"{old.node_id} has no OAuth2 settings: no secret is used with it")
    if old.oauth2.auth_method == PRIVATE_KEY_JWT:
        raise InvalidError(
            f"the key of {old.node_id} stays on each node: there is no secret", hint="entgldb client-key"
        )
    if not request.secret or not old.oauth2.client_secret:
        raise InvalidError("a client secret is missing", hint=f"entgldb update-peer {old.node_id}")
    if not 0 < request.overlap_ms <= SECRET_OVERLAP_MS_MAX:
        raise InvalidError(
            f"an overlap is 1 ms to {SECRET_OVERLAP_MS_MAX} ms",
            hint=f"without one: entgldb update-peer {old.node_id} --client-secret-stdin",
        )
    if secrets.matches(old.node_id, old.oauth2, request.secret):
        raise InvalidError(f"{old.node_id} has this secret already")
    before = old.oauth2.previous_secret if old.oauth2.overlaps(now_ms) else old.oauth2.client_secret
    oauth2 = replace(old.oauth2, previous_secret=before, previous_until=now_ms + request.overlap_ms)
    return check_peer(_sealed(replace(old, oauth2=oauth2), request.secret, secrets, out))


def settled(stored: bytes | None, secret: str, now_ms: int) -> RemotePeer | None:
    """The peer without the secret before the present one; None where it has none or is to keep it.

    ``secret``: the one that was taken, as it stands in the document; empty: the time of the other is over.
    """
    peer = None if stored is None else read_peer(json.loads(stored))
    if peer is None or peer.oauth2 is None or not peer.oauth2.previous_secret:
        return None
    stays = secret != peer.oauth2.client_secret if secret else not peer.oauth2.is_over(now_ms)
    return None if stays else replace(peer, oauth2=peer.oauth2.settled)


def document(peer: RemotePeer) -> bytes:
    """The body as it is stored."""
    return json.dumps(peer.to_document(), ensure_ascii=False, separators=(",", ":")).encode()


def initial(fields: dict[str, Any], request: PutPeer, secrets: Secrets, out: int) -> RemotePeer:
    """A peer of ``InitialRemotePeers``, given as PutPeer fields."""
    made = added(replace(request, **fields), None, secrets, out)
    if made is None:
        raise InvalidError("an initial peer cannot be equal to nothing")
    return made


def _settings(request: PutPeer, old: OAuth2) -> OAuth2:
    given = {
        "authority": request.authority,
        "client_id": request.client_id,
        "scopes": request.scopes,
        "audience": request.audience,
        "ca_pem": request.ca_pem,
        "token_endpoint": request.token_endpoint,
        "auth_method": request.auth_method,
    }
    if request.auth_method == PRIVATE_KEY_JWT:
        # a sealed secret is of no use any more, and is not kept
        kept = "" if old.client_secret.startswith(SEALED) else old.client_secret
        old = replace(old.settled, client_secret=kept)
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(old, **changes)


def _refuse_moved_secret(old: RemotePeer, new: RemotePeer, request: PutPeer) -> None:
    """Otherwise whoever may edit a peer could have its secret posted to a server of their own."""
    if old.oauth2 is None or new.oauth2 is None or request.secret is not None or not old.oauth2.client_secret:
        return
    for field in ("authority", "client_id", "token_endpoint", "ca_pem"):
        if getattr(old.oauth2, field) != getattr(new.oauth2, field):
            raise InvalidError(
                f"changing {field} of {old.node_id} needs the client secret anew",
                hint="give it again with --client-secret or --client-secret-stdin",
            )


def _sealed(peer: RemotePeer, secret: str | None, secrets: Secrets, out: int) -> RemotePeer:
    if not secret or peer.oauth2 is None:
        return peer
    check_oauth2(replace(peer.oauth2, client_secret=""))
    if secret.startswith(("env:", "file:")):
        if not is_reference(secret):
            raise InvalidError("client secret: env:NAME or file:PATH expected after the prefix")
        return peer.with_secret(secret)
    if peer.oauth2.auth_method == PRIVATE_KEY_JWT:
        raise InvalidError(
            "with private_key_jwt the key stays on its node: give file:PATH or env:NAME, or nothing",
            hint="entgldb client-key",
        )
    sealed = secrets.seal(peer.node_id, peer.oauth2, secret)
    return replace(peer, oauth2=replace(peer.oauth2, client_secret=sealed, expelled_before=out))


def _same(old: RemotePeer, new: RemotePeer, secret: str | None, secrets: Secrets) -> bool:
    if old.oauth2 is None or new.oauth2 is None:
        return old == new
    plain = replace(old.oauth2.settled, expelled_before=0)
    if new.with_secret(plain.client_secret) != replace(old, extra=(), oauth2=plain):
        return False
    return secrets.matches(old.node_id, old.oauth2, secret or "")


def _kind(value: int) -> PeerType:
    try:
        return PeerType(value)
    except ValueError:
        raise InvalidError(f"Type {value} is none of 0, 1, 2") from None
