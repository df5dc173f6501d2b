"""Verification between two nodes: damage is found and mended, delay is no damage, and little is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest.mock import patch

import pytest

from entgldb.actors.behaviour import Context
from entgldb.actors.oplog import verifier
from entgldb.actors.oplog.verifier import FRESH_PAUSE
from entgldb.actors.oplog.verify_run import PASSES_MAX
from entgldb.actors.oplog.walker import REST, Listing
from entgldb.messages.client import RequestId, Write
from entgldb.messages.codec import decode, encode
from entgldb.messages.errors import NotFoundError
from entgldb.messages.local.actors import SessionEnded
from entgldb.messages.local.verification import VerifyHeard, VerifyPeer, VerifySay
from entgldb.messages.model import REMOTE_PEERS, Entry, Version
from entgldb.messages.schema import Channel
from entgldb.messages.wire import Ack, Copies, Copy, CopyPiece, Items, Ranges
from entgldb.storage.rules.comparing import large_copies, reconcile
from entgldb.storage.rules.header import digest
from entgldb.storage.rules.results import Walked
from tests.unit.actors.oplog.verify_rig import NOW, Pair, Side, _Ticker

DOCUMENTS = int(os.environ.get("ENTGLDB_COMPARED", "20000"))
"""Ten bytes of each were more than all that may be said."""
UPDATE = "UPDATE _entgldb_documents SET body = ? WHERE key = ?"
DELETE = "DELETE FROM _entgldb_documents WHERE key = ?"


def doc(key: str, body: bytes | None = b'{"a":1}', collection: str = "users") -> Write:
    return Write(collection, key, body)


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.write_both(*(doc(f"k{n}") for n in range(200)))
    return made


def test_equal_nodes_say_two_frames_and_walk_once(pair: Pair) -> None:
    assert pair.run()["result"] == "equal"
    assert pair.bytes < 1500
    walks = pair.one.verifier.walker.walks
    assert pair.run(fresh=False)["result"] == "equal"
    assert pair.one.verifier.walker.walks == walks == 1


def test_a_damaged_body_and_lost_rows_are_mended_on_both_sides(pair: Pair) -> None:
    pair.one.sql(UPDATE, '{"a":2}', "k7")
    pair.one.sql(DELETE, "k8")
    pair.two.sql(UPDATE, "{", "k9")
    pair.two.sql(DELETE, "k10")
    found = pair.run()
    assert (found["result"], found["differing"], found["undecided"]) == ("repaired", 4, 0)
    for side in (pair.one, pair.two):
        assert [side.body(f"k{n}") for n in (7, 8, 9, 10)] == [b'{"a":1}'] * 4
        assert side.store.status()["documents"] == 200
        assert side.counts["repaired"] == 2
    assert pair.one.row()["repaired_here"] == pair.two.row()["repaired_here"] == 2


def test_a_stale_row_gives_way_to_the_greater_version_and_a_raised_one_to_the_tombstone(pair: Pair) -> None:
    pair.write_both(doc("k1", b'{"a":2}'), doc("k2", None))
    pair.one.sql("UPDATE _entgldb_documents SET body = ?, seq = 2, sha256 = ?, hlc = 1 WHERE key = 'k1'",
                 '{"a":1}', digest(b'{"a":1}'))  # fmt: skip
    header_hlc = pair.one.store.connection.execute(
        "SELECT hlc FROM _entgldb_documents WHERE key = 'k3'"
    ).fetchone()[0]
    pair.two.sql("UPDATE _entgldb_documents SET body = ?, seq = 3, sha256 = ?, hlc = ? WHERE key = 'k2'",
                 '{"a":1}', digest(b'{"a":1}'), header_hlc - 1)  # fmt: skip
    assert pair.run()["result"] == "repaired"
    assert pair.one.body("k1") == b'{"a":2}'
    assert pair.two.body("k2") is None


def test_without_repair_differences_are_listed_and_nothing_is_changed(pair: Pair) -> None:
    pair.one.sql(UPDATE, '{"a":2}', "k7")
    pair.two.sql(DELETE, "k8")
    found = pair.run(repair=False)
    assert found["result"] == "differing"
    assert found["keys"] == [["users", "k7", "take"], ["users", "k8", "keep"]]
    assert (pair.one.body("k7"), pair.two.body("k8")) == (b'{"a":2}', None)
    assert not pair.one.counts["repaired"] + pair.two.counts["repaired"]


def test_what_nobody_can_tell_is_listed_and_left(pair: Pair) -> None:
    for side in (pair.one, pair.two):
        side.sql("DELETE FROM _entgldb_oplog")
    pair.one.sql(UPDATE, '{"a":2}', "k7")
    pair.two.sql(UPDATE, '{"a":3}', "k7")
    found = pair.run()
    assert (found["result"], found["undecided"]) == ("differing", 1)
    assert found["keys"] == [["users", "k7", "undecided"]]
    assert (pair.one.body("k7"), pair.two.body("k7")) == (b'{"a":2}', b'{"a":3}')
    assert pair.one.counts["undecided"] == 1


def test_what_is_still_on_its_way_is_no_difference(pair: Pair) -> None:
    pair.one.write(doc("new"), doc("k1", b'{"a":5}'))
    pair.two.write(doc("other"), doc("k1", b'{"a":6}'), doc("k2", None))
    found = pair.run()
    assert (found["result"], found["differing"], found["waiting"]) == ("waiting", 0, 4)
    assert pair.two.body("new") is None
    assert pair.one.body("k2") == b'{"a":1}'


def test_the_own_log_mends_what_it_still_has_and_a_deleted_document_does_not_come_back(pair: Pair) -> None:
    pair.write_both(doc("k1", None))
    pair.two.sql(DELETE, "k1")  # collected there
    for key in ("k1", "k2"):
        pair.one.sql(
            "UPDATE _entgldb_documents SET body = '{}', sha256 = ?, hlc = 1 WHERE key = ?", digest(b"{}"), key
        )
    assert pair.run()["result"] == "repaired"
    assert [side.body("k1") for side in (pair.one, pair.two)] == [None, None]
    assert pair.one.body("k2") == b'{"a":1}'
    assert pair.one.store.status()["documents"] == 199


def test_a_damaged_document_is_not_mended_with_the_fields_that_its_last_merge_changed(pair: Pair) -> None:
    """Found by seeds 257 and 297: the log has what a merge changed, and not what became of the document."""
    ours, theirs = pair.one.write(doc("c", b'{"by":"one"}')), pair.two.write(doc("c", b'{"by":"two"}'))
    pair.one.take(theirs)
    pair.two.take(ours)
    store, first = pair.one.store, pair.one.store.last_lsn() + 1
    (loser,) = store.connection.execute(
        "SELECT o.name, c.seq FROM _entgldb_conflicts c JOIN _entgldb_origins o ON o.id = c.origin"
    )
    with store.group():
        store.resolve(RequestId(b"r" * 16, 1), ("users", "c"), Version(*loser), "", b'{"by":"both"}', NOW)
    pair.two.take([Entry(row.header, row.body) for row in store.rows(first, 10)])
    pair.one.sql(UPDATE, "{}", "c")
    assert pair.run()["result"] == "repaired"
    assert [side.body("c") for side in (pair.one, pair.two)] == [b'{"by":"both"}'] * 2


def test_what_stands_in_quarantine_on_either_side_is_no_damage(pair: Pair) -> None:
    for side, key in ((pair.one, "k1"), (pair.two, "k2")):
        side.sql(
            "INSERT INTO _entgldb_quarantine (origin, seq, hlc, collection, key, header, reason, text, at_ms)"
            " SELECT origin, seq, 1, collection, key, header, 'invalid', '', 1"
            " FROM _entgldb_oplog WHERE key = ?",
            key,
        )
        side.sql(DELETE, key)
    found = pair.run()
    assert (found["result"], found["differing"], found["waiting"]) == ("waiting", 0, 2)
    assert (pair.one.body("k1"), pair.two.body("k2")) == (None, None)


def test_what_somebody_has_dropped_stays_dropped(pair: Pair) -> None:
    for side, key in ((pair.one, "k1"), (pair.two, "k2")):
        side.sql("UPDATE _entgldb_oplog SET applied = 2 WHERE key = ?", key)
        side.sql(DELETE, key)
    pair.run()
    assert (pair.one.body("k1"), pair.two.body("k2")) == (None, None)


def test_a_peer_that_replaces_nothing_does_not_keep_a_run_alive(pair: Pair) -> None:
    pair.two.sql(DELETE, "k1")
    pair.two.verifier._mend = lambda *_: None  # type: ignore[method-assign]  # a store that is gone
    found = pair.run()
    assert (found["result"], found["keys"]) == ("differing", [["users", "k1", "keep"]])
    passes = found["passes"]
    assert isinstance(passes, int)
    assert passes < 10


def test_more_than_fits_into_one_message_or_one_pass_is_mended_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "COPIES_MAX", 3)
    monkeypatch.setattr(verifier, "ITEMS_MAX", 20)
    monkeypatch.setattr(verifier, "BATCH_BYTES_MAX", 700)
    for n in range(60):
        (pair.one if n % 2 else pair.two).sql(DELETE, f"k{n}")
    found = pair.run()
    assert (found["result"], found["differing"]) == ("repaired", 60)
    passes = found["passes"]
    assert isinstance(passes, int)
    assert passes < PASSES_MAX
    assert pair.run()["result"] == "equal"


def test_without_repair_all_that_differs_is_listed_over_several_passes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "ITEMS_MAX", 20)
    for n in range(40):
        pair.one.sql(DELETE, f"k{n}")
    assert pair.run(repair=False)["differing"] == 40


def test_an_unchanged_log_is_walked_again_when_asked_for(pair: Pair) -> None:
    assert pair.run()["result"] == "equal"
    pair.one.sql(UPDATE, '{"a":2}', "k7")
    assert pair.run(fresh=False)["result"] == "equal"
    pair.one.ctx.run(REST)
    pair.two.ctx.run(REST)
    assert pair.run(fresh=True)["result"] == "repaired"


def test_the_own_configuration_of_a_cluster_stays_off_cloud_links() -> None:
    for cloud, result in ((True, "equal"), (False, "repaired")):
        pair = Pair(cloud=cloud)
        pair.two.take(pair.one.write(doc("p1", collection=REMOTE_PEERS), system=True))
        pair.two.sql(DELETE, "p1")
        assert pair.run()["result"] == result


def test_a_cloud_cannot_slip_in_configuration_unasked() -> None:
    pair = Pair(cloud=True)
    pair.one.write(doc("p1", collection=REMOTE_PEERS), system=True)
    origin, vector = pair.one.store.origin, pair.one.store.vector()
    pair.one.sql(DELETE, "p1")
    bad = Copy(REMOTE_PEERS, "p1", origin, 1, 1, b"{}", digest(b"{}"))
    for message in (Items(1, (), b""), Copies(1, True, vector, (bad,), repair=True)):
        pair.one.verifier.on_verify_heard(VerifyHeard("sync:1", encode(message)), pair.one.ctx)
    assert pair.one.counts["out-of-order"] == 2
    pair.two.verifier.begin("", pair.two.ctx, fresh=True, repair=True)
    pair.carry()
    pair.one.verifier.on_verify_heard(
        VerifyHeard("sync:1", encode(Copies(1, True, vector, (bad,)))), pair.one.ctx
    )
    pair.carry()
    assert pair.one.counts["not-allowed"] == 1
    assert pair.one.store.get(REMOTE_PEERS, "p1") is None


def test_a_peer_that_goes_or_does_not_answer_ends_the_run(pair: Pair) -> None:
    pair.one.verifier.begin("lan-2", pair.one.ctx, fresh=True, repair=True)
    pair.one.verifier.ended(SessionEnded("sync"), pair.one.ctx)
    assert pair.one.row()["result"] == "peer-offline"
    with pytest.raises(NotFoundError):
        pair.one.verifier.begin("lan-2", pair.one.ctx, fresh=True, repair=True)
    pair.two.verifier.begin("", pair.two.ctx, fresh=True, repair=True)
    pair.carry(300.0)
    assert pair.two.row()["result"] == "no-answer"


def test_a_wish_is_kept_until_somebody_is_there(pair: Pair) -> None:
    pair.one.verifier.ended(SessionEnded("sync"), pair.one.ctx)
    pair.one.verifier.wish(pair.one.ctx)
    pair.one.sql(DELETE, "k7")
    pair.one.meet(pair.two)
    pair.carry()
    assert pair.one.row()["result"] == "repaired"


def test_a_wish_is_kept_until_a_run_has_ended_with_somebody_who_has_the_configuration(
    pair: Pair,
) -> None:
    pair.one.verifier.wish(pair.one.ctx)
    pair.one.verifier.ended(SessionEnded("sync"), pair.one.ctx)
    assert pair.one.row()["result"] == "peer-offline"
    cloud = VerifyPeer("gateway", "gateway:1", "cloud", True, True)
    pair.one.verifier.on_verify_peer(cloud, pair.one.ctx)
    pair.one.verifier.ended(SessionEnded("gateway"), pair.one.ctx)
    pair.one.sql(DELETE, "k7")
    pair.one.meet(pair.two)
    pair.carry()
    assert pair.one.verifier.status()["peers"][-1]["result"] == "repaired"
    pair.one.verifier.ended(SessionEnded("sync"), pair.one.ctx)
    pair.one.meet(pair.two)
    assert pair.one.verifier.status()["peers"][-1]["running"] is False


def test_frames_that_make_no_sense_are_counted_and_harm_nothing(pair: Pair) -> None:
    for session, payload in (("sync:9", b""), ("sync:1", b"\xc1"), ("sync:1", encode(Ack(0, 0)))):
        pair.one.verifier.on_verify_heard(VerifyHeard(session, payload), pair.one.ctx)
    assert pair.one.counts == {"out-of-order": 2, "malformed": 1}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_many_documents_and_twenty_differences_cost_less_than_100_kb() -> None:
    pair = Pair()
    body = '{"name":"somebody","age":36,"city":"somewhere","note":"' + "x" * 140 + '"}'
    for side in (pair.one, pair.two):
        side.write(doc("first", body.encode()))
        with side.store.group():
            side.store.state.loose = True
        # straight into the tables: the cost of verification is in question, not that of writing
        side.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO _entgldb_documents (collection, key, body, origin, seq, hlc, lsn, sha256)"
            " SELECT 'users', 'key-' || i, ?, 1, 1, 1, 1, ? FROM n",
            DOCUMENTS - 1,
            body,
            digest(body.encode()),
        )
        side.sql("DELETE FROM _entgldb_documents WHERE key = 'first'")
        side.sql("DELETE FROM _entgldb_oplog")
    # one log, known to both: versions are those of the same origin
    pair.two.sql("UPDATE _entgldb_origins SET name = ? WHERE id = 1", pair.one.store.origin)
    pair.two.sql(
        "UPDATE _entgldb_origins SET head = ? WHERE id = 1", pair.one.store.vector()[pair.one.store.origin][1]
    )
    pair.two.store = type(pair.two.store).reopen(pair.two.store, 0)
    pair.two.verifier._log = pair.two.store
    for n in range(10):
        pair.one.sql(DELETE, f"key-{n * 2011 + 1}")
        pair.two.sql("UPDATE _entgldb_documents SET body = '{}' WHERE key = ?", f"key-{n * 1601 + 2}")
    pair.one.verifier.begin("", pair.one.ctx, fresh=True, repair=True)
    pair.carry(3600.0)
    found = pair.one.row()
    print(f"{found['differing']} differences of {DOCUMENTS:,} documents: {pair.bytes} bytes in all passes")
    assert (found["result"], found["differing"], found["undecided"]) == ("repaired", 20, 0)
    assert pair.bytes <= 100_000


@pytest.fixture
def large() -> Pair:
    """Two nodes that show a document of some megabytes, which writers made together."""
    made = Pair()
    writers = [Side(f"writer-{n}") for n in range(3)]
    for n, side in enumerate((*writers, made.one, made.two)):
        side.store.state.merging.add("users")
        if side in writers:
            entries = side.write(doc("k", b'{"f%d":"%s"}' % (n, b"x" * 900_000)))
            for target in (made.one, made.two):
                target.take(entries)
    assert len(made.one.body("k") or b"") > 2_700_000
    return made


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_row_that_no_frame_can_carry_is_mended(large: Pair, damaged: int) -> None:
    side, other = ((large.one, large.two), (large.two, large.one))[damaged]
    row = "SELECT body, stamps, sha256 FROM _entgldb_documents WHERE key = 'k'"
    right = other.store.connection.execute(row).fetchone()
    side.sql(UPDATE, '{"a":2}', "k")
    found = large.run()
    assert (found["result"], found["undecided"]) == ("repaired", 0)
    assert side.store.connection.execute(row).fetchone() == right
    assert (side.counts["repaired"], side.counts["too-large"]) == (1, 0)
    assert large.run()["result"] == "equal"


def test_a_row_that_no_frame_can_carry_and_that_is_lost_comes_back(large: Pair) -> None:
    large.one.sql(DELETE, "k")
    large.write_both(doc("small"))
    assert large.run()["result"] == "repaired"
    assert large.one.body("k") == large.two.body("k")
    assert large.run()["result"] == "equal"


def test_pieces_that_make_no_row_are_counted_and_harm_nothing(large: Pair) -> None:
    large.one.verifier.begin("", large.one.ctx, fresh=True, repair=True)
    run = large.one.verifier.status()["peers"]
    assert run
    hear = large.one.verifier.on_verify_heard
    hear(VerifyHeard("sync:1", encode(CopyPiece(1, False, b"no row"))), large.one.ctx)
    hear(VerifyHeard("sync:1", encode(Copies(1, False, {}, ()))), large.one.ctx)
    assert large.one.counts["malformed"] == 1
    with patch.object(large_copies, "BYTES_MAX", 1000):
        for _ in range(3):
            hear(VerifyHeard("sync:1", encode(CopyPiece(1, False, b"x" * 400))), large.one.ctx)
    assert large.one.counts["too-large"] == 1
    hear(VerifyHeard("sync:1", encode(CopyPiece(9, False, b"of no run"))), large.one.ctx)
    assert large.one.counts["out-of-order"] == 1
    large.carry()
    assert large.one.row()["result"] == "equal"


def test_pieces_of_hardly_a_byte_are_counted_as_well(large: Pair) -> None:
    one = large.one
    one.verifier.begin("", one.ctx, fresh=True, repair=True)
    (state,) = one.verifier._peers.values()
    for _ in range(2 * large_copies.PIECES_MAX + 2):
        one.verifier.on_verify_heard(VerifyHeard("sync:1", encode(CopyPiece(1, False, b""))), one.ctx)
        assert len(state.pieces) <= large_copies.PIECES_MAX
    assert one.counts["too-large"] == 2


def test_what_a_peer_asks_for_is_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "ANSWERED_MAX", 20)
    monkeypatch.setattr(verifier, "COPIES_MAX", 7)
    kept = 0
    visit = Listing.visit

    def watched(self: Listing, row: Walked) -> None:
        nonlocal kept
        visit(self, row)
        if self._most == 20:
            kept = max(kept, len(self.items), len(self.keys))

    monkeypatch.setattr(Listing, "visit", watched)
    pair = Pair()
    pair.write_both(*(doc(f"k{n}") for n in range(300)))
    pair.write_both(*(doc(f"k{n}", None) for n in range(250, 300)))
    for n in (*range(100), *range(120, 240)):
        pair.one.sql(DELETE, f"k{n}")
    pair.one.sql("UPDATE _entgldb_documents SET body = ?, sha256 = ?, seq = 299, hlc = 1 WHERE key = 'k299'",
                 '{"a":1}', digest(b'{"a":1}'))  # fmt: skip
    assert pair.run()["result"] == "repaired"
    assert [pair.one.body(f"k{n}") for n in range(250)] == [b'{"a":1}'] * 250
    assert pair.one.body("k299") is None
    assert 0 < kept <= 41
    # a page as large as the asker's ranges holds its tombstones, and no others
    assert pair.run()["result"] == "equal"


def test_a_flood_of_questions_is_one_walk(pair: Pair) -> None:
    side = pair.one
    hear = side.verifier.on_verify_heard
    for n in range(50):
        hear(VerifyHeard("sync:1", encode(Ranges(n, False, b"", fresh=True))), side.ctx)
        for bucket in range(50):
            hear(VerifyHeard("sync:1", encode(Items(n, (bucket,), b""))), side.ctx)
    assert len(side.verifier.walker._jobs) == 2
    side.verifier.ended(SessionEnded("sync:1"), side.ctx)
    assert len(side.verifier.walker._jobs) == 1
    pair.carry()
    assert len(side.verifier.walker._jobs) == 0


def test_a_peer_that_always_has_more_behind_the_same_place_comes_to_an_end(pair: Pair) -> None:
    side = pair.one
    side.verifier.begin("", side.ctx, fresh=True, repair=False)
    run = side.verifier._peers["sync:1"].run
    assert run is not None
    after = []
    for _ in range(2):
        told = Copies(run.number, False, {}, (), through=b"\x10" * 8)
        side.verifier.on_verify_heard(VerifyHeard("sync:1", encode(told)), side.ctx)
        after.append(run.after)
    assert after == [b"\x10" * 8, b""]


@pytest.mark.parametrize("damaged", [0, 1])
def test_no_range_that_differs_takes_configuration_to_a_cloud(damaged: int) -> None:
    pair = Pair(cloud=True)
    peer = reconcile.bucket_of(reconcile.place_of(REMOTE_PEERS, "cloud-1"))
    names = (f"k{n}" for n in range(100_000))
    key = next(name for name in names if reconcile.bucket_of(reconcile.place_of("users", name)) == peer)
    pair.write_both(doc(key))
    # known to both: of what one has not heard of yet the log would tell, and no row be shown
    pair.two.take(pair.one.write(doc("cloud-1", b'{"a":"secret"}', REMOTE_PEERS), system=True))
    said: list[bytes] = []
    for side in (pair.one, pair.two):
        hear = side.verifier.on_verify_heard

        def heard(message: VerifyHeard, ctx: Context, hear: Callable[..., None] = hear) -> None:
            said.append(message.payload)
            hear(message, ctx)

        side.verifier.on_verify_heard = heard  # type: ignore[method-assign]  # listens in
    (pair.one, pair.two)[damaged].sql(UPDATE, '{"a":2}', key)
    pair.run()
    assert [side.store.get("users", key) for side in (pair.one, pair.two)] == [b'{"a":1}'] * 2
    assert len(said) > 4
    assert not [payload for payload in said if b"_system_" in payload or b"secret" in payload]


def test_a_peer_that_asks_again_and_again_has_a_walk_every_few_seconds(pair: Pair) -> None:
    side = pair.two
    side.ctx.behaviour = _Ticker(side)  # type: ignore[assignment]  # all it needs is handle and flush
    for n in range(100):
        question = Ranges(n + 1, False, b"", fresh=True)
        side.verifier.on_verify_heard(VerifyHeard("sync:1", encode(question)), side.ctx)
        side.ctx.run(2 * REST)
    assert side.verifier.walker.walks <= 100 * 2 * REST / FRESH_PAUSE + 1
    # what was asked last is answered at last, by a walk that began after the question
    side.sql(UPDATE, '{"a":2}', "k7")
    side.ctx.run(FRESH_PAUSE)
    said = [decode(m.payload, Channel.PEER).message for m in side.ctx.take(VerifySay)]
    assert isinstance(said[-1], Ranges)
    assert said[-1].run == 100


def test_who_verifies_twice_in_a_row_is_told_the_truth_twice(pair: Pair) -> None:
    assert pair.run()["result"] == "equal"
    pair.one.ctx.run(REST)
    pair.two.ctx.run(REST)
    pair.two.sql(UPDATE, '{"a":2}', "k7")
    assert pair.run()["result"] == "repaired"
