"""``Store``: writes that are meant for one version alone, decided in their own transaction."""

from __future__ import annotations

import pytest

from entgldb.messages.client import ABSENT, PRESENT, RequestId, Write, Written
from entgldb.messages.errors import EntglError, ExistsError, VersionError
from entgldb.messages.model import Version
from tests.contract.test_merging import NOW, Make, Node, make

__all__ = ["make"]


@pytest.fixture(params=["lww", "merge"])
def node(request: pytest.FixtureRequest, make: Make) -> Node:
    """A node whose collection ``c`` has one of the two rules."""
    made = make("a")
    made.rule(request.param)
    return made


def put(number: int, expects: Written | Version | None, key: str = "k") -> Write:
    expected = Written(*expects) if isinstance(expects, Version) else expects
    return Write("c", key, b'{"n":%d}' % number, expects=expected)


def delete(expects: Version | None, key: str = "k") -> Write:
    return Write("c", key, None, expects=None if expects is None else Written(*expects))


def refused(node: Node, kind: type[EntglError], match: str, *writes: Write) -> None:
    """The commit is refused and leaves nothing behind."""
    before = node.entries()
    with pytest.raises(kind, match=match):
        node.write(Write("c", "other", b"{}"), *writes)
    assert node.entries() == before
    assert node.get(key="other") is None


def test_an_insert_finds_its_key_free_or_is_refused(node: Node) -> None:
    (first,) = node.write(put(1, ABSENT))
    refused(node, ExistsError, f"c/k is there already: version {first.origin}:{first.seq}", put(2, ABSENT))
    assert node.get() == {"n": 1}
    node.write(delete(None))
    node.write(put(3, ABSENT))
    assert node.get() == {"n": 3}, "a tombstone leaves its key free"


def test_a_write_meets_the_version_that_it_is_meant_for_or_is_refused(node: Node) -> None:
    (first,) = node.write(put(1, None))
    (second,) = node.write(put(2, first))
    told = f"c/k is version {second.origin}:{second.seq}, not version {first.origin}:{first.seq}"
    refused(node, VersionError, told, put(3, first))
    refused(node, VersionError, told, delete(first))
    assert node.get() == {"n": 2}
    (gone,) = node.write(delete(second))
    for version in (second, gone):
        refused(node, VersionError, "c/k is not there, not version", put(4, version))
        refused(node, VersionError, "c/k is not there, not version", delete(version))
    refused(node, VersionError, "c/never is not there", put(5, gone, "never"))


def test_a_write_over_any_version_meets_a_document_or_is_refused(node: Node) -> None:
    update = Write("c", "k", None, expects=PRESENT, update=b'{"$inc":{"n":1}}', upsert=True)
    for write in (put(1, PRESENT), update, delete(PRESENT.version)):
        refused(node, VersionError, "c/k is not there", write)
    node.write(put(1, ABSENT), put(2, PRESENT))
    node.write(put(3, PRESENT))
    node.write(update)
    assert node.get() == {"n": 4}
    node.write(delete(PRESENT.version))
    refused(node, VersionError, "c/k is not there", put(5, PRESENT))
    refused(node, VersionError, "c/k is not there", put(5, None), delete(None), put(6, PRESENT))


def test_a_write_meets_what_the_writes_before_it_in_its_commit_leave(node: Node) -> None:
    (first,) = node.write(put(1, None))
    refused(node, ExistsError, "changed by the same commit", put(2, ABSENT, "new"), put(3, ABSENT, "new"))
    refused(node, VersionError, "changed by the same commit", put(2, first), put(3, first))
    refused(node, VersionError, "c/k is not there", delete(None), put(2, first))
    node.write(delete(first), put(4, ABSENT))
    assert node.get() == {"n": 4}


def test_of_two_writers_who_read_one_version_one_is_refused(node: Node) -> None:
    (read,) = node.write(put(1, None))
    node.write(put(2, read))
    with pytest.raises(VersionError):
        node.write(put(2, read))
    assert node.get() == {"n": 2}


def test_a_repeated_request_has_its_answer_though_its_condition_holds_no_more(node: Node) -> None:
    request = RequestId(b"d" * 16, 1)
    store = node.store
    with store.group():
        done = store.write(request, (put(1, ABSENT),), NOW)
    with store.group():
        assert store.answered(request) == done
    other = RequestId(b"d" * 16, 2)
    with pytest.raises(ExistsError), store.group():
        store.write(other, (put(1, ABSENT),), NOW)
    with store.group():
        assert store.answered(other) is None, "what was refused is asked anew"
