"""Changes to ``_system_remote_peers``: from a request to the document that will replicate. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from entgldb.actors.ports import Secrets
from entgldb.messages.client import PutPeer
from entgldb.messages.errors import ExistsError, InvalidError, NotFoundError
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


def added(request: PutPeer, stored: bytes | None, secrets: Secrets) -> RemotePeer | None:
    """The peer that ``request`` adds; None where an equal one is there already."""
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
    return check_peer(_sealed(peer, request.secret, secrets))


def updated(request: PutPeer, stored: bytes | None, secrets: Secrets) -> RemotePeer | None:
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
    peer = check_peer(_sealed(peer, request.secret, secrets))
    return None if peer == old else peer


def document(peer: RemotePeer) -> bytes:
    """The body as it is stored."""
    return json.dumps(peer.to_document(), ensure_ascii=False, separators=(",", ":")).encode()


def initial(fields: dict[str, Any], request: PutPeer, secrets: Secrets) -> RemotePeer:
    """A peer of ``InitialRemotePeers``, given as PutPeer fields."""
    made = added(replace(request, **fields), None, secrets)
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
    if request.auth_method == PRIVATE_KEY_JWT and old.client_secret.startswith(SEALED):
        # a sealed secret is of no use any more, and is not kept
        old = replace(old, client_secret="")
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


def _sealed(peer: RemotePeer, secret: str | None, secrets: Secrets) -> RemotePeer:
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
    return peer.with_secret(secrets.seal(peer.node_id, peer.oauth2, secret))


def _same(old: RemotePeer, new: RemotePeer, secret: str | None, secrets: Secrets) -> bool:
    if old.oauth2 is None or new.oauth2 is None:
        return old == new
    if new.with_secret(old.oauth2.client_secret) != replace(old, extra=()):
        return False
    return secrets.matches(old.node_id, old.oauth2, secret or "")


def _kind(value: int) -> PeerType:
    try:
        return PeerType(value)
    except ValueError:
        raise InvalidError(f"Type {value} is none of 0, 1, 2") from None
