"""Another client secret of a cloud peer beside the one before: how it is put, how it goes, who knows it."""

from __future__ import annotations

import json

import pytest

from entgldb.messages.administration import ExpelNode, Happened, RotateSecret
from entgldb.messages.client import CommitDone, Refused, Write
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import SECRET_OVERLAP_MS_MAX
from entgldb.messages.local.members import SettleSecret
from entgldb.messages.model import NODES, REMOTE_PEERS
from entgldb.messages.remote_peers import OAuth2, PeerType, RemotePeer, read_peer
from entgldb.messages.schema import Message
from tests.unit.actors.store.test_auditing import rows
from tests.unit.actors.store.test_store_keeper import NOW, Bench

HOUR_MS = 3_600_000


class Rotating(Bench):
    """A store with one cloud peer."""

    def __init__(self, **peer: object) -> None:
        super().__init__()
        self.ask(self.cloud_peer(**{"secret": "old", **peer}))

    def rotate(self, secret: str, overlap_ms: int = HOUR_MS, node_id: str = "cloud") -> Message:
        (done,) = self.ask(RotateSecret(self.request(), node_id, secret, overlap_ms))
        return done

    def settle(self, secret: str) -> None:
        self.ask(SettleSecret("cloud", secret))

    def oauth2(self) -> OAuth2:
        found = read_peer(json.loads(self.store.get(REMOTE_PEERS, "cloud") or b"{}")).oauth2
        assert found is not None
        return found

    def both(self) -> tuple[str, str]:
        return self.oauth2().client_secret, self.oauth2().previous_secret


def sealed(secret: str) -> str:
    return "sealed:v1:k:" + secret[::-1]


def refused(done: Message, code: str) -> None:
    assert isinstance(done, Refused)
    assert done.code == code


def test_the_new_one_is_sealed_beside_the_one_before_and_only_the_audit_log_tells() -> None:
    bench = Rotating()
    assert isinstance(bench.rotate("new"), CommitDone)
    assert bench.both() == (sealed("new"), sealed("old"))
    assert bench.oauth2().previous_until == NOW + HOUR_MS
    assert b'"new"' not in (bench.store.get(REMOTE_PEERS, "cloud") or b"")
    act = rows(bench)[-1]
    assert (act.event, act.subject, act.outcome) == ("key", "cloud", "client secret rotated")


def test_the_one_before_goes_by_the_word_that_this_new_one_was_taken() -> None:
    bench = Rotating()
    bench.rotate("new")
    bench.settle(sealed("another"))
    bench.settle("")
    assert bench.both() == (sealed("new"), sealed("old")), "of another secret, and before its time is over"
    bench.settle(sealed("new"))
    assert bench.both() == (sealed("new"), "")
    happened = [message.outcome for actor, message in bench.told(Happened)]
    assert happened == ["client secret before it gone: the new one was taken"]
    last = bench.store.last_lsn()
    bench.settle(sealed("new"))
    assert bench.store.last_lsn() == last


def test_the_one_before_goes_once_its_time_is_over() -> None:
    bench = Rotating()
    bench.rotate("new", 1000)
    bench.ctx.run(2.0)
    bench.settle("")
    assert bench.both() == (sealed("new"), "")


def test_a_third_one_takes_the_place_of_the_second_and_a_plain_change_that_of_both() -> None:
    bench = Rotating()
    bench.rotate("mistyped")
    bench.rotate("new")
    assert bench.both() == (sealed("new"), sealed("old"))
    bench.ask(bench.cloud_peer(add=False, secret="env:S"))
    assert bench.both() == ("env:S", "")


def test_a_peer_with_two_secrets_is_still_the_one_that_was_added() -> None:
    bench = Rotating()
    bench.rotate("new")
    (done,) = bench.ask(bench.cloud_peer(secret="new"))
    assert done == CommitDone((), 0)


def test_another_way_to_authenticate_leaves_no_sealed_secret() -> None:
    bench = Rotating()
    bench.rotate("new")
    bench.ask(bench.cloud_peer(add=False, auth_method="private_key_jwt"))
    assert bench.both() == ("", "")
    refused(bench.rotate("newer"), "invalid")


@pytest.mark.parametrize("overlap_ms", [0, SECRET_OVERLAP_MS_MAX + 1])
def test_an_overlap_has_limits(overlap_ms: int) -> None:
    refused(Rotating().rotate("new", overlap_ms), "invalid")


def test_a_secret_that_is_there_already_or_empty_or_of_no_peer_is_refused() -> None:
    bench = Rotating()
    refused(bench.rotate("old"), "invalid")
    refused(bench.rotate(""), "invalid")
    refused(bench.rotate("unsealable"), "secret")
    refused(bench.rotate("new", node_id="nobody"), "not-found")
    cloud = Bench(role="cloud")
    (done,) = cloud.ask(RotateSecret(cloud.request(), "cloud", "new", HOUR_MS))
    refused(done, "not-allowed")


def test_who_was_expelled_knows_the_secrets_that_were_sealed_before() -> None:
    bench = Rotating()
    with bench.store.group():
        row = json.dumps({"NodeId": "n9", "Incarnation": "2" * 32}).encode()
        bench.store.write(bench.request(), [Write(NODES, "n9", row)], 0, system=True)
    (done,) = bench.ask(ExpelNode(bench.request(), "n9"))
    assert isinstance(done, CommitDone)
    out = len(bench.store.expelled())
    assert out == 1
    assert bench.oauth2().is_known_outside(out)
    bench.rotate("new")
    assert bench.oauth2().expelled_before == out
    assert not bench.oauth2().is_known_outside(out)
    assert bench.oauth2().is_known_outside(out + 1)


def test_half_of_a_secret_before_is_none() -> None:
    made = RemotePeer("c", "h:1", PeerType.CLOUD_REMOTE, OAuth2("https://a.example", "me", "env:S"), True)
    document = made.to_document()
    for half in ({"Until": 5}, {"Secret": "env:S"}, {"Secret": "in clear", "Until": 5}, "env:S", 5):
        assert read_peer({**document, "PreviousSecret": half}) == made
    with pytest.raises(InvalidError):
        read_peer(
            {
                **document,
                "OAuth2Json": '{"authority":"https://a.example","clientId":"me","expelledBefore":"x"}',
            }
        )
