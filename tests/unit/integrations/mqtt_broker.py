"""A real MQTT 5 broker on loopback, and a client of it that is not ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from iotcore import Broker
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from entgldb.launch.node.init import pick_port

CONFIG = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 4000000
max_inflight_count = 100
"""
PATIENCE = 30.0


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of rumqttd, in a process that ends with the block."""
    port = pick_port("127.0.0.1")
    config = folder / "broker.toml"
    config.write_text(CONFIG.format(port=port))
    with Broker(config_path=str(config)):
        yield port


class Device:
    """Somebody else's client. ``heard``: topic, payload, and whether the broker had kept it."""

    def __init__(self, port: int, *topics: str) -> None:
        self.heard = SimpleQueue[tuple[str, bytes, bool]]()
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = lambda *told: self.heard.put(
            (told[2].topic, bytes(told[2].payload), told[2].retain)
        )
        self._client.on_subscribe = lambda *told: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        for topic in topics:
            subscribed.clear()
            self._client.subscribe(topic, qos=1)
            assert subscribed.wait(PATIENCE)

    def says(self, topic: str, payload: bytes, cluster: str = "", *, retain: bool = False) -> None:
        whose = Properties(PacketTypes.PUBLISH)
        if cluster:
            whose.UserProperty = ("entgldb-cluster", cluster)
        self._client.publish(topic, payload, 1, retain, whose).wait_for_publish(PATIENCE)

    def next(self) -> tuple[str, bytes]:
        return self.heard.get(timeout=PATIENCE)[:2]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
