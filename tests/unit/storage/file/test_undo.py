"""Containers that go back to an earlier moment."""

from __future__ import annotations

import random

import pytest

from entgldb.storage.file.undo import UndoDict, UndoSet


@pytest.mark.parametrize("seed", range(20))
def test_they_are_what_they_were_at_each_moment(seed: int) -> None:
    draw = random.Random(seed)
    numbers, names = UndoDict({1: "one"}), UndoSet(["a"])
    journal = names.journal = numbers.journal
    moments: list[tuple[int, dict[int, str], set[str]]] = []
    for _ in range(200):
        key, name = draw.randrange(6), draw.choice("abcdef")
        match draw.randrange(6):
            case 0:
                numbers[key] = draw.choice("xyz")
            case 1:
                numbers.discard(key)
            case 2:
                names.add(name)
            case 3:
                names.discard(name)
            case 4:
                moments.append((len(journal), dict(numbers), set(names)))
            case _ if moments:
                del moments[draw.randrange(len(moments)) + 1 :]
                moment, numbers_then, names_then = moments[-1]
                journal.back_to(moment)
                assert (numbers, names) == (numbers_then, names_then)


def test_what_the_journal_has_forgotten_stays() -> None:
    numbers, names = UndoDict[int, str](), UndoSet[str]()
    journal = names.journal = numbers.journal
    numbers[1] = "one"
    names.add("a")
    journal.clear()
    numbers[2] = "two"
    names.discard("a")
    journal.back_to(0)
    assert (numbers, names) == ({1: "one"}, {"a"})
