"""A real node tells the supervisor that has started it how it is."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from entgldb.launch.node.child import end_with_parent, environment
from entgldb.launch.node.init import Plan, init

PATIENCE = 40.0
"""Seconds that a busy machine may take."""


FED = {"WATCHDOG": "1"}


def heard(place: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in place.recv(4096).decode().splitlines())


def news(place: socket.socket) -> dict[str, str]:
    """The next word that does not feed the watchdog: a slow machine may have been fed meanwhile."""
    while (word := heard(place)) == FED:
        pass
    return word


@pytest.mark.slow
def test_a_node_says_that_it_serves_and_how_it_goes_on(tmp_path: Path) -> None:
    directory = init(Plan(tmp_path / "n1", node_id="lan-1", host="127.0.0.1")).directory
    command = [sys.executable, "-m", "entgldb", "start", "--dir", str(directory)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as place:
        place.bind(str(tmp_path / "notify"))
        place.settimeout(PATIENCE)
        with subprocess.Popen(
            command,
            env={**environment(), "NOTIFY_SOCKET": str(tmp_path / "notify")},
            preexec_fn=end_with_parent,
        ) as node:
            first = heard(place)
            assert first["READY"] == "1"
            assert first["STATUS"].startswith("lan-1 serves, TLS port ")
            assert heard(place) == FED
            node.send_signal(signal.SIGHUP)
            assert news(place)["RELOADING"] == "1"
            assert news(place)["STATUS"] == "lan-1 serves, configuration read again"
            file = directory / "entgldb.toml"
            file.write_text(file.read_text() + "[nonsense]\n")
            node.send_signal(signal.SIGHUP)
            assert news(place)["RELOADING"] == "1"
            assert news(place)["STATUS"].startswith("the configuration is as before: ")
            node.send_signal(signal.SIGTERM)
            assert news(place)["STOPPING"] == "1"
            assert node.wait(PATIENCE) == 0
