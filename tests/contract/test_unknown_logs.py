"""A node is expelled by one that does not know each of its logs: the word of who knows them still counts."""

from __future__ import annotations

import pytest

from entgldb.messages.client import Write
from entgldb.messages.errors import Reason
from entgldb.messages.limits import DRIFT_MS_MAX
from entgldb.messages.model import EXPELLED, Entry
from entgldb.storage.rules.ended import any_log, ending
from entgldb.storage.rules.header import decode
from entgldb.storage.store import Store
from tests.contract.test_expelled_ahead import expels
from tests.contract.test_store import NOW, Bench, bench, doc, entries

__all__ = ["bench"]

LATER = NOW + DRIFT_MS_MAX + 5_000
MERGES = doc("users", b'{"conflict":"merge"}', "_system_collections")


def shown(store: Store) -> list[tuple[str, object]]:
    return [
        (
            table,
            store.connection.execute(
                f"SELECT t.collection, t.key, o.name, t.seq, t.body FROM {table} t"
                " JOIN _entgldb_origins o ON o.id = t.origin WHERE t.collection = 'users' ORDER BY 1, 2, 3, 4"
            ).fetchall(),
        )
        for table in ("_entgldb_documents", "_entgldb_conflicts")
    ]


@pytest.mark.parametrize("when", ["before the effect", "behind the effect", "while both are held"])
@pytest.mark.parametrize("rule", ["lww", "merge"])
def test_what_was_written_upon_a_log_that_an_expeller_does_not_know_is_no_conflict_once_it_is_told(
    bench: Bench, when: str, rule: str
) -> None:
    base, gone, judge, blind, other = map(bench.make, ("base", "gone", "judge", "blind", "other"))
    held = when == "while both are held"
    stamp = LATER if held else NOW + 1
    first = bench.put(base, MERGES, system=True) if rule == "merge" else []
    first += bench.put(base, doc("k", b'{"v":0}'))
    for store in (gone, judge, other):
        bench.apply(store, first)
    cause = bench.put(gone, doc("k", b'{"v":1}'), now=stamp)
    bench.apply(judge, cause, stamp)
    effect = bench.put(judge, doc("k", b'{"v":2}'), now=stamp + 1)
    word, knows = expels(bench, blind, gone, NOW), expels(bench, judge, gone, stamp + 2)
    assert (len(word), len(knows)) == (1, 2)
    sent = [word, cause, effect] if when == "before the effect" else [cause, effect, word]
    for some in sent:
        bench.apply(other, some, NOW if held else stamp)
    assert gone.origin not in {**other.vector(), **other.held()}
    with other.group():
        other.release_held(LATER)
    bench.apply(other, [*knows, *cause], LATER)
    assert other.vector()[gone.origin] == judge.vector()[gone.origin]
    assert shown(other) == shown(judge)


@pytest.mark.parametrize("told", ["in the log", "only in the word"])
def test_what_names_a_version_that_is_late_hides_no_conflict(bench: Bench, told: str) -> None:
    """Where the end is known and the entry is not here yet, a rival that the effect did not know stays."""
    gone, judge, rival, other = map(bench.make, ("gone", "judge", "rival", "other"))
    cause = bench.put(gone, doc("k", b'{"v":1}'))
    bench.apply(judge, cause)
    effect = bench.put(judge, doc("k", b'{"v":2}'), now=NOW + 1)
    beside = bench.put(rival, doc("k", b'{"v":3}'), now=NOW + 2)
    knows = expels(bench, judge, gone, NOW + 3)
    bench.apply(judge, beside, NOW + 3)
    first, then = (cause, []) if told == "in the log" else ([], cause)
    for some in (first, beside):
        bench.apply(other, some, NOW + 3)
    with other.group():
        for key in map(_key, knows):
            other.state.expel(other.connection, key)
    for some in (effect, then):
        bench.apply(other, some, NOW + 3)
    assert shown(other) == shown(judge)
    assert [len(rows) for _, rows in shown(other)] == [1, 1]


def test_an_entry_that_is_taken_out_has_replaced_nothing_that_comes_later(bench: Bench) -> None:
    """What it named stood beside what others wrote, and does so once it comes."""
    gone, second, judge, blind, other = map(bench.make, ("gone", "second", "judge", "blind", "other"))
    first = bench.put(second, doc("other"))
    cause = bench.put(gone, doc("k", b'{"v":1}'))
    for store, some in ((judge, first), (judge, cause), (second, cause)):
        bench.apply(store, some)
    effect = bench.put(second, doc("k", b'{"v":2}'), now=NOW + 1)
    rival = bench.make("rival")
    apart = bench.put(rival, doc("k", b'{"v":3}'), now=NOW + 3)
    knows = [*expels(bench, judge, gone, NOW + 4), *expels(bench, judge, second, NOW + 5)]
    bench.apply(judge, apart, NOW + 5)
    for some in (first, apart, expels(bench, blind, gone, NOW), effect, knows, cause):
        bench.apply(other, some, NOW + 5)
    assert other.vector()[second.origin] == judge.vector()[second.origin]
    assert shown(other) == shown(judge)


def test_nothing_is_taken_from_one_that_is_out(bench: Bench) -> None:
    """It may have expelled others itself: it gives what was written upon their entries, and not those."""
    judge, gone, other = map(bench.make, ("judge", "gone", "other"))
    expels(bench, judge, gone, NOW)
    bench.apply(other, entries(judge))
    more = bench.put(judge, doc("k", b'{"a":2}'))
    with other.group():
        refused = other.apply(more, NOW, peer="gone")
        taken = other.apply(more, NOW, peer="judge")
    assert (refused.refused, refused.changes) == (Reason.EXPELLED.value, {})
    assert (taken.refused, other.vector()) == ("", judge.vector())


@pytest.mark.parametrize("heard", [False, True], ids=["with the word", "by a word that comes later"])
def test_the_last_entry_that_counts_gets_its_own_proof_by_the_word(bench: Bench, *, heard: bool) -> None:
    """A node that knew only a later proof could show the end of that log to nobody."""
    gone, judge, other = map(bench.make, ("gone", "judge", "other"))
    for key in ("one", "two"):
        bench.put(gone, doc(key))
    one, two = gone.rows(1, 2)
    author = gone.author(gone.origin)
    assert one.signature is not None
    assert two.signature is not None
    assert author is not None
    if heard:
        with other.group():
            other.state.expel(other.connection, ending(gone.origin, 1))
    bench.apply(other, [Entry(one.header, one.body), Entry(two.header, two.body, two.signature)])
    with other.group():
        other.keep_authors([author])
    said = f'{{"Said":{{"judge":1}},"Signatures":{{"judge":"{one.signature.hex()}"}}}}'.encode()
    ends = Write(EXPELLED, ending(gone.origin, 1), said), Write(EXPELLED, ending(any_log("gone"), 0), said)
    bench.apply(other, bench.put(judge, *ends, system=True))
    assert other.vector()[gone.origin][0] == other.signed_upto(gone.origin) == 1


def test_an_entry_that_comes_again_brings_its_own_proof(bench: Bench) -> None:
    """A later one has proved it, and is taken out by a word without a proof."""
    gone, judge, other = map(bench.make, ("gone", "judge", "other"))
    for key in ("one", "two"):
        bench.put(gone, doc(key))
    one, two = (Entry(row.header, row.body, row.signature) for row in gone.rows(1, 2))
    bench.apply(other, [Entry(one.header, one.body), two])
    said = b'{"Said":{"judge":1}}'
    ends = Write(EXPELLED, ending(gone.origin, 1), said), Write(EXPELLED, ending(any_log("gone"), 0), said)
    bench.apply(other, bench.put(judge, *ends, system=True))
    assert (other.vector()[gone.origin][0], other.signed_upto(gone.origin)) == (1, 0)
    assert bench.apply(other, [one]).counts == {"duplicate": 1}
    assert other.signed_upto(gone.origin) == 1


def _key(entry: Entry) -> str:
    return decode(entry.header).key
