"""The documents of ``_system_remote_peers``: strict in what we write, lenient in what we read.

The five fields NodeId, Address, Type, OAuth2Json, IsEnabled and their PascalCase are the format of
EntglDB's remote peer configuration; unknown fields are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final

from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import (
    DRIFT_MS_MAX,
    PEER_RATE_MAX,
    PEER_RATE_MIN,
    PEM_BYTES_MAX,
    SECRET_OVERLAP_MS_MAX,
)
from entgldb.messages.model import check_node_id
from entgldb.messages.schema import Json
from entgldb.messages.strict_json import read_json

PRIVATE_KEY_JWT: Final = "private_key_jwt"
AUTH_METHODS: Final = ("client_secret_post", "client_secret_basic", PRIVATE_KEY_JWT)
"""How a client shows who it is at a token endpoint (RFC 7591, 2; RFC 7523, 2.2)."""
SEALED: Final = "sealed:v1:"
"""How a secret begins that is sealed for the members of one cluster."""
CLIENT_KEY_NAME: Final = "client-key.pem"
"""The file in a node's directory with its own private key as a client, where no other is named."""


class PeerType(IntEnum):
    """The kind of a remote peer; it decides which nodes dial the peer."""

    LAN_DISCOVERED = 0
    STATIC_REMOTE = 1
    """A LAN peer with a cluster certificate, dialled by every node."""
    CLOUD_REMOTE = 2
    """Dialled by the gateway alone, with OAuth2."""


@dataclass(frozen=True, slots=True)
class OAuth2:
    """How to get a token for a cloud peer. ``client_secret`` is a reference or sealed, never in clear."""

    authority: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    audience: str = ""
    ca_pem: str = field(default="", repr=False)
    token_endpoint: str = ""
    auth_method: str = ""
    """One of AUTH_METHODS. Empty: by secret, in the way that the server's metadata names.

    With ``private_key_jwt`` ``client_secret`` refers to a private key that every node has of its own: no
    secret is replicated.
    """
    expelled_before: int = 0
    """How many nodes had been expelled when the secret was given. A sealed one is known to those that were
    since: their number only grows."""
    previous_secret: str = field(default="", repr=False)
    """The secret before it, which counts beside it while the peer changes over; empty: there is none."""
    previous_until: int = 0
    """Until then, in milliseconds since 1970."""

    @property
    def settled(self) -> OAuth2:
        """The same with the one secret that is to stay."""
        return replace(self, previous_secret="", previous_until=0)

    @property
    def before(self) -> OAuth2:
        """The same with the secret before it alone."""
        return replace(self.settled, client_secret=self.previous_secret)

    def overlaps(self, now_ms: int) -> bool:
        """Whether the secret before it counts, too: no longer than anybody may set, whatever is written."""
        latest = now_ms + SECRET_OVERLAP_MS_MAX + DRIFT_MS_MAX
        return bool(self.previous_secret) and now_ms < self.previous_until <= latest

    def is_over(self, now_ms: int) -> bool:
        """Whether the time of the secret before it has passed. A clock that is far behind does not say so."""
        return bool(self.previous_secret) and now_ms >= self.previous_until

    def is_known_outside(self, expelled: int) -> bool:
        """Whether a node that was expelled knows the present secret; ``expelled``: how many have been."""
        return self.client_secret.startswith(SEALED) and expelled > self.expelled_before


@dataclass(frozen=True, slots=True)
class RemotePeer:
    """One remote peer. ``extra`` keeps fields a later release may have added."""

    node_id: str
    address: str
    type: PeerType
    oauth2: OAuth2 | None
    enabled: bool
    max_rate: int = 0
    """Bytes a second at most that a gateway sends to a cloud peer; 0: no limit."""
    extra: tuple[tuple[str, Json], ...] = ()

    def to_document(self) -> dict[str, Json]:
        """The document as it is stored and replicated."""
        return {
            "NodeId": self.node_id,
            "Address": self.address,
            "Type": int(self.type),
            "OAuth2Json": None if self.oauth2 is None else _oauth2_json(self.oauth2),
            "IsEnabled": self.enabled,
            **({"MaxBytesPerSecond": self.max_rate} if self.max_rate else {}),
            **(_previous_json(self.oauth2) if self.oauth2 and self.oauth2.previous_secret else {}),
            **dict(self.extra),
        }

    def with_secret(self, secret: str) -> RemotePeer:
        """The same peer with another (sealed or referenced) secret."""
        if self.oauth2 is None:
            raise InvalidError(f"peer {self.node_id} has no OAuth2 settings to put a secret in")
        return replace(self, oauth2=replace(self.oauth2, client_secret=secret))


_ADDRESS = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]{1,15})?\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?):(?P<port>\d{1,5})"
)
_FIELDS = {"NodeId", "Address", "Type", "OAuth2Json", "IsEnabled", "MaxBytesPerSecond", "PreviousSecret"}
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+|sealed:v1:[A-Za-z0-9:_=+/-]+")


ADDRESS_CHARS_MAX: Final = 253 + len(":65535")
"""A name in DNS has 253 characters."""


def split_address(address: str, name: str = "Address") -> tuple[str, int]:
    """``host:port`` taken apart, or InvalidError naming the field."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise InvalidError(f"{name} {address!r:.80} is not host:port", hint="such as remote.example.com:9000")
    return match["host"].strip("[]"), int(match["port"])


def is_address(text: str) -> bool:
    """Whether ``split_address`` takes a text, and it is no longer than a name in DNS makes it."""
    try:
        split_address(text)
    except InvalidError:
        return False
    return len(text) <= ADDRESS_CHARS_MAX


def join_address(host: str, port: int) -> str:
    """A host and a port as one text, which ``split_address`` takes apart.

    >>> join_address("fd00::1", 9000)
    '[fd00::1]:9000'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_reference(secret: str) -> bool:
    """Whether a secret is ``env:NAME``, ``file:PATH`` or ``sealed:v1:...``, and so may be stored."""
    return _REFERENCE.fullmatch(secret) is not None


def check_authority(url: str, name: str = "authority") -> str:
    """https, or http to this very machine; InvalidError otherwise."""
    if re.fullmatch(r"https://[^\s/?#]+(/[^\s?#]*)?", url):
        return url
    if re.fullmatch(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?(/[^\s?#]*)?", url):
        return url
    raise InvalidError(f"{name} {url!r:.200} is not an https URL", hint="http is accepted on loopback only")


def check_peer(peer: RemotePeer) -> RemotePeer:
    """Give ``peer`` back, or raise InvalidError naming the first bad field."""
    check_node_id(peer.node_id, "NodeId")
    split_address(peer.address)
    if peer.max_rate and not PEER_RATE_MIN <= peer.max_rate <= PEER_RATE_MAX:
        raise InvalidError(f"MaxBytesPerSecond is 0, for no limit, or {PEER_RATE_MIN} to {PEER_RATE_MAX}")
    if peer.max_rate and peer.type is not PeerType.CLOUD_REMOTE:
        raise InvalidError(f"{peer.node_id} is no cloud peer: links of a LAN have no limit")
    if peer.type is PeerType.CLOUD_REMOTE:
        if peer.oauth2 is None:
            raise InvalidError(
                f"cloud peer {peer.node_id} lacks OAuth2 settings", hint="give an authority and a client id"
            )
        check_oauth2(peer.oauth2)
    return peer


def check_oauth2(oauth2: OAuth2) -> OAuth2:
    """Give ``oauth2`` back, or raise InvalidError naming the first bad field."""
    check_authority(oauth2.authority)
    if oauth2.token_endpoint:
        check_authority(oauth2.token_endpoint, "tokenEndpoint")
    if not oauth2.client_id or len(oauth2.client_id) > 256:
        raise InvalidError("clientId is missing or longer than 256 characters")
    if oauth2.auth_method not in ("", *AUTH_METHODS):
        raise InvalidError(f"tokenEndpointAuthMethod is none of {', '.join(AUTH_METHODS)}")
    by_key = oauth2.auth_method == PRIVATE_KEY_JWT
    if by_key and oauth2.client_secret and not oauth2.client_secret.startswith(("env:", "file:")):
        raise InvalidError(
            "with private_key_jwt clientSecret is file:PATH or env:NAME, or left out",
            hint="the key stays on its node: entgldb client-key",
        )
    if oauth2.client_secret and not is_reference(oauth2.client_secret):
        raise InvalidError("clientSecret must be env:NAME, file:PATH or sealed before it is stored")
    if len(oauth2.ca_pem) > PEM_BYTES_MAX:
        raise InvalidError(f"caPem is longer than {PEM_BYTES_MAX} bytes")
    if any(not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) for scope in oauth2.scopes):
        raise InvalidError("scopes: a scope is printable ASCII without space, quote or backslash")
    return oauth2


def read_peer(document: Mapping[str, Json]) -> RemotePeer:
    """A stored document as a RemotePeer; InvalidError when it cannot be one."""
    try:
        raw = document.get("OAuth2Json")
        peer = RemotePeer(
            node_id=_text(document["NodeId"]),
            address=_text(document["Address"]),
            type=PeerType(document["Type"]),
            oauth2=None if raw in (None, "") else _read_both(raw, document.get("PreviousSecret")),
            enabled=document["IsEnabled"] is True,
            max_rate=int(document.get("MaxBytesPerSecond") or 0),
            extra=tuple((k, v) for k, v in document.items() if k not in _FIELDS),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as fault:
        raise InvalidError(
            f"a remote peer document is malformed: {type(fault).__name__} {fault!s:.80}"
        ) from None
    return check_peer(peer)


def _read_both(raw: Json, previous: Json) -> OAuth2:
    oauth2 = read_oauth2(read_json(_text(raw), "OAuth2Json"))
    secret, until = (
        (previous.get("Secret"), previous.get("Until")) if isinstance(previous, Mapping) else ("", 0)
    )
    # its fields merge, too: one alone is none
    if not isinstance(secret, str) or not is_reference(secret) or not isinstance(until, int):
        return oauth2
    return replace(oauth2, previous_secret=secret, previous_until=until)


def _previous_json(oauth2: OAuth2) -> dict[str, Json]:
    """A field of its own, as fields merge: who takes it away takes no newer secret away."""
    return {"PreviousSecret": {"Secret": oauth2.previous_secret, "Until": oauth2.previous_until}}


def read_oauth2(settings: Mapping[str, Json]) -> OAuth2:
    """OAuth2Json, in camelCase or PascalCase."""
    flat: dict[str, Any] = {key[:1].lower() + key[1:]: value for key, value in settings.items()}
    return OAuth2(
        authority=_text(flat.get("authority", "")),
        client_id=_text(flat.get("clientId", "")),
        client_secret=_text(flat.get("clientSecret") or ""),
        scopes=tuple(_text(scope) for scope in flat.get("scopes") or ()),
        audience=_text(flat.get("audience") or ""),
        ca_pem=_text(flat.get("caPem") or ""),
        token_endpoint=_text(flat.get("tokenEndpoint") or ""),
        auth_method=_text(flat.get("tokenEndpointAuthMethod") or ""),
        expelled_before=int(flat.get("expelledBefore") or 0),
    )


def _oauth2_json(oauth2: OAuth2) -> str:
    settings: dict[str, Json] = {
        "authority": oauth2.authority,
        "clientId": oauth2.client_id,
        "clientSecret": oauth2.client_secret,
        "scopes": list(oauth2.scopes),
        "audience": oauth2.audience or None,
        "caPem": oauth2.ca_pem or None,
        "tokenEndpoint": oauth2.token_endpoint or None,
        "tokenEndpointAuthMethod": oauth2.auth_method or None,
        "expelledBefore": oauth2.expelled_before or None,
    }
    return json.dumps({k: v for k, v in settings.items() if v is not None}, ensure_ascii=False)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, {type(value).__name__} found")
    return value
