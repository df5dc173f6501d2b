"""The demo's last steps: the gateway killed, and everything stopped and started."""

from __future__ import annotations

import time
from pathlib import Path

from entgldb.launch.demo.peers import NOTES, listed
from entgldb.launch.demo.stage import Stage, check_secrets, digest, equal, linked, require
from entgldb.launch.node.config import FILE_NAME
from entgldb.launch.playground.processes import tree

MARKER = "initial-3"
"""A peer that only InitialRemotePeers names: when it is listed, the block has been applied."""


def gateway_killed(stage: Stage) -> str:
    """kill -9 of all processes of the gateway: another node leads and holds the link."""
    cloud, killed = stage.playground.clouds[-1], stage.gateway()
    pids = len(killed.pids())
    begun = time.monotonic()
    killed.kill()
    heir = stage.gateway()
    elected = time.monotonic() - begun
    linked(stage, cloud, heir)
    seconds = stage.figures.failover = time.monotonic() - begun
    heir.db[NOTES].put("after-the-kill", {"by": heir.node_id})
    left = [member for member in stage.playground.lan if member is not killed]
    equal([*left, cloud], only=NOTES)
    return (
        f"{pids} processes of {killed.node_id} killed; {heir.node_id} leads after {elected:.1f} s, "
        f"linked after {seconds:.1f} s"
    )


def restart_all(stage: Stage) -> str:
    """Nothing is lost, and what was removed stays removed although InitialRemotePeers names it."""
    playground = stage.playground
    old, new = playground.clouds
    wanted = digest(stage.gateway())
    pids = {pid for member in playground.members for pid in member.pids()}
    playground.stop()
    still = {pid for pid in pids if tree(pid)}
    require(not still, f"processes of stopped nodes live on: {still}")
    for member in playground.lan:
        _name_initial_peers(stage, member.directory / FILE_NAME)
    begun = time.monotonic()
    playground.start()
    linked(stage, new, stage.gateway())
    seconds = time.monotonic() - begun
    equal([*playground.lan, new])
    require(digest(playground.lan[0]) == wanted, "documents differ from those before the restart")
    listed(stage, {new.node_id: True, MARKER: False})
    linked(stage, old, None)
    files = check_secrets(stage)
    count = sum(playground.lan[0].db[name].count() for name in playground.lan[0].db.collections())
    return (
        f"{count} documents as before, {old.node_id} stays removed, secrets in none of {files} files; "
        f"all linked {seconds:.1f} s after start"
    )


def _name_initial_peers(stage: Stage, file: Path) -> None:
    """Add the peer that was removed, and one more, to a node's configuration."""
    playground = stage.playground
    removed = playground.clouds[0]
    oauth2 = (
        f'oAuth2 = {{ authority = "{playground.authority}", clientId = "{playground.client_id}", '
        'clientSecret = "env:ENTGLDB_DEMO_UNSET", scopes = ["entgldb:sync"] }\n'
    )
    with file.open("a") as target:
        for node_id, enabled in ((removed.node_id, "true"), (MARKER, "false")):
            target.write(
                "\n[[InitialRemotePeers]]\n"
                f'nodeId = "{node_id}"\naddress = "{removed.address}"\n'
                f'type = "CloudRemote"\nisEnabled = {enabled}\n{oauth2}'
            )
