"""Documents and messages over a real broker, both ways."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import entgldb
from entgldb.actors.cluster_key import CLUSTER_KEY_NAME
from entgldb.client.collection import Collection
from entgldb.client.database import Database
from entgldb.integrations.mqtt.bridge import Bridge, Broker
from entgldb.integrations.mqtt.incoming import REMEMBERED_MAX, MalformedError, Writer
from entgldb.integrations.mqtt.outgoing import WINDOW, Outgoing
from entgldb.integrations.mqtt.routes import In, Out, Topic
from entgldb.integrations.place import Place
from entgldb.launch.cli.bridges.mqtt import read
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.launch.node.config import cluster_name
from entgldb.messages.errors import ConfigError, InvalidError, NoNodeError
from entgldb.messages.limits import BODY_BYTES_MAX
from tests.support.one_node import one_node
from tests.system.support.processes import until
from tests.unit.integrations.mqtt_broker import PATIENCE, Device, broker


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with broker(tmp_path_factory.mktemp("broker")) as made:
        yield made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with one_node(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def db(directory: Path) -> Iterator[Database]:
    with entgldb.connect(directory) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, "site") as made:
        yield made


@pytest.mark.parametrize("key", ["k", "a/b", "a+b#c", "100%", "ä ö", "$SYS", "x" * 512])
def test_a_key_is_one_level_of_a_topic(key: str) -> None:
    topic = Topic("site/{key}/state")
    made = topic.of(key)
    assert made.count("/") == 2
    assert not set("+#") & set(made)
    assert topic.key(made) == key


def test_topics_of_another_form_are_none_of_ours() -> None:
    topic = Topic("site/{key}/state")
    for other in ("site/a/b/state", "site/a/set", "site/state", "site/a/state/", "x/a/state"):
        assert topic.key(other) is None
    for bad in ("site//state", "site/" + "x" * 513 + "/state", "site/%00/state", "site/%ff/state"):
        with pytest.raises(InvalidError):
            topic.key(bad)
    for pattern in ("site/state", "a/{key}/{key}", "a/x{key}", "a/+/{key}", "#/{key}", "$a/{key}"):
        with pytest.raises(InvalidError):
            Topic(pattern)
    with pytest.raises(InvalidError, match="longer than 65535 bytes"):
        Topic("x" * 65_535 + "/{key}").of("k")


MALFORMED = [
    (b"{", "is no JSON"),
    (b"[1]", "not a JSON object"),
    (b"\xff\xfe", "no UTF-8"),
    (b'{"a":1,"a":2}', "twice"),
    (b'{"a":NaN}', "NaN"),
    (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "deeper"),
    (b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}', "more than a document has"),
]


@pytest.mark.parametrize(("payload", "why"), MALFORMED, ids=[why for _, why in MALFORMED])
def test_a_malformed_message_is_refused(db: Database, payload: bytes, why: str) -> None:
    writer = Writer(db, [In(Topic("bad/{key}"), "bad")], "c1")
    with pytest.raises(MalformedError, match=why):
        writer.take("bad/k", payload, [])
    assert db["bad"].get("k") is None


def test_a_message_becomes_a_write_only_where_it_says_something_new(db: Database) -> None:
    writer = Writer(db, [In(Topic("in/{key}"), "taken")], "c1")

    def take(payload: bytes, *clusters: str) -> str:
        return writer.take("in/k", payload, clusters)

    assert take(b'{"n":1}') == "written"
    (change,) = db.changes(collection="taken")
    assert writer.came_from(change) == "in/k"
    assert take(b'{"n": 1}') == "unchanged"
    assert take(b'{"n":2}', "c2", "c1") == "own"
    assert take(b'{"n":2}', "c2") == "written"
    assert writer.came_from(change) == ""
    assert take(b"") == "deleted"
    assert take(b"") == "unchanged"
    with pytest.raises(MalformedError, match="no topic"):
        writer.take("other/k", b"{}", [])


def test_so_many_writes_are_remembered(db: Database) -> None:
    writer = Writer(db, [], "c1")
    version = db["remembered"].put("k", {})
    for number in range(REMEMBERED_MAX + 10):
        writer._remember("c", str(number), version, "t")
    assert len(writer._written) == REMEMBERED_MAX
    assert ("c", "9") not in writer._written


def test_the_place_goes_on_behind_what_is_acknowledged_without_a_gap(place: Place) -> None:
    outgoing = Outgoing(place)
    outgoing.acknowledged(1)  # before `sent` was called
    for number in (1, 2, 3):
        outgoing.sent(f"t{number}", number)
    outgoing.acknowledged(3)
    assert place.token is None
    outgoing.sent("t4", None)
    outgoing.acknowledged(2)
    assert place.token == "t4"
    for number in range(10, 10 + WINDOW):
        assert outgoing.room(0.0)
        outgoing.sent(f"t{number}", number)
    assert not outgoing.room(0.0)
    outgoing.acknowledged(15)
    assert outgoing.room(0.0)
    assert place.token == "t4"


def test_a_node_that_takes_nothing_is_waited_for_and_then_the_broker_is_answered(
    port: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entgldb.integrations.mqtt.bridge.AGAIN_SECONDS", 0.01)
    tried: list[bytes] = []

    class Slow:
        def take(self, topic: str, payload: bytes, clusters: list[str]) -> str:
            tried.append(payload)
            if len(tried) < 3:
                raise NoNodeError("no node is running")
            return "written"

    route, lines = In(Topic("slow/{key}"), "c"), list[str]()
    writer: Any = Slow()
    with (
        closing(Device(port)) as device,
        closing(Bridge(Broker("127.0.0.1", port, "slow"), [], [route], writer, place, "c1", lines.append)),
    ):
        until(lambda: "connected to the broker" in lines, PATIENCE, "the connection")
        while not tried:  # the subscription is answered a moment later
            device.says("slow/k", b"{}")
        until(lambda: place.counts["written"], PATIENCE, "the write")
    assert len(tried) >= 3
    assert len([line for line in lines if "no node is running" in line]) == 1


def test_a_place_that_cannot_be_kept_ends_it_and_is_told(
    port: int, db: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(token: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place, "keep", full)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    db["full"].put("k", {})
    (change,) = db.changes(collection="full")
    route, writer = Out("full", Topic("full/{key}")), Writer(db, [], "c1")
    with (
        closing(Bridge(Broker("127.0.0.1", port, "full"), [route], [], writer, place, "c1", str)) as bridge,
        pytest.raises(OSError, match="No space left"),
    ):
        bridge.run([change])
    signal.signal(signal.SIGTERM, before)


CONFIG = """
broker = "mqtt://127.0.0.1:{port}"
[[out]]
collection = "lamps"
topic = "lamps/{{key}}"
[[in]]
collection = "lamps"
topic = "lamps/{{key}}"
[[out]]
collection = "kept"
topic = "kept/{{key}}"
retain = true
filter = '{{"secret": {{"$exists": false}}}}'
"""


class Verb:
    """``entgldb bridge mqtt`` in a process; its words on stderr are read by a file."""

    def __init__(self, directory: Path, config: Path) -> None:
        self._errors = config.with_suffix(".err")
        command = ["bridge", "mqtt", "-d", str(directory), "--config", str(config), "--json"]
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "entgldb", *command],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(),
                preexec_fn=end_with_parent,
            )
        until(lambda: "connected to the broker" in self._errors.read_text(), PATIENCE, "the connection")

    def end(self) -> dict[str, int]:
        """Its counts."""
        self.process.send_signal(signal.SIGTERM)
        told, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        counts: dict[str, int] = json.loads(told)["counts"]
        return counts


@pytest.mark.slow
def test_one_topic_both_ways_over_a_restart(port: int, directory: Path, db: Database, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text(CONFIG.format(port=port))
    lamps, kept = db["lamps"], db["kept"]
    with closing(Device(port, "lamps/+", "kept/+")) as device:
        verb = Verb(directory, config)
        until(lambda: probed(device, lamps), PATIENCE, "the subscription")
        lamps.put("a", {"n": 1})
        while (heard := device.next())[0] == "lamps/probe":
            pass
        assert heard == ("lamps/a", b'{"n": 1}')

        device.says("lamps/b", b'{"n": 2}')
        until(lambda: lamps.get("b"), PATIENCE, "the document of the message")
        lamps.put("a", {"n": 3})
        # it hears its own message, once: the bridge does not send it back
        assert [device.next(), device.next()] == [("lamps/b", b'{"n": 2}'), ("lamps/a", b'{"n": 3}')]

        device.says("lamps/c", b'{"n": 4}', cluster=cluster_name(directory / CLUSTER_KEY_NAME))
        device.says("lamps/d", b"no")
        device.says("lamps/e", b"{}")
        until(lambda: lamps.get("e") is not None, PATIENCE, "the document of the next message")
        assert lamps.get("c") is None
        lamps.delete("a")
        kept.put("hidden", {"secret": 1})
        kept.put("shown", {"n": 5})
        assert [device.next()[0] for _ in range(3)] == ["lamps/c", "lamps/d", "lamps/e"]
        assert [device.next(), device.next()] == [("lamps/a", b""), ("kept/shown", b'{"n": 5}')]
        with closing(Device(port, "kept/+")) as late:
            assert late.heard.get(timeout=PATIENCE) == ("kept/shown", b'{"n": 5}', True)

        counts = verb.end()
        assert counts["refused"] == 1
        assert counts["own"] >= 1
        assert counts["published"] == 4

        device.says("lamps/f", b'{"n": 6}')
        lamps.put("g", {"n": 7})
        verb = Verb(directory, config)
        until(lambda: lamps.get("f"), PATIENCE, "the message that came meanwhile")
        assert [device.next(), device.next()] == [("lamps/f", b'{"n": 6}'), ("lamps/g", b'{"n": 7}')]
        assert verb.end()["published"] == 5


def probed(device: Device, lamps: Collection) -> bool:
    device.says("lamps/probe", b"{}")
    return lamps.get("probe") is not None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("mqtt://127.0.0.1", "mqtt://example.com"), "can be read and changed on its way"),
        (("mqtt://", "http://"), "is not mqtts://HOST:PORT"),
        (("lamps/{key}", "lamps/#"), "has not {key} as one of its levels"),
        (('collection = "kept"', ""), "out[1].collection: is missing"),
        (("retain = true", "retane = true"), "out[1].retane: unknown setting"),
        (('"$exists"', '"$exits"'), "filter"),
        (("[[out]]", "[[outer]]"), "outer: unknown section"),
        (("broker", "password = 'hunter2'\nbroker"), "a secret does not stand here"),
    ],
)
def test_a_configuration_with_a_fault_is_refused(change: tuple[str, str], fault: str, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text(CONFIG.format(port=1))
    given = read(config, "lan-1")
    assert given.broker.client_id == "entgldb-lan-1-site"
    assert [out.retain for out in given.outs] == [False, True]
    config.write_text(config.read_text().replace(*change))
    with pytest.raises(ConfigError) as caught:
        read(config, "lan-1")
    assert fault in caught.value.text
    assert "hunter2" not in caught.value.text
