"""A cloud says nothing again: it goes by who has expelled whom as long as an entry says so that counts."""

from __future__ import annotations

import pytest

from entgldb.messages.client import Write
from entgldb.messages.model import EXPELLED, Entry, node_of
from entgldb.storage.authorship import words
from entgldb.storage.authorship.authors import trust
from entgldb.storage.rules.authorship import cluster_of
from entgldb.storage.rules.ended import any_log, ending
from entgldb.storage.store import Store
from tests.contract.test_expelled_ahead import AHEAD, CA
from tests.contract.test_store import NOW, Bench, bench, doc

__all__ = ["bench"]


def says(bench: Bench, store: Store, gone: Store, now: int, at_ms: int = 1) -> list[Entry]:
    """It says in its own name what it knows."""
    name = store.origin.split("/")[0]
    ends = (
        ending(gone.origin, store.vector()[gone.origin][0]),
        ending(any_log(gone.origin.split("/")[0]), 0),
    )
    writes = (Write(EXPELLED, key, f'{{"Said":{{"{name}":{at_ms}}}}}'.encode()) for key in ends)
    return bench.put(store, *writes, now=now, system=True)


class Mutual:
    """Two expel each other; the cloud hears the word of ``judge`` first, ``other`` that of ``gone``."""

    def __init__(self, bench: Bench, now: int = NOW) -> None:
        self.bench = bench
        names = ("gone", "judge", "other", "late", "cloud")
        self.gone, self.judge, self.other, self.late, self.cloud = map(bench.make, names)
        with self.cloud.group():
            trust(self.cloud.connection, cluster_of(CA), CA)
        self.all(bench.put(self.gone, doc("k", b'{"v":1}')))
        self.all(bench.put(self.judge, doc("k", b'{"v":2}'), now=NOW + 1))
        self.second = bench.put(self.gone, doc("k", b'{"v":3}'), now=NOW + 2)
        self.word = says(bench, self.judge, self.gone, now)
        self.tell(self.word)
        assert self.cloud.expelled() == {"gone"}
        self.theirs = says(bench, self.gone, self.judge, NOW + 3)
        bench.apply(self.other, [*self.second, *self.theirs])
        self.again = says(bench, self.other, self.judge, NOW + 4)

    def all(self, sent: list[Entry]) -> None:
        for store in (self.gone, self.judge, self.other, self.late):
            self.bench.apply(store, sent)
        self.tell(sent)

    def tell(self, sent: list[Entry]) -> None:
        """What the gateway tells the cloud."""
        self.bench.apply(self.cloud, sent, cloud=True)


@pytest.mark.parametrize("now", [NOW, AHEAD], ids=["in the log", "held"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_word_that_no_member_has_heard_counts_no_more_once_its_writer_is_out(
    bench: Bench, now: int, *, restarted: bool
) -> None:
    one = Mutual(bench, now)
    if restarted:
        one.cloud = one.cloud.reopen(one.cloud, NOW)
    one.tell(one.again)
    assert (one.cloud.expelled(), one.other.expelled()) == ({"judge"}, {"judge"})
    one.tell([*one.second, *one.theirs])
    assert one.cloud.vector() == one.other.vector()
    assert one.cloud.get("users", "k") == one.other.get("users", "k")
    one.tell(one.word)
    assert (one.cloud.expelled(), list(one.cloud.held())) == ({"judge"}, [])


def test_a_word_that_one_that_stays_has_said_again_counts_for_good(bench: Bench) -> None:
    one = Mutual(bench)
    bench.apply(one.late, one.word)
    one.tell(says(bench, one.late, one.gone, NOW + 5))
    one.tell(one.again)
    assert one.cloud.expelled() == {"gone", "judge"}
    one.tell([*one.second, *one.theirs])
    assert one.cloud.vector()[one.gone.origin][0] == 1


def test_a_word_of_which_it_is_not_known_who_said_it_stays(bench: Bench) -> None:
    one = Mutual(bench)
    with one.cloud.group():
        one.cloud.connection.execute("DELETE FROM _entgldb_meta WHERE name >= 'word:' AND name < 'word;'")
    one.tell(says(bench, one.judge, one.gone, NOW + 5, at_ms=2))
    one.tell(one.again)
    assert one.cloud.expelled() == {"gone", "judge"}


def test_who_said_it_is_noted_of_so_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MEMBERS_MAX", 1)
    one = Mutual(bench)
    one.tell(says(bench, one.judge, one.gone, NOW + 5, at_ms=2))
    (size,) = one.cloud.connection.execute(
        "SELECT max(length(value)) FROM _entgldb_meta WHERE name >= 'word:' AND name < 'word;'"
    ).fetchone()
    assert size < 20
    one.tell(one.again)
    assert one.cloud.expelled() == {"gone", "judge"}


def test_of_so_many_logs_it_is_noted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "ORIGINS_MAX", 1)
    one = Mutual(bench)
    rows = one.cloud.connection.execute(
        "SELECT count(*) FROM _entgldb_meta WHERE name >= 'word:' AND name < 'word;'"
    )
    assert rows.fetchone() == (1,)


def spoken(bench: Bench, cloud: Store, *said: tuple[Store, Store, int]) -> list[list[Entry]]:
    """Of each word the entries: who says it, about whom, and how much of that one's log counts.

    Each is said before its writer, or anybody else, has heard of any other.
    """
    found = []
    for number, (by, about, seq) in enumerate(said):
        name = about.origin.split("/")[0]
        ends = [ending(about.origin, seq)] * (seq > 0) + [ending(any_log(name), 0)]
        found.append(
            bench.put(
                by, *(Write(EXPELLED, key, b'{"Said":{}}') for key in ends), now=NOW + number, system=True
            )
        )
    with cloud.group():
        trust(cloud.connection, cluster_of(CA), CA)
    return found


@pytest.mark.parametrize("names", ["abcd", "acbd", "dcba"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_word_counts_again_where_the_one_that_ended_its_writer_does_not(
    bench: Bench, names: str, *, at_once: bool
) -> None:
    """Three words: the last takes back the second, so that the first counts, in whatever order of names."""
    gone, first, second, third = map(bench.make, names)
    cloud = bench.make("cloud")
    said = spoken(bench, cloud, (first, gone, 0), (second, first, 0), (third, second, 0))
    if at_once:
        bench.apply(cloud, [entry for word in said for entry in word], cloud=True)
    else:
        for word in said:
            bench.apply(cloud, word, cloud=True)
        assert cloud.expelled() == {node_of(second.origin)}
        bench.apply(cloud, said[0], cloud=True)
    assert cloud.expelled() == {node_of(gone.origin), node_of(second.origin)}
    assert cloud.vector()[first.origin][0] == len(said[0])
    assert second.origin not in cloud.vector()


@pytest.mark.parametrize("rounds", [1, 2])
def test_so_long_a_chain_of_words_is_followed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(words, "ROUNDS_MAX", rounds)
    one, two, three, four, five, cloud = map(bench.make, ("one", "two", "three", "four", "five", "cloud"))
    chain = [(two, one, 0), (three, two, 0), (four, three, 0), (five, four, 0)]
    said = spoken(bench, cloud, *chain)
    bench.apply(cloud, [entry for word in said for entry in word], cloud=True)
    assert cloud.expelled() == {"four", "two"} | ({"one"} if rounds == 1 else set())
