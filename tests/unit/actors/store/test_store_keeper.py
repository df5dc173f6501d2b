"""The store behaviour on real SQLite: group commit, neighbours unharmed, answers after the commit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from entgldb.actors.ports import KeyRing
from entgldb.actors.session.staging import Stage
from entgldb.actors.session.writers import Writers
from entgldb.actors.store.behaviour import StoreKeeper
from entgldb.messages import client, codec
from entgldb.messages.administration import ResetClock
from entgldb.messages.errors import SecretError
from entgldb.messages.local.actors import (
    Applied,
    Apply,
    ApplyInitialPeers,
    Committed,
    RemotePeersChanged,
    Seen,
    SessionEnded,
)
from entgldb.messages.local.members import RememberMembers
from entgldb.messages.model import REMOTE_PEERS, Entry
from entgldb.messages.remote_peers import OAuth2
from entgldb.messages.schema import Message
from entgldb.messages.settings import StoreSettings
from entgldb.messages.wire import Member
from entgldb.storage.store import Store
from tests.support.fake_context import FakeAsker, FakeContext
from tests.support.keys import Trusting

NOW = 1_800_000_000_000


class FakeSecrets:
    """Seals by writing the secret backwards: enough to see that nothing is stored in clear."""

    ring: KeyRing | None = None

    def resolvable(self, node_id: str, oauth2: OAuth2) -> bool:
        return True

    def seal(self, node_id: str, oauth2: OAuth2, secret: str) -> str:
        if secret == "unsealable":
            raise SecretError("no cluster key here")
        return "sealed:v1:k:" + secret[::-1]

    def resealed(self, node_id: str, oauth2: OAuth2) -> OAuth2 | None:
        return None

    def matches(self, node_id: str, oauth2: OAuth2, secret: str) -> bool:
        return oauth2.client_secret in (secret, "sealed:v1:k:" + secret[::-1])


class Bench:
    """A StoreKeeper, and requests with ids that count up."""

    def __init__(self, node_id: str = "n1", role: str = "lan", seed: bytes = b"\1" * 32) -> None:
        self.store = Store.memory(node_id, seed, NOW)
        self.keeper = StoreKeeper(StoreSettings(node_id, "", role, "c"), self.store, FakeSecrets())
        self.ctx = FakeContext(wall_ms=NOW)
        self.counter = 0

    def request(self) -> client.RequestId:
        self.counter += 1
        return client.RequestId(b"c" * 16, self.counter)

    def put(self, key: str, body: bytes | None = b"{}", collection: str = "users") -> client.Commit:
        return client.Commit(self.request(), (client.Write(collection, key, body),))

    def cloud_peer(self, add: bool = True, **fields: object) -> client.PutPeer:
        given: dict[str, object] = {}
        if add:
            given = {"address": "h:9000", "authority": "https://id.example.com", "client_id": "me"}
        return client.PutPeer(self.request(), add, "cloud", **{**given, **fields})  # type: ignore[arg-type]  # by name

    def ask(self, *messages: Message) -> list[Message]:
        """All of them in one wake-up; their answers."""
        askers = []
        for message in messages:
            asker = FakeAsker()
            askers.append(asker)
            self.ctx.asker = asker
            self.keeper.handle(message, self.ctx)
        self.ctx.asker = None
        assert all(
            not asker.answers
            for asker, m in zip(askers, messages, strict=True)
            if isinstance(m, client.Commit)
        )
        self.keeper.flush(self.ctx)
        return [asker.answers[0] for asker in askers if asker.answers]

    def told(self, kind: type[Message]) -> list[tuple[str, Message]]:
        return [(actor, message) for actor, message in self.ctx.told if isinstance(message, kind)]

    def peers(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.store.documents(REMOTE_PEERS)]


def test_all_that_arrived_is_one_transaction_answered_after_it() -> None:
    bench = Bench()
    answers = bench.ask(bench.put("a"), bench.put("b"), bench.put("c"))
    assert [type(answer) for answer in answers] == [client.CommitDone] * 3
    assert [message for _, message in bench.told(Committed)] == [Committed(1, 3, 3)] * 2


def test_a_refused_request_harms_no_neighbour() -> None:
    bench = Bench()
    good, bad, also_good = bench.ask(bench.put("a"), bench.put("b", b"no json"), bench.put("c"))
    assert isinstance(bad, client.Refused)
    assert bad.code == "invalid"
    assert bad.definite
    assert isinstance(good, client.CommitDone)
    assert isinstance(also_good, client.CommitDone)
    assert bench.store.get("users", "b") is None
    assert bench.store.get("users", "c") == b"{}"


def test_a_repeated_request_is_answered_again_and_not_done_again() -> None:
    bench = Bench()
    request = bench.put("a")
    (first,) = bench.ask(request)
    (second,) = bench.ask(request)
    assert first == second
    assert bench.store.last_lsn() == 1


def test_all_writes_of_a_commit_or_none() -> None:
    bench = Bench()
    writes = (client.Write("users", "a", b"{}"), client.Write("users", "b", b"[1]"))
    (answer,) = bench.ask(client.Commit(bench.request(), writes))
    assert isinstance(answer, client.Refused)
    assert bench.store.get("users", "a") is None


def test_users_cannot_write_system_collections() -> None:
    bench = Bench()
    (answer,) = bench.ask(bench.put("cloud", b"{}", collection=REMOTE_PEERS))
    assert isinstance(answer, client.Refused)
    assert answer.code == "not-allowed"
    assert bench.keeper.counts["not-allowed"] == 1


def test_committed_is_sent_once_until_it_is_seen_and_ranges_are_merged() -> None:
    bench = Bench()
    for key in "abc":
        bench.ask(bench.put(key))
        bench.ctx.run(0.01)
    assert [actor for actor, _ in bench.told(Committed)] == ["sync", "gateway"]
    bench.ask(Seen("sync", 1))
    assert bench.told(Committed)[-1] == ("sync", Committed(2, 3, 3))


def test_who_follows_again_is_still_one_follower() -> None:
    bench = Bench()
    follower = FakeAsker()
    bench.ctx.asker = follower
    for _ in range(100):
        bench.keeper.handle(client.Follow(), bench.ctx)
    assert follower.answers == [client.Done()] * 100
    bench.ask(bench.put("a"))
    assert follower.answers[100:] == [client.Advanced(1)]


def test_followers_hear_of_commits() -> None:
    bench = Bench()
    follower = FakeAsker()
    bench.ctx.asker = follower
    bench.keeper.handle(client.Follow(), bench.ctx)
    bench.ask(bench.put("a"))
    assert follower.answers == [client.Done(), client.Advanced(1)]


def test_only_admin_messages_are_relayed() -> None:
    bench = Bench()
    (answer,) = bench.ask(client.Relay("sync", codec.encode(bench.put("a"))))
    assert isinstance(answer, client.Refused)
    assert answer.code == "not-allowed"
    (report,) = bench.ask(client.Relay("store", codec.encode(client.Status())))
    assert isinstance(report, client.Report)
    assert report.body["documents"] == 0


def test_a_cloud_peer_is_stored_with_a_sealed_secret_and_told_to_the_node() -> None:
    bench = Bench()
    (answer,) = bench.ask(bench.cloud_peer(secret="hunter2", scopes=("entgldb:sync",)))
    assert isinstance(answer, client.CommitDone)
    (peer,) = bench.peers()
    assert "hunter2" not in json.dumps(peer)
    assert json.loads(str(peer["OAuth2Json"]))["clientSecret"] == "sealed:v1:k:2retnuh"
    (actor, told) = bench.told(RemotePeersChanged)[-1]
    assert (actor, told) == ("node", RemotePeersChanged((peer,)))


def test_adding_an_equal_peer_again_changes_nothing_and_a_different_one_is_refused() -> None:
    bench = Bench()
    bench.ask(bench.cloud_peer(secret="hunter2"))
    (same,) = bench.ask(bench.cloud_peer(secret="hunter2"))
    assert same == client.CommitDone((), 0)
    (other,) = bench.ask(bench.cloud_peer(address="elsewhere:9000", secret="hunter2"))
    assert isinstance(other, client.Refused)
    assert other.code == "already-exists"
    (rotated,) = bench.ask(bench.cloud_peer(secret="another"))
    assert isinstance(rotated, client.Refused)


def test_fields_are_changed_one_by_one() -> None:
    bench = Bench()
    bench.ask(bench.cloud_peer(secret="env:S"))
    bench.ask(bench.cloud_peer(add=False, enabled=False))
    bench.ask(bench.cloud_peer(add=False, address="new:9001"))
    (peer,) = bench.peers()
    assert (peer["Address"], peer["IsEnabled"]) == ("new:9001", False)
    (unchanged,) = bench.ask(bench.cloud_peer(add=False, enabled=False))
    assert unchanged == client.CommitDone((), 0)


@pytest.mark.parametrize(
    "change",
    [
        {"authority": "https://evil.example.com"},
        {"client_id": "x"},
        {"token_endpoint": "https://evil.example.com/t"},
    ],
)
def test_a_secret_does_not_follow_to_another_authority(change: dict[str, object]) -> None:
    bench = Bench()
    bench.ask(bench.cloud_peer(secret="hunter2"))
    (refused,) = bench.ask(bench.cloud_peer(add=False, **change))
    assert isinstance(refused, client.Refused)
    assert "secret anew" in refused.text
    (done,) = bench.ask(bench.cloud_peer(add=False, secret="hunter3", **change))
    assert isinstance(done, client.CommitDone)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"address": None}, "Address"),
        ({"authority": ""}, "authority"),
        ({"client_id": None}, "client_id"),
        ({"address": "nowhere"}, "Address"),
        ({"secret": "env:"}, "secret"),
        ({"secret": "unsealable"}, "cluster key"),
        ({"type": 7}, "Type"),
        ({"auth_method": "tls_client_auth"}, "tokenEndpointAuthMethod"),
    ],
)
def test_a_bad_field_of_a_peer_is_named(fields: dict[str, object], named: str) -> None:
    bench = Bench()
    (answer,) = bench.ask(bench.cloud_peer(**fields))
    assert isinstance(answer, client.Refused)
    assert named in answer.text
    assert bench.peers() == []


def test_a_client_that_signs_has_no_secret_in_the_replicated_list() -> None:
    bench = Bench()
    bench.ask(bench.cloud_peer(secret="hunter2"))
    (done,) = bench.ask(bench.cloud_peer(add=False, auth_method="private_key_jwt"))
    assert isinstance(done, client.CommitDone)
    (peer,) = bench.peers()
    settings = json.loads(str(peer["OAuth2Json"]))
    assert (settings["clientSecret"], settings["tokenEndpointAuthMethod"]) == ("", "private_key_jwt")
    (refused,) = bench.ask(bench.cloud_peer(add=False, secret="hunter3"))
    assert isinstance(refused, client.Refused)
    assert "the key stays on its node" in refused.text
    (elsewhere,) = bench.ask(bench.cloud_peer(add=False, secret="file:gw.pem"))
    assert isinstance(elsewhere, client.CommitDone)


def test_an_unknown_peer_is_not_found() -> None:
    bench = Bench()
    answers = bench.ask(
        bench.cloud_peer(add=False, enabled=True), client.RemovePeer(bench.request(), "cloud")
    )
    assert [answer.code for answer in answers if isinstance(answer, client.Refused)] == ["not-found"] * 2


def test_initial_peers_fill_only_what_was_never_there() -> None:
    bench = Bench()
    initial = {
        "node_id": "cloud",
        "address": "h:9000",
        "authority": "https://id.example.com",
        "client_id": "me",
        "scopes": ["entgldb:sync"],
        "secret": "env:S",
    }
    broken = {"node_id": "broken"}
    bench.ask(ApplyInitialPeers((broken, initial)))
    assert [peer["NodeId"] for peer in bench.peers()] == ["cloud"]
    bench.ask(client.RemovePeer(bench.request(), "cloud"))
    bench.ask(ApplyInitialPeers((initial,)))
    assert bench.peers() == []


def test_a_cloud_node_keeps_no_peers() -> None:
    bench = Bench(role="cloud")
    (answer,) = bench.ask(bench.cloud_peer())
    assert isinstance(answer, client.Refused)
    assert answer.code == "not-allowed"


def test_a_cloud_node_resets_its_clock_and_ends_no_log() -> None:
    bench = Bench(role="cloud")
    bench.ctx._wall_ms += 864_000_000
    bench.ask(bench.put("ahead"))
    bench.ctx._wall_ms -= 864_000_000
    bench.ask(RememberMembers((Member("n2/" + "2" * 32, 1, 0, {}, bench.ctx.now_ms()),)))
    (answer,) = bench.ask(ResetClock(bench.request()))
    assert isinstance(answer, client.Report)
    assert answer.body == {"origin": bench.store.origin, "written": 0, "held": 1}
    assert (bench.store.get("users", "ahead"), bench.store.state.ended) == (None, {})


def foreign(count: int) -> tuple[Entry, ...]:
    """Entries another node wrote."""
    other = Bench("n2", seed=b"\2" * 32)
    other.ask(*(other.put(f"k{number}") for number in range(count)))
    return tuple(Entry(row.header, row.body) for row in other.store.rows(1, count))


def batch(entries: tuple[Entry, ...], number: int, round_: int = 0) -> Apply:
    return Apply("sync", "sync:1", round_, number, entries, cloud=False)


def test_batches_are_taken_in_order_or_not_at_all() -> None:
    bench = Bench()
    entries = foreign(3)
    bench.ask(
        batch(entries[:1], 0), batch(entries[2:], 2), batch(entries[1:2], 1), batch(entries, 0, round_=1)
    )
    said = [(m.round, m.batch, m.refused) for _, m in bench.told(Applied) if isinstance(m, Applied)]
    assert said == [(0, 0, ""), (0, 2, "out-of-order"), (0, 1, "out-of-order"), (1, 0, "")]
    assert bench.store.get("users", "k2") == b"{}"


def test_a_gap_in_a_log_is_refused_and_what_came_before_it_stands() -> None:
    bench = Bench()
    entries = foreign(3)
    bench.ask(batch((entries[0], entries[2]), 0))
    (_, applied) = bench.told(Applied)[-1]
    assert isinstance(applied, Applied)
    assert applied.refused == "gap"
    assert [seq for seq, _ in applied.changes.values()] == [1]


def test_the_sessions_of_a_dead_actor_are_forgotten_and_no_others() -> None:
    bench = Bench()
    entries = foreign(3)
    for session in ("sync:1", "sync:12", "gateway:1"):
        bench.ask(replace(batch(entries, 0), session=session))
    bench.ask(SessionEnded("sync"))
    bench.ask(*(replace(batch(entries, 0), session=s) for s in ("sync:1", "sync:12", "gateway:1")))
    said = [m.refused for _, m in bench.told(Applied) if isinstance(m, Applied)]
    assert said[3:] == ["", "", "out-of-order"]


def test_a_group_whose_beginning_died_with_a_session_is_not_applied_in_part() -> None:
    bench, other = Bench(), Bench("n2", seed=b"\2" * 32)
    other.ask(client.Commit(other.request(), tuple(client.Write("users", f"k{n}", b"{}") for n in range(4))))
    group = [Entry(row.header, row.body, row.signature) for row in other.store.rows(1, 4)]
    author = other.store.author(other.store.origin)
    assert author is not None

    def by(stage: Stage, entries: list[Entry], number: int, round_: int = 0) -> str:
        writers = Writers("n1", Trusting(), bench.store)
        ready = stage.take(entries, (), (author,), writers, FakeContext(), bench.keeper.count)
        bench.ask(Apply("sync", "sync:1", round_, number, ready.entries, cloud=False, fault=ready.fault))
        (_, applied) = bench.told(Applied)[-1]
        assert isinstance(applied, Applied)
        return applied.refused

    assert by(Stage(), group[:2], 0) == ""
    assert by(Stage(), group[2:], 1) == "gap"
    spoilt, stage = replace(group[2], body=b"[]"), Stage()
    assert by(stage, [*group[:2], spoilt, group[3]], 0, round_=1) == "bad-entry"
    assert by(stage, group[3:], 1, round_=1) == "out-of-order"
    assert bench.store.vector() == {}
    assert by(Stage(), group, 0, round_=2) == ""
    assert bench.store.status()["documents"] == 4


def test_after_a_restart_of_the_store_a_session_begins_anew() -> None:
    bench = Bench()
    entries = foreign(2)
    bench.ask(batch(entries[1:], 5))
    assert bench.keeper.counts["out-of-order"] == 1
    bench.ask(SessionEnded("sync:1"), batch(entries, 0))
    (_, applied) = bench.told(Applied)[-1]
    assert isinstance(applied, Applied)
    assert applied.refused == ""


def test_only_an_entry_that_is_linked_to_our_log_makes_us_another_writer() -> None:
    bench, twin = Bench(), Bench()
    bench.ask(bench.put("a"))
    for key in ("a", "b", "c"):
        twin.ask(twin.put(key))
    old = bench.store.origin
    entries = tuple(Entry(row.header, row.body) for row in twin.store.rows(1, 9))
    bench.ask(batch(entries[2:], 0))
    assert bench.store.origin == old
    bench.ask(replace(batch(entries[1:], 0), round=1))
    assert bench.store.origin != old
