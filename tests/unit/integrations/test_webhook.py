"""Changes go to a real receiver, which checks the signatures with the library of Standard Webhooks."""

from __future__ import annotations

import base64
import errno
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from standardwebhooks.webhooks import Webhook

import entgldb
from entgldb.client.database import Change, Database
from entgldb.integrations.feeding import changes
from entgldb.integrations.place import Place
from entgldb.integrations.webhook.post import ANSWER_BYTES_MAX, Answer, Poster
from entgldb.integrations.webhook.signing import read_secret
from entgldb.integrations.webhook.sink import RETRY_SECONDS_MAX, Edge, Sink, Terms
from entgldb.launch.cli.bridges.webhook import read
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.messages.errors import ConfigError, EntglError, TokenExpired
from entgldb.messages.secret import Secret
from tests.system.support.processes import until
from tests.unit.actors.gateway.server_certificate import issue_server_certificate
from tests.unit.integrations.receiver import Heard, Receiver, receiver

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
TERMS = Terms((read_secret(Secret(SECRET)), read_secret(Secret(OTHER))), attempts=3, dead_letters_max=2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("webhook") / "d"


@pytest.fixture(scope="module")
def db(directory: Path) -> Iterator[Database]:
    with entgldb.open(directory, node_id="lan-1") as opened:
        yield opened


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, "orders") as made:
        yield made


class Told(Edge):
    """A clock that moves by waiting alone."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.lines: list[str] = []
        super().__init__(time.time, self.waits.append, Random(1), self.lines.append)


def changed(db: Database, key: str) -> Change:
    db["orders"].put(key, {"n": 1})
    (found,) = [one for one in db.changes(collection="orders") if one.key == key]
    return found


@pytest.fixture
def post(hook: Receiver) -> Iterator[Poster]:
    with closing(Poster(hook.url, "", 30.0)) as made:
        yield made


def test_a_change_is_signed_by_each_secret(db: Database, hook: Receiver, post: Poster, place: Place) -> None:
    change = changed(db, "o1")
    Sink(post, TERMS, place, Told()).hand_over(change)
    heard = hook.next()
    assert heard.path == "/hook?a=1"
    for secret in (SECRET, OTHER):
        told = Webhook(secret).verify(heard.body, heard.headers)
        assert told["type"] == "document.put"
        assert told["data"]["document"] == {"n": 1}
        assert told["data"]["version"] == {"origin": change.version.origin, "seq": change.version.seq}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(heard.body + b" ", heard.headers)
    assert place.token == change.token
    assert place.counts == {"delivered": 1}


def test_a_receiver_that_fails_is_waited_for_and_sees_one_id(
    db: Database, hook: Receiver, post: Poster, place: Place
) -> None:
    hook.answers = [(503, {}), (500, {}), (429, {"Retry-After": "17"})]
    edge = Told()
    Sink(post, TERMS, place, edge).hand_over(changed(db, "o2"))
    heard = [hook.next() for _ in range(4)]
    assert len({one.headers["webhook-id"] for one in heard}) == 1
    assert edge.waits[0] <= 1.0
    assert edge.waits[2] == 17.0
    assert place.counts == {"delivered": 1, "failed": 3}


def test_a_receiver_that_is_away_is_waited_for_as_long_as_it_takes(db: Database, place: Place) -> None:
    left = [0] * 40 + [200]
    edge = Told()
    Sink(lambda *_: Answer(left.pop(0), "away"), TERMS, place, edge).hand_over(changed(db, "o3"))
    assert place.counts == {"delivered": 1, "failed": 40}
    assert RETRY_SECONDS_MAX / 2 <= edge.waits[-1] <= RETRY_SECONDS_MAX


def test_a_refused_change_becomes_a_dead_letter_and_there_is_room_for_so_many(
    db: Database, hook: Receiver, post: Poster, place: Place
) -> None:
    hands = Sink(post, TERMS, place, Told())
    hook.answers = [(400, {}), (302, {"Location": hook.url}), (422, {})] * 3
    for key in ("o4", "o5"):
        hands.hand_over(changed(db, key))
    third = changed(db, "o6")
    before = place.token
    with pytest.raises(EntglError, match="2 changes that the receiver refused"):
        hands.hand_over(third)
    assert place.token == before
    letters = [json.loads(line) for line in place.file.with_suffix(".dead.jsonl").read_text().splitlines()]
    assert [letter["body"]["data"]["key"] for letter in letters] == ["o4", "o5"]
    assert place.counts["dead_letters"] == 2
    assert hook.heard.qsize() == 9, "a redirect was followed"


def test_a_receiver_that_is_gone_ends_it(db: Database, hook: Receiver, post: Poster, place: Place) -> None:
    hook.answers = [(410, {})]
    with pytest.raises(EntglError, match="the receiver is gone"):
        Sink(post, TERMS, place, Told()).hand_over(changed(db, "o7"))
    assert place.token is None


def test_tls_is_checked(db: Database, place: Place, tmp_path: Path) -> None:
    issued = issue_server_certificate(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_text(issued.ca_pem)
    with receiver(issued.context()) as hook:
        assert "CERTIFICATE_VERIFY_FAILED" in Poster(hook.url, "", 30.0)(b"{}", {}).why
        assert hook.heard.empty()
        with closing(Poster(hook.url, str(ca), 30.0)) as post:
            Sink(post, TERMS, place, Told()).hand_over(changed(db, "o8"))
        Webhook(SECRET).verify((heard := hook.next()).body, heard.headers)


def test_a_connection_that_the_receiver_has_closed_meanwhile_is_no_failure(
    hook: Receiver, post: Poster
) -> None:
    hook.hangs_up = True
    assert [post(b"{}", {}).status for _ in range(3)] == [204, 204, 204]
    assert hook.heard.qsize() == 3


def test_a_receiver_that_never_answers_is_asked_once_more_at_most() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        came = list[int]()

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()
                    came.append(1)

        accepting = threading.Thread(target=hang_up, daemon=True)
        accepting.start()
        answer = Poster(f"http://127.0.0.1:{server.getsockname()[1]}/", "", 30.0)(b"{}", {})
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
    assert answer.status == 0
    assert len(came) == 1, "a new connection that ends is a failure"


def test_a_dead_letter_for_which_the_disk_has_no_room_leaves_no_half_line(
    db: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Sink(lambda *_: Answer(400, "400 no"), TERMS, place, Told())
    hands.hand_over(changed(db, "o9"))
    before = place.token

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            hands.hand_over(changed(db, "o10"))
    assert place.token == before
    hands.hand_over(changed(db, "o10"))
    letters = [json.loads(line) for line in place.file.with_suffix(".dead.jsonl").read_text().splitlines()]
    assert [letter["body"]["data"]["key"] for letter in letters] == ["o9", "o10"]


def test_of_an_answer_little_is_read(hook: Receiver, post: Poster) -> None:
    hook.answers = [(200, {"x-long": "y" * (ANSWER_BYTES_MAX - 100)})]
    assert post(b"{}", {}).status == 200
    hook.answers = [(200, {"x-long": "y" * (ANSWER_BYTES_MAX + 100)})]
    assert post(b"{}", {}).why.startswith("LineTooLong")


def test_the_place_is_kept_and_held_by_one(db: Database, tmp_path: Path) -> None:
    with Place(tmp_path, "p") as place:
        feed = changes(db, place, ["later"], "now")
        db["later"].put("k", {"n": 1})
        first = next(feed)
        assert first.key == "k"
        with pytest.raises(EntglError, match="another process works for p"), Place(tmp_path, "p"):
            pass
        place.counts["delivered"] += 1
        place.keep(first.token)
    with Place(tmp_path, "p") as place:
        assert (place.token, place.counts) == (first.token, {"delivered": 1})
        place.token = "00.1"
        with pytest.raises(TokenExpired) as caught:
            next(changes(db, place, ["later"], "now"))
        assert str(place.file) in caught.value.hint
    place.file.write_text("[]")
    with pytest.raises(ConfigError, match="holds no place"), Place(tmp_path, "p"):
        pass


CONFIG = """
url = "{url}"
secrets = ["env:HOOK"]
collections = ["orders"]
since = "start"
"""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('since = "start"', 'since = "then"'), "since: one of now, start is expected"),
        (("env:HOOK", "whsec_abc"), "a secret does not stand here"),
        (("http://127.0.0.1:1", "http://example.com"), "is not an https URL"),
        (('"orders"', '"_system_remote_peers"'), "is not a collection name"),
        (('["orders"]', "[]"), "collections: 1 to 100 are expected"),
        (('since = "start"', "sinc = 1"), "sinc: unknown setting"),
        (('since = "start"', "[[out]]"), "out: unknown section"),
        (("http://127.0.0.1:1", "https://me:you@example.com"), "url has a user"),
    ],
)
def test_a_configuration_with_a_fault_is_refused(
    change: tuple[str, str], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    file = tmp_path / "orders.toml"
    file.write_text(CONFIG.format(url="http://127.0.0.1:1/x?y=z"))
    assert read(file).terms.secrets == TERMS.secrets[:1]
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert fault in caught.value.text
    assert "whsec_abc" not in caught.value.text


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_a", SECRET[6:], "whsec_" + "A" * 28, "whsec_" + "A" * 88]
)
def test_a_secret_of_another_form_is_refused(secret: str) -> None:
    with pytest.raises(ConfigError, match="24 to 64 bytes"):
        read_secret(Secret(secret))


@pytest.mark.slow
def test_the_verb_goes_on_where_it_was(db: Database, directory: Path, hook: Receiver, tmp_path: Path) -> None:
    config = tmp_path / "orders.toml"
    config.write_text(CONFIG.format(url=hook.url).replace("start", "now"))
    command = [
        sys.executable,
        "-m",
        "entgldb",
        "bridge",
        "webhook",
        "-d",
        str(directory),
        "--config",
        str(config),
    ]

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), "HOOK": SECRET},
            preexec_fn=end_with_parent,
        )

    def key(heard: Heard) -> str:
        return str(Webhook(SECRET).verify(heard.body, heard.headers)["data"]["key"])

    with started() as bridge:
        assert bridge.stderr is not None
        assert "changes of orders go to" in bridge.stderr.readline()
        file = directory / "integrations" / "orders.json"
        until(file.exists, 30.0, "the beginning of the feed")
        db["orders"].put("first", {"n": 1})
        assert key(hook.next()) == "first"
        until(lambda: "delivered" in file.read_text(), 30.0, "the word that it was taken")
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(30) == 0
        assert bridge.stdout is not None
        assert bridge.stdout.read() == "delivered=1\n"
    db["orders"].put("meanwhile", {"n": 1})
    with started() as bridge:
        assert key(hook.next()) == "meanwhile"
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(30) == 0
