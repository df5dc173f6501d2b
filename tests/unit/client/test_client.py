"""The Python API against a real node in processes of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import entgldb
from entgldb.client.database import Database
from entgldb.launch.cli.common import run
from entgldb.launch.cli.main import entgldb as command
from entgldb.launch.node.init import Plan, init
from entgldb.launch.node.process import start_detached, stop_node
from entgldb.launch.playground.processes import tree
from entgldb.messages.client import Isolate, Ping
from entgldb.messages.errors import (
    EntglError,
    ErrorCode,
    InvalidError,
    NoNodeError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
    UnsupportedError,
)

pytestmark = pytest.mark.slow
AUTHORITY = "https://identity.example.com"


def eventually(look: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "not in time"
        threading.Event().wait(0.02)


def test_launch_can_be_called_after_anything_else_was_used(tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1"))
    assert entgldb.connect is not None
    with entgldb.launch(made.directory) as node, entgldb.connect(made.directory) as db:
        db["users"].put("u1", {"name": "Ada"})
        assert db["users"].count() == 1
        answer = node.ask("store", Ping())
    assert type(answer).__name__ == "Done"
    assert node.process.returncode == 0


def test_an_update_names_the_field_it_does_not_know(db: Database) -> None:
    with pytest.raises(InvalidError, match="addres is no field"):
        db.peers.update_remote_peer("cloud-1", addres="remote.example.com:9000")


def test_a_number_that_is_none_is_refused_by_name(db: Database) -> None:
    with pytest.raises(EntglError, match=r"Isolate\.seconds: a finite float expected"):
        db.ask("sync", Isolate(float("inf")))
    assert db.status("sync")["isolated"] is False


def test_after_close_every_call_says_so(directory: Path) -> None:
    db = entgldb.connect(directory)
    db["closing"].put("k", {"n": 1})
    under_way = db["closing"].find()
    feed = db.changes(collection="closing", follow=True)
    next(feed)
    db.close()
    db.close()
    for call in (
        lambda: db["closing"].get("k"),
        lambda: db["closing"].put("k", {}),
        lambda: list(db["closing"].find()),
        lambda: db["closing"].count(),
        lambda: db.collections(),
        lambda: db.status(),
        lambda: db.peers.get_all_remote_peers(),
        lambda: db.nodes.all(),
        lambda: db.attach(),
        lambda: next(db.changes()),
    ):
        with pytest.raises(InvalidError, match="this database was closed"):
            call()
    for going_on in (under_way, feed):
        with pytest.raises(EntglError, match="closed"):
            list(going_on)


def test_nobody_runs_there(tmp_path: Path) -> None:
    with pytest.raises(NoNodeError, match="no node is running in"):
        entgldb.connect(tmp_path)


def test_put_get_delete(db: Database) -> None:
    users = db["users"]
    first = users.put("u1", {"name": "Ada", "age": 36})
    second = users.put("u1", {"name": "Ada", "age": 37})
    assert (first.origin, first.seq + 1) == (second.origin, second.seq)
    found = users.get("u1")
    assert found == {"name": "Ada", "age": 37}
    assert found is not None
    assert found.key == "u1"
    assert users.get("nobody") is None
    assert users.delete("u1") is not None
    assert users.delete("u1") is None
    assert users.get("u1") is None


def test_find_count_and_index(db: Database) -> None:
    people = db["people"]
    assert (
        people.put_many({f"p{i}": {"age": i, "city": "Rome" if i % 2 else "Oslo"} for i in range(1200)})
        == 1200
    )
    people.create_index("age")
    assert people.count() == 1200
    assert people.count({"city": "Rome", "age": {"$lt": 10}}) == 5
    ages = [person["age"] for person in people.find({"age": {"$gte": 30}}, sort="-age", limit=3)]
    assert ages == [1199, 1198, 1197]
    assert [p.key for p in people.find({"age": {"$in": [5, 3]}}, sort="age", skip=1)] == ["p5"]
    assert (
        len(list(people.find({"$or": [{"age": 1}, {"$and": [{"age": {"$gt": 1190}}, {"city": "Oslo"}]}]})))
        == 5
    )
    with pytest.raises(UnsupportedError):
        people.count({"age": {"$near": 1}})
    assert "people" in db.collections()


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([1], InvalidError),
        ({"x": float("nan")}, InvalidError),
        ({"x": object()}, InvalidError),
        ({"x": "y" * 2**20}, TooLargeError),
        ({"x": "\ud800"}, InvalidError),
    ],
)
def test_what_is_no_document_is_refused(db: Database, document: object, fault: type[EntglError]) -> None:
    with pytest.raises(fault):
        db["refused"].put("k", document)  # type: ignore[arg-type]  # what a careless caller may give


def test_refusals_come_as_the_errors_they_are(db: Database) -> None:
    with pytest.raises(InvalidError):
        db["bad name"].put("k", {})
    with pytest.raises((NotAllowedError, InvalidError)):
        db["_system_remote_peers"].put("k", {})
    with pytest.raises(InvalidError):
        db["users"].put("", {})


def test_changes_resume_and_follow(db: Database, directory: Path) -> None:
    items = db["items"]
    items.put("a", {"n": 1})
    token = list(items.changes())[-1].token
    items.put("b", {"n": 2})
    items.delete("a")
    seen = [(change.key, change.document) for change in items.changes(since=token)]
    assert seen == [("b", {"n": 2}), ("a", None)]
    feed = items.changes(since=token, follow=True)
    assert [change.key for change in itertools.islice(feed, 2)] == ["b", "a"]

    def write() -> None:
        with entgldb.connect(directory) as other:
            other["items"].put("c", {"n": 3})

    thread = threading.Thread(target=write)
    thread.start()
    assert next(feed).key == "c"
    thread.join()
    feed.close()
    with pytest.raises(entgldb.TokenExpired):
        list(items.changes(since="0" * 32 + ".1"))


def test_a_feed_in_which_nothing_matches_has_the_token_of_now(db: Database) -> None:
    quiet = db["quiet"].changes()
    assert list(quiet) == []
    assert quiet.token == db.token()
    db["items"].put("elsewhere", {})
    again = db["quiet"].changes(quiet.token)
    assert list(again) == []
    assert again.token == db.token() != quiet.token


def test_peers_are_managed_and_their_secret_is_sealed(db: Database) -> None:
    def add(secret: str = "hunter2-hunter2") -> bool:
        return db.peers.add_cloud_peer(
            "cloud-9",
            "127.0.0.1:9",
            authority=AUTHORITY,
            client_id="lan",
            client_secret=secret,
            enabled=False,
        )

    assert add()
    assert not add(), "adding what is there changes nothing"
    with pytest.raises(EntglError) as caught:
        add("another-secret")
    assert caught.value.code is ErrorCode.EXISTS
    peer = db.peers.get_remote_peer("cloud-9")
    assert peer.oauth2 is not None
    assert peer.oauth2.client_secret.startswith("sealed:v1:")
    assert db.peers.update_remote_peer("cloud-9", address="127.0.0.1:10")
    assert [p.address for p in db.peers.get_all_remote_peers()] == ["127.0.0.1:10"]
    with pytest.raises(InvalidError, match="secret anew"):
        db.peers.update_remote_peer("cloud-9", authority="https://elsewhere.example.com")
    assert not db.peers.disable_peer("cloud-9")
    db.peers.remove_remote_peer("cloud-9")
    for act in (
        db.peers.remove_remote_peer,
        db.peers.enable_peer,
        db.peers.test_peer,
        db.peers.get_remote_peer,
    ):
        with pytest.raises(NotFoundError):
            act("cloud-9")


def test_verbs_do_what_they_say(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def verb(*arguments: str) -> str:
        assert run(command, [arguments[0], "-d", str(directory), *arguments[1:]]) == 0
        return capsys.readouterr().out

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": i, "name": f"n{i}"}) + "\n" for i in range(30)))
    assert json.loads(verb("import", "rows", str(file), "--key", "id", "--json"))["documents"] == 30
    assert json.loads(verb("count", "rows", '{"id": {"$gte": 20}}', "--json"))["count"] == 10
    assert verb("get", "rows", "7") == '{"id": 7, "name": "n7"}\n'
    copy = tmp_path / "copy.jsonl"
    copy.write_text(verb("export", "rows"))
    verb("import", "copied", str(copy))
    assert verb("get", "copied", "7") == verb("get", "rows", "7")
    verb("put", "odd", "k", '{"_key": "mine"}')
    assert json.loads(verb("export", "odd")) == {"_key": "k", "_document": {"_key": "mine"}}
    assert json.loads(verb("export", "odd", "--json"))["document"] == {"_key": "mine"}
    found = [
        json.loads(line)["key"]
        for line in verb("find", "rows", "--sort", "-id", "--limit", "2", "--json").splitlines()
    ]
    assert found == ["29", "28"]
    assert len(verb("changes", "rows").splitlines()) == 30
    assert json.loads(verb("changes", "rows", "--json").splitlines()[-1])["token"]
    assert verb("changes", "rows", "--since", "now") == ""
    assert json.loads(verb("status", "--json"))["node_id"] == "lan-1"
    assert json.loads(verb("ask", "store", "Status", "--json"))["answer"]["documents"] >= 60
    verb("tell", "sync", "SyncNow")


def test_a_write_rides_out_the_death_of_the_store(db: Database) -> None:
    db["survives"].put("before", {"n": 0})
    os.kill(int(db.status()["pids"]["store"]), signal.SIGKILL)
    begun = time.monotonic()
    db["survives"].put("after", {"n": 1})
    assert time.monotonic() - begun < 3
    assert {document.key for document in db["survives"].find()} == {"before", "after"}


def test_what_makes_the_documents_may_use_the_database_meanwhile(db: Database) -> None:
    def made() -> Iterator[tuple[str, dict[str, int]]]:
        for number in range(1_001):
            if number in (500, 501, 1_000):
                db["made"].put(f"beside{number}", {"n": number})
            yield f"k{number}", {"n": number}

    assert db["made"].put_many(made()) == 1_001
    assert db["made"].count() == 1_004


def test_a_fault_on_the_way_leaves_the_parts_before_it_stored(db: Database) -> None:
    def broken() -> Iterator[tuple[str, dict[str, int]]]:
        yield from ((f"k{number}", {"n": number}) for number in range(700))
        raise LookupError

    with pytest.raises(LookupError):
        db["broken"].put_many(broken())
    assert db["broken"].count() == 500


def test_many_documents_ride_out_the_death_of_the_store(db: Database) -> None:
    def made() -> Iterator[tuple[str, dict[str, int]]]:
        for number in range(2_000):
            if number == 1_200:
                os.kill(db.status("node")["pids"]["store"], signal.SIGKILL)
            yield f"k{number}", {"n": number}

    before = db.documents.feed.last_lsn()
    assert db["many"].put_many(made()) == 2_000
    assert db["many"].count() == 2_000
    assert db.documents.feed.last_lsn() == before + 2_000, "no part was written twice"


def test_one_database_serves_many_threads_through_the_death_of_the_store(db: Database) -> None:
    shared = db["shared"]
    pid = int(db.status()["pids"]["store"])

    def work(number: int) -> set[int]:
        seqs = set()
        for at in range(12):
            seqs.add(shared.put(f"{number}-{at}", {"n": at}).seq)
            assert shared.get(f"{number}-{at}") == {"n": at}
            assert any(change.key == f"{number}-{at}" for change in shared.changes())
        return seqs

    with ThreadPoolExecutor(8) as threads:
        working = threads.map(work, range(8))
        eventually(lambda: shared.count() > 20)
        os.kill(pid, signal.SIGKILL)
        seqs = set().union(*working)
    assert len(seqs) == shared.count() == 8 * 12
    # a write done twice would be in the log twice; the node may have written of itself meanwhile
    logged = "SELECT count(*) FROM _entgldb_oplog WHERE collection = 'shared'"
    assert db.documents.put_to(lambda file: file.execute(logged).fetchone()) == (8 * 12,)


def test_an_ask_rides_out_the_death_of_the_store(db: Database) -> None:
    assert db.status("store")["documents"] is not None
    os.kill(int(db.status()["pids"]["store"]), signal.SIGKILL)
    assert db.status("store")["documents"] is not None


def test_a_detached_start_tells_every_fault_the_node_found(tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n", "lan-1", host="127.0.0.1"))
    file = made.directory / "entgldb.toml"
    file.write_text(file.read_text().replace('"lan-1"', '"bad id"') + "[sync]\ninterval = -1\n")
    with pytest.raises(EntglError) as caught:
        start_detached(made.directory)
    assert caught.value.code is ErrorCode.CONFIG
    assert "node.id" in caught.value.text
    assert "sync.interval" in caught.value.text
    assert not (made.directory / "node.json").exists()


def test_stop_leaves_nothing_and_a_second_start_is_refused(tmp_path: Path) -> None:
    made = init(Plan(tmp_path / "n", "lan-1", host="127.0.0.1"))
    pid = start_detached(made.directory)["pid"]
    pids = tree(pid)
    assert len(pids) >= 8
    with pytest.raises(EntglError) as caught:
        start_detached(made.directory)
    assert caught.value.code is ErrorCode.IN_USE
    with Database(made.directory) as db:
        db.ask("node", Ping())
    assert stop_node(made.directory) < 3
    eventually(lambda: not any(tree(one) for one in pids))
    assert not (made.directory / "node.json").exists()
    with pytest.raises(NoNodeError):
        stop_node(made.directory)
