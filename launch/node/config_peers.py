"""``InitialRemotePeers``: the seed's block, in camelCase or PascalCase, as PutPeer fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from entgldb.launch.node.config_fields import Faults
from entgldb.messages.errors import EntglError
from entgldb.messages.limits import PEER_RATE_MAX, PEER_RATE_MIN, PEM_BYTES_MAX
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import OAuth2, PeerType, check_oauth2, split_address

_TYPES: Final = {
    "landiscovered": PeerType.LAN_DISCOVERED,
    "staticremote": PeerType.STATIC_REMOTE,
    "cloudremote": PeerType.CLOUD_REMOTE,
}
_PEER_KEYS: Final = {"nodeid", "address", "type", "oauth2", "isenabled", "maxbytespersecond"}
_OAUTH2_NAMES: Final = {
    "authority": "authority",
    "clientId": "client_id",
    "clientSecret": "secret",
    "scopes": "scopes",
    "audience": "audience",
    "caPem": "ca_pem",
    "caFile": "ca_file",
    "tokenEndpoint": "token_endpoint",
    "tokenEndpointAuthMethod": "auth_method",
}
_OAUTH2_KEYS: Final = {name.lower(): name for name in _OAUTH2_NAMES}


def initial_peers(entries: Any, place: str, folder: Path, faults: Faults) -> list[dict[str, Any]]:
    """Every entry as PutPeer fields; their errors go to ``faults``.

    A ``caFile`` is read here, relative to ``folder``, because only its content may replicate.
    """
    if not isinstance(entries, list):
        faults.add(place, "a list is expected")
        return []
    made = [_peer(entry, f"{place}[{i}]", folder, faults) for i, entry in enumerate(entries)]
    seen: set[str] = set()
    for i, peer in enumerate(made):
        if peer and peer["node_id"] in seen:
            faults.add(f"{place}[{i}].nodeId", f"{peer['node_id']} is named twice")
        seen.add(peer.get("node_id", ""))
    return [peer for peer in made if peer]


def _peer(entry: Any, place: str, folder: Path, faults: Faults) -> dict[str, Any]:
    if not isinstance(entry, dict):
        faults.add(place, "an object is expected")
        return {}
    flat = _flat(entry, _PEER_KEYS, place, faults)
    kind = _kind(flat.get("type", "CloudRemote"), place, faults)
    peer: dict[str, Any] = {
        "node_id": _text(flat, "nodeid", place, "nodeId", faults),
        "address": _text(flat, "address", place, "address", faults),
        "type": int(kind),
        "enabled": flat.get("isenabled", True),
    }
    rate = flat.get("maxbytespersecond", 0)
    if type(rate) is not int or (rate and not PEER_RATE_MIN <= rate <= PEER_RATE_MAX):
        faults.add(f"{place}.maxBytesPerSecond", f"0, or {PEER_RATE_MIN} to {PEER_RATE_MAX} is expected")
    elif rate:
        peer["max_rate"] = rate
    if not isinstance(peer["enabled"], bool):
        faults.add(f"{place}.isEnabled", "true or false is expected")
    _check(lambda: check_node_id(peer["node_id"], "nodeId"), f"{place}.nodeId", peer["node_id"], faults)
    _check(lambda: split_address(peer["address"]), f"{place}.address", peer["address"], faults)
    if kind is PeerType.CLOUD_REMOTE:
        peer |= _oauth2(flat.get("oauth2"), f"{place}.oAuth2", folder, faults)
    return peer


def _oauth2(settings: Any, place: str, folder: Path, faults: Faults) -> dict[str, Any]:
    if not isinstance(settings, dict):
        faults.add(place, "is missing; a cloud peer needs authority and clientId")
        return {}
    flat = _flat(settings, set(_OAUTH2_KEYS), place, faults)
    scopes = flat.pop("scopes", None)
    if scopes is not None and not (isinstance(scopes, list) and all(isinstance(s, str) for s in scopes)):
        faults.add(f"{place}.scopes", "a list of texts is expected")
        scopes = None
    names = {key: _OAUTH2_KEYS[key] for key in flat}
    made = {_OAUTH2_NAMES[name]: _text(flat, key, place, name, faults) for key, name in names.items()}
    for key, name in (("authority", "authority"), ("client_id", "clientId")):
        if not made.get(key):
            faults.add(f"{place}.{name}", "is missing")
    ca_file = made.pop("ca_file", "")
    if ca_file:
        made["ca_pem"] = read_ca_file(folder / ca_file, f"{place}.caFile", faults)
    if made.get("authority") and made.get("client_id"):
        oauth2 = OAuth2(
            made["authority"],
            made["client_id"],
            scopes=tuple(scopes or ()),
            token_endpoint=made.get("token_endpoint", ""),
            auth_method=made.get("auth_method", ""),
        )
        _check(lambda: check_oauth2(oauth2), place, made["authority"], faults)
    return made if scopes is None else {**made, "scopes": scopes}


def read_ca_file(file: Path, place: str, faults: Faults) -> str:
    """A PEM file as text; a fault and an empty text when it is none."""
    try:
        text = file.read_bytes()[: PEM_BYTES_MAX + 1].decode("ascii")
    except (OSError, ValueError) as fault:
        faults.add(place, f"{file}: {fault}")
        return ""
    if "-----BEGIN CERTIFICATE-----" not in text or len(text) > PEM_BYTES_MAX:
        faults.add(place, f"{file} holds no PEM certificates of at most {PEM_BYTES_MAX} bytes")
        return ""
    return text


def _flat(entry: Mapping[str, Any], known: set[str], place: str, faults: Faults) -> dict[str, Any]:
    """Keys in lower case, as .NET configuration compares them; unknown ones are faults."""
    for key in entry:
        if key.lower() not in known:
            faults.add(f"{place}.{key}", "unknown setting")
    return {key.lower(): value for key, value in entry.items() if key.lower() in known}


def _kind(value: Any, place: str, faults: Faults) -> PeerType:
    if isinstance(value, str) and value.lower() in _TYPES:
        return _TYPES[value.lower()]
    if type(value) is int and value in (0, 1, 2):
        return PeerType(value)
    faults.add(f"{place}.type", f"{value!r:.40} is none of LanDiscovered, StaticRemote, CloudRemote")
    return PeerType.LAN_DISCOVERED


def _text(flat: Mapping[str, Any], key: str, place: str, name: str, faults: Faults) -> str:
    value = flat.get(key)
    if isinstance(value, str) and value:
        return value
    faults.add(f"{place}.{name}", "is missing" if value in (None, "") else "text is expected")
    return ""


def _check(check: Any, place: str, value: str, faults: Faults) -> None:
    """Run a check that names its own field; ``value`` empty means its absence is a fault already."""
    if not value:
        return
    try:
        check()
    except EntglError as fault:
        faults.add(place, fault.text)
