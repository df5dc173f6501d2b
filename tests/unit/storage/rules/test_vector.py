"""Version vectors."""

from entgldb.messages.model import Version
from entgldb.storage.rules import vector

H = bytes(32)


def test_covering() -> None:
    ours = {"a": (3, H)}
    assert vector.covers(ours, Version("a", 3))
    assert not vector.covers(ours, Version("a", 4))
    assert not vector.covers(ours, Version("b", 1))


def test_missing_and_equal() -> None:
    ours = {"a": (3, H), "b": (1, H), "c": (2, H)}
    theirs = {"a": (1, H), "c": (2, H), "d": (9, H)}
    assert vector.missing(ours, theirs) == {"a": 2, "b": 1}
    assert vector.missing(ours, dict(ours)) == {}
    assert vector.seqs(ours) == {"a": 3, "b": 1, "c": 2}
