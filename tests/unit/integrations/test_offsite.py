"""Backups go to a folder and a bucket of S3 (moto's server), are read back, and nothing else is removed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.integrations.offsite.ledger import ENTRIES_MAX, Kept, Ledger, surplus
from entgldb.integrations.offsite.runs import AGAIN_SECONDS, Edge, Plan, run, run_every
from entgldb.integrations.offsite.s3 import Bucket
from entgldb.integrations.offsite.shelf import Folder, Shelf
from entgldb.integrations.place import FOLDER
from entgldb.launch.cli.common import run as run_verb
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.child import end_with_parent, environment
from entgldb.messages.errors import ConfigError, CorruptError, EntglError, TooLargeError
from entgldb.storage.recovery import backup as backups

KEYS = {"access_key_id": "id", "secret_access_key": "key", "region": "us-east-1"}
AT = 1_790_000_000_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("offsite") / "d"


@pytest.fixture(scope="module")
def db(directory: Path) -> Iterator[Database]:
    with entgldb.open(directory, node_id="lan-1") as opened:
        opened["users"].put("u1", {"n": 1})
        yield opened


class S3(NamedTuple):
    endpoint: str
    client: Any

    def bucket(self, name: str, prefix: str) -> Bucket:
        return Bucket(name, prefix, {**KEYS, "endpoint": self.endpoint}, plaintext=True)

    def names(self) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket="backups").get("Contents", [])]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="id",
        aws_secret_access_key="key",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="backups")
    yield S3(f"http://{host}:{port}", client)
    client.close()
    server.stop()


class Trial:
    """Runs on a clock of its own."""

    def __init__(self, directory: Path, shelf: Shelf, keep: int = 2) -> None:
        self.now_ms = AT
        self.waits: list[float] = []
        self.lines: list[str] = []
        self.removed: list[str] = []
        self.names: list[str] = []
        self.shelf = shelf
        with suppress(FileNotFoundError):
            (directory / FOLDER / "backups.json").unlink()
        self.plan = Plan(directory, self.make, shelf, Ledger(directory, shelf.place), keep)
        self.edge = Edge(lambda: self.now_ms, self.wait, self.lines.append)

    def make(self, file: Path) -> backups.Manifest:
        return backups.write(self.plan.directory, file, "0", self.now_ms, lambda *_: None)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_ms += int(seconds * 1000)

    def done(self, name: str, manifest: Any, removed: list[str]) -> None:
        self.names.append(name)
        self.removed += removed

    def run(self) -> None:
        run(self.plan, self.edge, self.done)
        self.now_ms += 60_000


@pytest.fixture(params=["folder", "s3"])
def trial(request: pytest.FixtureRequest, db: Database, directory: Path, tmp_path: Path) -> Trial:
    if request.param == "folder":
        return Trial(directory, Folder(tmp_path))
    s3: S3 = request.getfixturevalue("s3")
    return Trial(
        directory, Bucket("backups", request.node.name, {**KEYS, "endpoint": s3.endpoint}, plaintext=True)
    )


def test_backups_are_read_back_and_the_oldest_of_ours_go(trial: Trial, tmp_path: Path) -> None:
    stranger = tmp_path / "lan-1-20200101T000000Z.db"
    stranger.write_text("a person's own")
    trial.shelf.put(f"{stranger.name}.json", stranger)
    for _ in range(4):
        trial.run()
    assert trial.names[0] == "lan-1-20260921T141320Z.db"
    assert trial.removed == trial.names[:2]
    assert [row.name for row in trial.plan.ledger.entries()] == trial.names[2:]
    for name in (*trial.names[2:], stranger.name):
        trial.shelf.digest(f"{name}.json")
    for name in trial.names[:2]:
        with pytest.raises(EntglError, match=r"No such file|not found"):
            trial.shelf.digest(name)
    assert list(trial.plan.directory.glob(f"{FOLDER}/backup-part")) == []


def test_what_does_not_read_back_is_not_counted_and_removes_nothing(trial: Trial) -> None:
    trial.run()
    whole = trial.shelf.digest
    trial.shelf.digest = lambda name: "0" * 64  # type: ignore[method-assign]  # a disk that lies
    with pytest.raises(CorruptError, match="does not read back"):
        trial.run()
    trial.now_ms += 1000
    trial.shelf.digest = whole  # type: ignore[method-assign]  # it is mended
    trial.run()
    assert [row.whole for row in trial.plan.ledger.entries()] == [True, True]
    assert len(trial.removed) == 1, "the one that is there in part"
    trial.run()
    assert trial.removed[1:] == trial.names[:1]


def test_a_name_that_is_taken_stays_as_it_is(trial: Trial, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("not a backup")
    trial.shelf.put("lan-1-20260921T141320Z.db", mine)
    before = trial.shelf.digest("lan-1-20260921T141320Z.db")
    with pytest.raises(EntglError, match="is there already"):
        trial.run()
    assert trial.plan.ledger.entries() == []
    trial.now_ms += 1000
    for _ in range(3):
        trial.run()
    assert trial.shelf.digest("lan-1-20260921T141320Z.db") == before


def test_a_schedule_goes_on_where_it_was_and_tries_again(
    db: Database, directory: Path, tmp_path: Path
) -> None:
    trial = Trial(directory, Folder(tmp_path))
    make, fails = trial.plan.make, [2]

    class EndError(Exception):
        pass

    def failing(file: Path) -> Any:
        if len(trial.names) == 3:
            raise EndError
        if len(trial.names) == 1 and fails[0]:
            fails[0] -= 1
            raise EntglError("the disk is away")
        return make(file)

    plan = Plan(directory, failing, trial.shelf, trial.plan.ledger, 2)
    with pytest.raises(EndError):
        run_every(plan, 3600.0, trial.edge, trial.done)
    assert trial.names == [
        "lan-1-20260921T141320Z.db",
        "lan-1-20260921T151620Z.db",
        "lan-1-20260921T161620Z.db",
    ]
    assert sum(trial.waits[:60]) == 3600.0
    assert sum(trial.waits[60:63]) == 3 * AGAIN_SECONDS
    assert len(trial.lines) == 2
    assert trial.waits[0] == 60.0, "the first is made at once"
    trial.waits.clear()
    trial.now_ms -= 86_400_000  # the clock is set back by a day
    with pytest.raises(EndError):
        run_every(plan, 3600.0, trial.edge, trial.done)
    assert sum(trial.waits) <= 3660.0


def test_a_full_disk_of_the_node_ends_no_schedule(db: Database, directory: Path, tmp_path: Path) -> None:
    trial = Trial(directory, Folder(tmp_path))

    class EndError(Exception):
        pass

    class Full(Ledger):
        """There is no room for its file for a while."""

        def _write(self) -> None:
            if len(trial.lines) < 2:
                raise OSError(errno.ENOSPC, "No space left on device", "backups.json")
            super()._write()

    def done(name: str, manifest: Any, removed: list[str]) -> None:
        raise EndError

    plan = Plan(directory, trial.make, trial.shelf, Full(directory, trial.shelf.place), 2)
    with pytest.raises(EndError):
        run_every(plan, 3600.0, trial.edge, done)
    assert len(trial.lines) == 2
    assert all("No space left on device; no backup was made" in line for line in trial.lines)
    rows = json.loads((directory / FOLDER / "backups.json").read_text())["places"][str(tmp_path)]
    assert [row["whole"] for row in rows] == [True], "what was never put there is not counted"


def test_the_newest_whole_ones_stay() -> None:
    rows = [Kept("a", 1, True), Kept("b", 2), Kept("c", 3, True), Kept("d", 4, True), Kept("e", 5)]
    assert [row.name for row in surplus(rows, 2)] == ["a", "b"]
    assert [row.name for row in surplus(rows, 1)] == ["a", "b", "c"]
    assert surplus(rows[1:2], 1) == []


def test_the_ledger_has_a_bound_and_is_not_guessed_at(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "p")
    ledger._all["p"] = [Kept(str(n), n) for n in range(ENTRIES_MAX)]
    with pytest.raises(TooLargeError):
        ledger.begin("one more", 1)
    (tmp_path / FOLDER / "backups.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no ledger"):
        Ledger(tmp_path, "p")


def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    bucket = s3.bucket("elsewhere", "p")
    with pytest.raises(EntglError, match=r"^s3://elsewhere/p: "):
        bucket.put("x", Path(__file__))


CREDENTIALS = (
    'access_key_id = "id"\nsecret_access_key = "{secret}"\nregion = "us-east-1"\nendpoint = "{endpoint}"\n'
)


def test_the_verb_puts_a_backup_into_a_bucket(
    db: Database,
    directory: Path,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "s3.toml"
    file.write_text(CREDENTIALS.format(secret="env:S3_KEY", endpoint=s3.endpoint))
    monkeypatch.setenv("S3_KEY", "key")
    words = [
        "backup",
        "-d",
        str(directory),
        "--to",
        "s3://backups/verb",
        "--credentials",
        str(file),
        "--json",
    ]
    assert run_verb(command, words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["documents"] == 1
    name = told["file"].removeprefix("s3://backups/")
    assert {name, f"{name}.json"} <= set(s3.names())
    s3.client.download_file("backups", name, str(tmp_path / "back.db"))
    assert backups.verify(tmp_path / "back.db").documents == 1


def test_a_service_that_the_environment_names_is_used_and_in_clear_on_loopback_alone(
    db: Database,
    directory: Path,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "key"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    words = ["backup", "-d", str(directory), "--to", "s3://backups/environment", "--json"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert run_verb(command, words) == 0
    assert json.loads(capsys.readouterr().out)["file"].removeprefix("s3://backups/") in s3.names()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example")
    assert run_verb(command, words) > 0
    assert "AWS_ENDPOINT_URL 'http://s3.example' is not an https URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--to", "."], "usage: One of FILE and --to"),
        (["--to", "{dir}", "--every", "1s"], "usage: --every is 60s or more"),
        (["--to", "ftp://x"], "invalid: 'ftp://x' is no folder"),
        (["--to", "{dir}/none"], "config: {dir}/none is no directory"),
        (["--to", "s3://id:key@bucket"], "invalid: "),
        (
            ["--to", "s3://backups", "--credentials", "{dir}/open.toml"],
            "not-allowed: {dir}/open.toml holds a secret",
        ),
    ],
)
def test_places_and_options_of_another_form_are_refused(
    db: Database,
    directory: Path,
    tmp_path: Path,
    words: list[str],
    fault: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "open.toml").write_text(CREDENTIALS.format(secret="key", endpoint="http://127.0.0.1:1"))
    (tmp_path / "open.toml").chmod(0o644)
    file = [str(tmp_path / "x.db")] if words == ["--to", "."] else []
    asked = [word.replace("{dir}", str(tmp_path)) for word in words]
    assert run_verb(command, ["backup", "-d", str(directory), *asked, *file]) > 0
    assert capsys.readouterr().err.startswith(fault.replace("{dir}", str(tmp_path)))


@pytest.mark.slow
def test_the_schedule_ends_when_it_is_told_to(db: Database, directory: Path, tmp_path: Path) -> None:
    words = ["backup", "-d", str(directory), "--to", str(tmp_path), "--every", "1h"]
    with subprocess.Popen(
        [sys.executable, "-m", "entgldb", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        preexec_fn=end_with_parent,
    ) as verb:
        assert verb.stdout is not None
        assert "read back and whole" in verb.stdout.readline()
        os.kill(verb.pid, signal.SIGTERM)
        assert verb.wait(30) == 0
    assert len(list(tmp_path.glob("lan-1-*.db"))) == 1
