"""The settings that a reload changes in a running node, and those that it only names."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from entgldb.actors.node import reloading
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    HttpSettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)

RUNNING = NodeSettings(
    StoreSettings("n1", "/d", "lan", "c1", "/d/cluster.key"),
    OplogSettings("n1", "/d"),
    SyncSettings("n1", "/d", "lan", "c1", "127.0.0.1:7700"),
    ElectionSettings("n1", "lan"),
    GatewaySettings("n1", "/d", "lan", "c1", "/d/cluster.key"),
    config_file="/d/entgldb.toml",
)
FROM_THE_PLACE = {"directory", "key_file", "config_file"}
"""Fields that no setting in the file changes."""
ALL_FIELDS = {
    field.name
    for kind in (NodeSettings, StoreSettings, OplogSettings, SyncSettings, ElectionSettings, GatewaySettings)
    for field in fields(kind)
}


def test_the_same_file_changes_nothing() -> None:
    assert reloading.merge(RUNNING, RUNNING) == (RUNNING, [], [])


def test_what_can_change_does_and_is_named() -> None:
    read = replace(
        RUNNING,
        sync=replace(RUNNING.sync, seeds=("b:7700",), sync_interval=1.0, live_push=False),
        gateway=replace(RUNNING.gateway, sync_interval=1.0, live_push=False, backoff_max=5.0),
        election=replace(RUNNING.election, priority=7),
        log_level="DEBUG",
        initial_peers=({"node_id": "cloud-1"},),
    )
    settings, changed, restart_needed = reloading.merge(RUNNING, read)
    assert settings == read
    assert changed == [
        "InitialRemotePeers",
        "election.priority",
        "gateway.backoff_max",
        "network.seeds",
        "node.log_level",
        "sync.interval",
        "sync.live_push",
    ]
    assert restart_needed == []


def test_what_cannot_change_stays_as_it_runs_and_is_named() -> None:
    sync = replace(RUNNING.sync, node_id="n2", listen="127.0.0.1:7701", discovery=False, audience="other")
    read = replace(
        RUNNING, sync=replace(sync, heartbeat_interval=0.5), store=replace(RUNNING.store, node_id="n2")
    )
    settings, changed, restart_needed = reloading.merge(RUNNING, read)
    assert settings == replace(RUNNING, sync=replace(RUNNING.sync, heartbeat_interval=0.5))
    assert changed == ["sync.heartbeat_interval"]
    assert restart_needed == ["cloud.audience", "network.discovery", "network.listen", "node.id"]


@pytest.mark.parametrize("name", sorted(ALL_FIELDS))
def test_every_setting_is_of_one_kind(name: str) -> None:
    kinds = (reloading.SLICES, reloading.LIVE, reloading.FIXED, FROM_THE_PLACE)
    assert sum(name in kind for kind in kinds) == 1


def test_the_http_server_stays_as_it_was_begun() -> None:
    settings, changed, restart_needed = reloading.merge(
        RUNNING, replace(RUNNING, http=HttpSettings("127.0.0.1:80"))
    )
    assert (settings.http, changed, restart_needed) == (HttpSettings(), [], ["http"])
