"""Each cloud peer tried from this machine, step by step: by the node where one runs, else by this process."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from entgldb.actors.gateway.probe import run_probe
from entgldb.actors.oauth.client import Token, fetch_token
from entgldb.actors.oauth.secrets import KeyedSecrets
from entgldb.actors.ports import CloudTarget
from entgldb.client.database import Database
from entgldb.client.health.finding import Finding, Look
from entgldb.launch.doctor.outside import Place
from entgldb.messages.errors import ConfigError, EntglError, Reason
from entgldb.messages.remote_peers import OAuth2, PeerType, RemotePeer

PEERS_TRIED_MAX: Final = 32
"""Cloud peers that are tried; more are only listed."""
CODES: Final = {
    "dns": "cloud-name",
    "tcp": "cloud-connection",
    "tls": "cloud-certificate",
    "token": "cloud-token",
    "hello": "cloud-refused",
    "clock": "cloud-clock",
}
"""Step of a trial -> the finding where it fails, but for an authority that is not there."""


def look(place: Place) -> Look:
    """Every enabled cloud peer; a step that fails is a finding, one that was not tried for that is none."""
    if isinstance(place.settings, ConfigError) or place.settings.sync.role == "cloud":
        return Look({}, [])
    peers: dict[str, Any] = {}
    found: list[Finding] = []
    try:
        with Database(place.directory) as db:
            known = [peer for peer in db.peers.get_all_remote_peers() if peer.type is PeerType.CLOUD_REMOTE]
            for peer in known:
                if not peer.enabled:
                    found.append(Finding("cloud", "disabled", peer.node_id, f"{peer.node_id} is disabled"))
                    continue
                if len(peers) == PEERS_TRIED_MAX:
                    break
                steps = _steps(place, db, peer)
                peers[peer.node_id] = {"address": peer.address, "steps": steps}
                found += judged(peer.node_id, steps)
    except EntglError as fault:
        found.append(Finding("cloud", "not-tried", "", f"the list of remote peers: {fault.text}"))
    return Look({"peers": peers}, found)


def judged(node_id: str, steps: list[Any]) -> list[Finding]:
    """The steps that failed of themselves, each with its time."""
    return [
        Finding(
            "cloud",
            "cloud-authority"
            if step["detail"].startswith(Reason.AUTHORITY_UNREACHABLE)
            else CODES[step["name"]],
            node_id,
            f"{node_id}, {step['name']} after {step['ms']} ms: {step['detail']}",
        )
        for step in steps
        if not step["ok"] and not step["detail"].startswith("not tried")
    ]


def _steps(place: Place, db: Database, peer: RemotePeer) -> list[Any]:
    if place.running and place.record:
        try:
            return db.peers.test_peer(peer.node_id)
        except EntglError as fault:
            return [
                {"name": "hello", "ok": False, "ms": 0, "detail": f"the node did not try it: {fault.text}"}
            ]
    assert not isinstance(place.settings, ConfigError)
    assert peer.oauth2 is not None, "a cloud peer has one"
    cluster, key_file = place.settings.gateway.cluster, place.settings.gateway.key_file
    secrets = KeyedSecrets(key_file, cluster)

    async def fetch(node_id: str, oauth2: OAuth2) -> Token:
        return await fetch_token(oauth2, secrets.resolve(node_id, oauth2))

    target = CloudTarget(peer.node_id, peer.address, peer.oauth2.ca_pem, cluster)
    return asyncio.run(run_probe(target, peer.oauth2, fetch))
