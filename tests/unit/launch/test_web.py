"""How the launcher looks after the HTTP server: begun again with growing pauses; told where it stays down."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from entgldb.launch.node import web
from entgldb.launch.node.web import WebProcess, place_of
from entgldb.messages.errors import ConfigError, EntglError
from entgldb.messages.settings import (
    ElectionSettings,
    GatewaySettings,
    HttpSettings,
    NodeSettings,
    OplogSettings,
    StoreSettings,
    SyncSettings,
)
from entgldb.web.door.place import Place
from entgldb.web.door.tokens import Tokens
from tests.system.support.processes import until

BEATS = "import json,os,signal,sys; os.write(json.loads(sys.argv[1])['control'], b'.'); signal.pause()"
DIES = "raise SystemExit('config: it cannot')"
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
HERE = Place("127.0.0.1", 0)


class Server(WebProcess):
    """A server that is a few lines of Python, by a clock that the test sets."""

    def __init__(self, folder: Path, program: str) -> None:
        self.now = 1000.0
        self.lines: list[str] = []
        super().__init__(folder, HERE, self.lines.append, (sys.executable, "-c", program))
        self.begin(self.now)

    def looked(self) -> None:
        """One turn, with whatever is to be read."""
        ready = select.select(self.sources(), [], [], 0.02)[0] if self.sources() else []
        self.turn(ready, self.now)

    def until_down(self) -> None:
        until(lambda: (self.looked(), not self.sources())[1], 20, "the end of the server")


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(tmp_path, request.param)
    yield made
    made.end()


@pytest.mark.parametrize("server", [BEATS], indirect=True)
def test_a_server_that_beats_is_up_and_one_that_falls_silent_is_begun_again(server: Server) -> None:
    assert server.state(server.now).state == "down"
    until(lambda: (server.looked(), server.up)[1], 20, "the first beat")
    assert server.state(server.now).state == "up"
    server.now += web.SILENT_SECONDS_MAX
    server.looked()
    assert server.up
    server.now += 1
    server.looked()
    assert (server.up, server.sources()) == (False, [])
    server.now += web.BACKOFF_FIRST
    until(lambda: (server.looked(), server.sources())[1], 20, "a new beginning")
    assert server.state(server.now).restarts == 1
    assert "said nothing" in server.lines[-1]


@pytest.mark.parametrize("server", [DIES], indirect=True)
def test_one_that_does_not_stay_up_is_begun_again_ever_more_seldom_and_is_told(server: Server) -> None:
    pauses = []
    for death in range(1, 13):
        server.until_down()
        pauses.append(server.due(server.now))
        state = server.state(server.now)
        assert bool(state.trouble) == (death >= web.DEATHS_MAX), state
        server.now += pauses[-1]
        until(lambda: (server.turn((), server.now), server.sources())[1], 20, "a new beginning")
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(web.BACKOFF_FIRST)
    assert pauses[-1] == pytest.approx(web.BACKOFF_MAX)
    assert "config: it cannot" in state.trouble


@pytest.mark.parametrize("server", [IGNORES], indirect=True)
def test_one_that_never_serves_is_told_and_then_ended(server: Server) -> None:
    server.now += web.DOWN_SECONDS_MAX + 1
    server.looked()
    assert server.state(server.now).trouble
    assert server.sources()
    server.now += web.START_SECONDS_MAX
    server.looked()
    assert not server.sources()


def test_a_place_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            EntglError, match=f"127.0.0.1:{port} cannot be listened on by HTTP: Address already"
        ):
            WebProcess(tmp_path, Place("127.0.0.1", port), print)


def settings(directory: Path, listen: str) -> NodeSettings:
    where = str(directory)
    key = directory / "cluster.key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    return NodeSettings(
        StoreSettings("n1", where, "lan", "c", str(key)),
        OplogSettings("n1", where),
        SyncSettings("n1", where, "lan", "c", "127.0.0.1:0"),
        ElectionSettings("n1", "lan"),
        GatewaySettings("n1", where, "lan", "c"),
        http=HttpSettings(listen, names=("shop.example",)),
    )


def test_beyond_loopback_there_is_a_certificate_of_the_cluster_and_must_be_a_token(tmp_path: Path) -> None:
    assert place_of(settings(tmp_path, "127.0.0.1:0"), tmp_path).certificate is None
    anywhere = settings(tmp_path, "0.0.0.0:0")
    with pytest.raises(ConfigError, match="there is no token"):
        place_of(anywhere, tmp_path)
    Tokens(tmp_path).add("a", "read", [], 0)
    place = place_of(anywhere, tmp_path)
    first = (tmp_path / "http.crt").read_bytes()
    assert (place.certificate, place.key) == (tmp_path / "http.crt", tmp_path / "http.key")
    assert (tmp_path / "http.key").stat().st_mode & 0o777 == 0o600
    assert place_of(anywhere, tmp_path) == place
    assert (tmp_path / "http.crt").read_bytes() == first, "one that is good is kept"
    place_of(settings(tmp_path, "10.1.2.3:0"), tmp_path)
    assert (tmp_path / "http.crt").read_bytes() != first, "it is for other names"


def test_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "NEEDS", ("uvicorn", "no_such_library"))
    with pytest.raises(EntglError, match="needs no_such_library"):
        web.require()


def test_turns_are_taken_though_nothing_is_heard(tmp_path: Path) -> None:
    server = Server(tmp_path, BEATS)
    assert 0 < server.due(time.monotonic()) <= web.TURN_SECONDS
    server.end()


def test_a_server_on_loopback_may_be_told_to_ask_for_a_token(tmp_path: Path) -> None:
    named = settings(tmp_path, "127.0.0.1:0")
    named = replace(named, http=replace(named.http, tokens=True))
    with pytest.raises(ConfigError, match="asks for a token, and there is no token"):
        place_of(named, tmp_path)
    Tokens(tmp_path).add("reader", "read", [], 0)
    assert place_of(named, tmp_path).asks
    assert not place_of(replace(named, http=replace(named.http, tokens=False)), tmp_path).asks
