"""A new cluster key: made for the members, taken once it counts, and no other held once nobody needs one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entgldb.actors.cluster_key import KEYS_MAX, ClusterKeys
from entgldb.actors.store.members.keys import OLDER_MAX, TEND_SECONDS, known_outside
from entgldb.actors.tls.attestation import CaOfCluster
from entgldb.launch.testing.edges import VirtualSecrets
from entgldb.launch.testing.keys import VirtualRing, id_of, keys_of, own_key, proof_of
from entgldb.launch.testing.world import World
from entgldb.messages.administration import ExpelNode, RotateKey
from entgldb.messages.client import CommitDone, Refused, RequestId, Write
from entgldb.messages.limits import HELLO_BYTES_MAX, MEMBERS_MAX
from entgldb.messages.local.members import NodesChanged, NoteSelf
from entgldb.messages.model import EXPELLED, KEYS, NODES, Entry
from entgldb.messages.schema import Json
from entgldb.messages.secret import Secret
from entgldb.messages.wire import Member
from entgldb.storage.authorship.cluster_keys import CHAIN_MAX, cas_in, chain_in, newest
from entgldb.storage.authorship.identity import origin_of
from entgldb.storage.log.read import LogReader
from entgldb.storage.rules.clock import from_ms
from entgldb.storage.rules.ended import any_log, ending
from entgldb.storage.rules.members import pinned_key
from entgldb.storage.store import Store
from tests.unit.actors.store.test_store_keeper import NOW, Bench


class Holder:
    """A node that holds keys."""

    word, stolen_by = "tests", ""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: ClusterKeys | None = None


class Rig(Bench):
    def __init__(self) -> None:
        super().__init__()
        self.me, self.world = Holder("n1"), World(1)
        self.ring = VirtualRing(self.me, self.world)
        self.keeper.secrets = VirtualSecrets(self.ring)
        self.ctx.behaviour = self.keeper
        self.ask(NoteSelf(own_key(self.me)))

    def row(self, name: str, **more: Json) -> None:
        """Another member tells of itself."""
        member = Holder(name)
        told = {"NodeId": name, "Incarnation": "2" * 32, "Keys": {own_key(member): 5}, **more}
        box = told.setdefault("Box", VirtualRing(member, self.world).box)
        told.setdefault("BoxProof", proof_of(own_key(member), str(box), name))
        self.put_system(NODES, {name: told})

    def put_system(self, collection: str, documents: dict[str, dict[str, Json]]) -> None:
        """Another member writes."""
        writes = [Write(collection, key, json.dumps(body).encode()) for key, body in documents.items()]
        with self.store.group():
            self.store.write(self.request(), writes, 0, system=True)

    def rotate(self) -> dict[str, Any]:
        (done,) = self.ask(RotateKey(self.request()))
        assert isinstance(done, CommitDone)
        self.ask(NoteSelf())
        found: dict[str, Any] = json.loads(self.store.get(KEYS, self.ring.held()[0]) or b"{}")
        return found

    def own_row(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.get(NODES, "n1") or b"{}")
        return found


def test_a_new_key_is_made_for_each_member_and_taken_by_the_one_that_made_it() -> None:
    rig = Rig()
    first = rig.ring.held()[0]
    assert rig.own_row()["ClusterKey"] == first
    rig.row("n2")
    rig.row("n3", Retired="2" * 32)
    rig.row("n4", Box="")
    made = rig.rotate()
    assert sorted(made["For"]) == ["n1", "n2", "n4"]
    assert made["For"]["n2"]["Key"] == own_key(Holder("n2"))
    assert rig.ring.held()[1:] == (first,), "n2 has not moved"
    assert rig.own_row()["ClusterKey"] == rig.ring.held()[0]
    # no body of the collection holds a key that is held, in clear
    bodies = b"".join(body for _, body in rig.store.documents(KEYS))
    opened = VirtualRing(Holder("n2"), rig.world).open(made["For"]["n2"]["Sealed"], rig.ring.held()[0], "n2")
    assert opened is not None
    assert opened == keys_of(rig.me).keys[0]
    assert bodies.count(keys_of(rig.me).keys[0].reveal().hex().encode()) == 2, "n4 has told no box"


def test_an_older_key_is_dropped_once_each_member_has_moved() -> None:
    rig = Rig()
    rig.row("n2")
    rig.rotate()
    key_id = rig.ring.held()[0]
    rig.row("n2", ClusterKey=key_id)
    rig.ask(NoteSelf())
    assert rig.ring.held() == (key_id,)


@pytest.mark.parametrize("older_too", [True, False])
def test_a_restored_database_goes_by_a_key_that_it_knows_and_drops_no_other(older_too: bool) -> None:
    rig = Rig()
    rig.row("n2")
    rig.rotate()
    second = keys_of(rig.me).keys[0]
    rig.row("n2", ClusterKey=id_of(second))
    rig.ask(NoteSelf())
    third = Secret(bytes([7]) * 32)
    keys = (third, second) if older_too else (third,)
    rig.me.taken = ClusterKeys(keys, keys_of(rig.me).name)
    for _ in range(3):
        rig.ask(NoteSelf())
        assert keys_of(rig.me).keys == ((second, third) if older_too else (third,))


def test_secrets_are_sealed_under_the_key_that_counts_before_an_older_one_is_dropped() -> None:
    rig = Rig()
    rig.ask(rig.cloud_peer(secret="hunter2"))
    (before,) = rig.peers()
    rig.rotate()
    key_id = rig.ring.held()[0]
    assert len(rig.ring.held()) == 2, "a secret needs the older one"
    rig.ctx.run(TEND_SECONDS)
    (after,) = rig.peers()
    assert before != after
    assert f"sealed:v1:{key_id}:" in str(after)
    assert rig.ring.held() == (key_id,)


def test_the_one_that_is_expelled_gets_no_key_in_the_same_transaction() -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("n3")
    (done,) = rig.ask(ExpelNode(rig.request(), "n2"))
    assert isinstance(done, CommitDone)
    rotation = rig.store.rotation()
    assert rotation is not None
    assert sorted(rotation.sealed) == ["n1", "n3"]
    assert rig.ring.held()[0] == rotation.key_id
    assert len(done.written) == 2, "who is out, and the key"


def test_no_key_is_made_that_others_would_hold() -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("x")
    rig.store.state.clock = from_ms(NOW + 3_600_000)
    (refused,) = rig.ask(RotateKey(rig.request()))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.definite) == ("clock", True)
    (done,) = rig.ask(ExpelNode(rig.request(), "x"))
    assert isinstance(done, CommitDone)
    rig.ctx.run(2 * TEND_SECONDS)
    assert (rig.store.expelled(), rig.store.rotation()) == ({"x"}, None)
    rig.ctx.run(3_600.0)
    rig.ask(NoteSelf())
    rig.ctx.run(TEND_SECONDS)
    rotation = rig.store.rotation()
    assert rotation is not None
    assert sorted(rotation.sealed) == ["n1", "n2"]


def test_only_the_newest_keys_are_kept_and_the_chain_of_cas_has_a_limit() -> None:
    rig = Rig()
    rig.row("n2")
    first = rig.ring.held()[0]
    for number in range(CHAIN_MAX - 1):
        made = rig.rotate()
        assert len(made["Chain"]) == number + 2
        assert made["Chain"][0] == [first, ""]
    assert len(made["Chain"]) == CHAIN_MAX
    more = rig.rotate()
    assert more["Chain"][:-1] == made["Chain"][1:], "a member that has made so many keeps nobody from another"
    rig.ask(ExpelNode(rig.request(), "n2"))
    rotation = rig.store.rotation()
    assert rotation is not None
    assert rotation.key_id == rig.ring.held()[0] != more["Chain"][-1][0]
    assert len(rotation.chain) == CHAIN_MAX
    assert len(rig.ring.held()) == KEYS_MAX
    assert len(rig.store.documents(KEYS)) <= KEYS_MAX + 1


def test_authors_are_attested_by_a_new_key_when_it_is_taken_and_never_later() -> None:
    rig = Rig()
    old = CaOfCluster.of(keys_of(rig.me).keys[0])
    rig.row("n2")  # it may still come by the first key

    def named(number: int) -> tuple[bytes, bytes]:
        """The attestation of another writer by the first key, and the one in the file."""
        origin, public = origin_of(f"n{number}", bytes([number]) * 32)
        with rig.store.group():
            rig.store.connection.execute(
                "INSERT OR IGNORE INTO _entgldb_origins (name, seq, head, public_key, attestation)"
                " VALUES (?, 0, x'', ?, ?)",
                (origin, public, old.attest(f"n{number}", public)),
            )
        kept = LogReader(rig.store.connection).author(origin)
        assert kept is not None
        return old.attest(f"n{number}", public), kept.attestation

    before, kept = named(7)
    assert before == kept
    rig.rotate()
    assert len(rig.ring.held()) == 2
    before, kept = named(7)
    assert before != kept
    named(8)
    rig.ask(NoteSelf())
    before, kept = named(8)
    assert before == kept, "a machine with a copy of the first key may have attested it meanwhile"


def test_of_several_keys_the_one_with_the_greatest_stamp_counts_in_whatever_order_they_came() -> None:
    ids = [id_of(Secret(bytes([number]) * 32)) for number in range(3)]
    bodies = [
        json.dumps({"By": "n1", "For": {}, "Chain": [["ab" * 32, ""], [key_id, "cd" * 64]]}).encode()
        for key_id in ids
    ]
    body = bodies[0]
    rows = [(ids[0], body, 7, "a/1"), (ids[1], bodies[1], 9, "a/1"), (ids[2], bodies[2], 9, "b/1")]
    for order in (rows, rows[::-1], rows[1:] + rows[:1]):
        found = newest(order)
        assert found is not None
        assert (found.key_id, found.by) == (ids[2], "b"), "the maker is whoever wrote it"
    cut = body.replace(b"cd" * 64, b"cd" * 63)
    for nonsense in (b"[]", b"{}", b'{"For": 5}', b"7", b'{"For": {}}', b'{"For": {}, "Chain": []}', cut):
        assert newest([(ids[0], nonsense, 7, "a/1")]) is None
    assert newest([("no key", body, 7, "a/1")]) is None
    assert newest([(ids[1], body, 7, "a/1")]) is None, "the chain ends in another"


def test_the_key_of_one_that_was_expelled_counts_no_more_whomever_it_names_as_its_maker() -> None:
    rig, gone = Rig(), Store.memory("n2", bytes(32), NOW)
    rig.row("n2")
    key_id = id_of(Secret(b"k" * 32))
    chain = [[rig.ring.held()[0], ""], [key_id, "cd" * 64]]
    body = json.dumps({"By": "n3", "For": {"n1": {"Key": "", "Sealed": ""}}, "Chain": chain}).encode()
    with gone.group():
        gone.write(rig.request(), [Write(KEYS, key_id, body)], NOW, system=True)
    row = gone.rows(1, 1)[0]
    with rig.store.group():
        rig.store.apply([Entry(row.header, row.body)], NOW)
    assert not known_outside(rig.store, rig.ring)
    said: dict[str, Json] = {"Said": {"n3": 1}}
    rig.put_system(EXPELLED, {ending(gone.origin, 1): said, ending(any_log("n2"), 0): said})
    assert known_outside(rig.store, rig.ring)


def test_a_node_without_a_cluster_key_makes_none() -> None:
    bench = Bench()
    (refused,) = bench.ask(RotateKey(RequestId(b"c" * 16, 9)))
    assert isinstance(refused, Refused)


@pytest.mark.parametrize(
    "chain",
    [
        [["ab" * 32, ""], *[["cd" * 32, "ef" * 64]] * CHAIN_MAX],
        [["ab" * 32, ""], ["cd" * 32, "ef" * 65]],
        [["ab" * 32, ""], ["cd" * 33, "ef" * 64]],
        [["ab" * 32, ""], ["cd" * 32, ""]],
        [["ab" * 32, ""], ["cd" * 32]],
        [["ab" * 32, ""], 5],
        [],
        {"a": 1},
    ],
)
def test_a_chain_that_hello_has_no_room_for_is_none(chain: Json) -> None:
    assert chain_in(json.dumps({"Chain": chain}).encode()) == ()


def test_the_longest_chain_finds_room_in_hello() -> None:
    body = json.dumps({"Chain": [["ab" * 32, "ef" * 4000], *[["cd" * 32, "ef" * 64]] * (CHAIN_MAX - 1)]})
    ca_key, successors = cas_in(body.encode())
    assert len(successors) == CHAIN_MAX - 1
    assert len(ca_key) + sum(len(key) + len(by) + 8 for key, by in successors) < HELLO_BYTES_MAX / 4


def test_a_node_that_has_joined_and_knows_nobody_yet_makes_no_key() -> None:
    rig = Rig()
    rig.me.taken = ClusterKeys((Secret(bytes([5]) * 32),), "0123456789abcdef")
    (refused,) = rig.ask(RotateKey(rig.request()))
    assert isinstance(refused, Refused)
    assert refused.code == "not-allowed"
    assert "does not know the members yet" in refused.text
    rig.row("x")
    (done,) = rig.ask(ExpelNode(rig.request(), "x"))
    assert isinstance(done, CommitDone), "the expulsion stands alone"
    rig.ctx.run(TEND_SECONDS)
    assert rig.store.expelled() == {"x"}
    assert rig.store.rotation() is None


def test_a_member_without_a_box_comes_by_the_old_key_and_gets_another_once_it_has_told_one() -> None:
    rig = Rig()
    rig.row("n2", Box="")
    rig.row("n3")
    made = rig.rotate()
    assert made["For"]["n2"] == {"Key": own_key(Holder("n2")), "Sealed": ""}
    rotation = rig.store.rotation()
    assert rotation is not None
    assert rotation.is_for("n2", own_key(Holder("n2")))
    assert rotation.lacking == ["n2"]
    rig.row("n3", ClusterKey=rotation.key_id)
    rig.ctx.run(TEND_SECONDS)
    assert len(rig.ring.held()) == 2, "n2 needs the older one"
    assert rig.store.rotation() == rotation
    rig.row("n2")
    rig.ask(NoteSelf())
    rig.ctx.run(TEND_SECONDS)
    after = rig.store.rotation()
    assert after is not None
    assert after.key_id != rotation.key_id
    assert after.lacking == []


def test_an_older_key_is_held_for_a_member_that_was_away_although_nobody_else_may_come_by_it() -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("x")
    rig.ask(ExpelNode(rig.request(), "x"))
    rig.ask(NoteSelf())
    newest, *older = rig.ring.held()
    assert len(older) == 1
    rig.row("n2", ClusterKey=newest)
    rig.ask(NoteSelf())
    assert rig.ring.held() == (newest,)


def test_after_an_update_the_first_key_is_left_once_each_member_can_be_given_another() -> None:
    rig = Rig()
    rig.row("n2", Box="")
    rig.row("x", Box="")
    rig.keeper.secrets = VirtualSecrets(None)  # the release before makes no key
    rig.ask(ExpelNode(rig.request(), "x"))
    rig.keeper.secrets = VirtualSecrets(rig.ring)
    rig.ask(NoteSelf())
    rig.ctx.run(TEND_SECONDS)
    assert rig.store.rotation() is None
    rig.row("n2")
    rig.ask(NoteSelf())
    rig.ctx.run(TEND_SECONDS)
    rotation = rig.store.rotation()
    assert rotation is not None
    assert sorted(rotation.sealed) == ["n1", "n2"]


def test_a_key_that_one_has_made_who_is_out_is_not_the_last_one() -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("x")
    chain = [[rig.ring.held()[0], ""], ["ab" * 32, "cd" * 64]]
    body = {"By": "x", "For": {"n1": {"Key": "", "Sealed": ""}}, "Chain": chain}
    rig.put_system(KEYS, {"ab" * 32: body})
    rig.keeper.secrets = VirtualSecrets(None)
    rig.ask(ExpelNode(rig.request(), "x"))
    rig.keeper.secrets = VirtualSecrets(rig.ring)
    rig.ask(NoteSelf())
    rig.ctx.run(2 * TEND_SECONDS)
    rotation = rig.store.rotation()
    assert rotation is not None
    assert rotation.by == "n1"


def test_no_key_is_sealed_to_a_box_that_another_member_wrote_and_its_own_is_not_lost() -> None:
    rig = Rig()
    rig.row("n2")
    forged = VirtualRing(Holder("x"), rig.world)
    for proof in ("", proof_of(own_key(Holder("x")), forged.box, "n2")):
        rig.row("n2", Box=forged.box, BoxProof=proof)
        made = rig.rotate()["For"]["n2"]
        assert made == {"Key": own_key(Holder("n2")), "Sealed": ""}, "it comes by the key before"
    rotation = rig.store.rotation()
    assert rotation is not None
    assert rotation.lacking == ["n2"]
    rig.row("n2")
    rig.ask(NoteSelf())
    rig.ctx.run(2 * TEND_SECONDS)
    again = rig.store.rotation()
    assert again is not None
    assert again.sealed["n2"][1].startswith(VirtualRing(Holder("n2"), rig.world).box)


JUNK = {
    "huge names": lambda rig: {f"g{i}": {"NodeId": str(i) * 540_000, "Box": "ab" * 32} for i in (1, 2)},
    "many": lambda rig: {
        f"g{i}": {"NodeId": f"g{i}", "Box": "ab" * 32, "Keys": {own_key(Holder("x")): 5}} for i in range(4200)
    },
    "another's name": lambda rig: {"zz": {"NodeId": "n2", "Box": "ab" * 32, "Keys": {"ab" * 32: 1}}},
}


@pytest.mark.parametrize("junk", JUNK)
def test_no_rows_of_a_member_hinder_its_expulsion_or_a_new_key(junk: str) -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("x")
    with rig.store.group():
        rig.store.remember_members([Member("n2/" + "2" * 32, 1, NOW, {})], NOW, cloud=False)
    rig.put_system(NODES, JUNK[junk](rig))
    (done,) = rig.ask(ExpelNode(rig.request(), "x"))
    assert isinstance(done, CommitDone)
    assert rig.store.expelled() == {"x"}
    rotation = rig.store.rotation()
    assert rotation is not None
    assert "x" not in rotation.sealed
    assert len(rotation.sealed) <= MEMBERS_MAX
    assert rotation.sealed["n2"][0] == own_key(Holder("n2"))
    assert rotation.sealed["n2"][1].startswith(VirtualRing(Holder("n2"), rig.world).box)


def test_nobody_is_told_of_a_row_under_a_key_that_is_not_its_own_name() -> None:
    rig = Rig()
    rig.row("n2")
    rig.put_system(NODES, JUNK["another's name"](rig) | {"n9": {"NodeId": "n9"}})
    rig.ask(NoteSelf())
    told = [message.nodes for _, message in rig.ctx.told if isinstance(message, NodesChanged)]
    assert sorted(str(node["NodeId"]) for node in told[-1]) == ["n1", "n2", "n9"]
    assert [pinned_key(node) for node in told[-1] if node["NodeId"] == "n2"] == [own_key(Holder("n2"))]


def test_documents_that_are_no_keys_hinder_nothing_and_go_a_part_with_each_new_key() -> None:
    rig = Rig()
    rig.row("x")
    rig.put_system(KEYS, {f"junk{i}": {} for i in range(OLDER_MAX + 5)})
    (done,) = rig.ask(ExpelNode(rig.request(), "x"))
    assert isinstance(done, CommitDone)
    assert len(rig.store.documents(KEYS)) == 6
    rig.rotate()
    assert len([key for key, _ in rig.store.documents(KEYS) if key.startswith("junk")]) == 0


@pytest.mark.parametrize(
    "body", [b"{}", b'{"For": {}, "Chain": [["ab", ""]]}', None], ids=["junk", "chain", "deleted"]
)
def test_a_member_that_spoils_the_document_of_the_key_does_not_hinder_the_next_one(
    body: bytes | None,
) -> None:
    rig = Rig()
    rig.row("n2")
    rig.row("x")
    rig.rotate()
    spoilt = rig.ring.held()[0]
    with rig.store.group():
        rig.store.write(rig.request(), [Write(KEYS, spoilt, body)], 0, system=True)
    rig.ask(ExpelNode(rig.request(), "x"))
    rig.ask(NoteSelf())
    rotation = rig.store.rotation()
    assert rotation is not None
    assert (sorted(rotation.sealed), rotation.key_id) == (["n1", "n2"], rig.ring.held()[0])
    assert rotation.chain[0] == (spoilt, "")


def test_the_failing_of_the_key_does_not_undo_the_expulsion(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.row("x")
    with monkeypatch.context() as patch:
        patch.setattr(rig.ring, "vouch", lambda key_id: "ab" * 1_000_000)
        (done,) = rig.ask(ExpelNode(rig.request(), "x"))
    assert isinstance(done, CommitDone)
    assert rig.store.expelled() == {"x"}
    assert rig.store.rotation() is None
    rig.ctx.run(TEND_SECONDS)
    assert rig.store.rotation() is not None
