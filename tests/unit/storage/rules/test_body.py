"""The rule for a document body."""

import pytest

from entgldb.messages.errors import InvalidError, TooLargeError
from entgldb.messages.limits import BODY_BYTES_MAX, DEPTH_MAX
from entgldb.storage.rules.body import check_body


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": [1, -0.5, 1e3, true, null, "\\u00e4"]} ',
        '{"ä": "\N{GRINNING FACE}"}'.encode(),
        b'{"face": "\\ud83d\\ude00"}',
        b'{"a\\"b": "\\u0061", "\\u001F\\n": "\\"c\\": \\/"}',
        nested(DEPTH_MAX),
        b'{"a":[' + b",".join([b"{}"] * 100) + b"]}",
        b'{"a":"' + b"[" * 100 + b'"}',
        b'{"a":"' + b"x" * (BODY_BYTES_MAX - 8) + b'"}',
    ],
)
def test_accepted_as_it_is(body: bytes) -> None:
    assert check_body(body).encode() == body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "not a JSON object but an array"),
        (b"null", "not a JSON object but null"),
        (b'"text"', "not a JSON object but a text"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1e999}', "beyond a double"),
        (b'{"a": 1, "a": 2}', "the name a twice"),
        (b'{"b": {"a": 1, "\\u0061": 2}}', r"the name b\.a twice"),
        (b'{"b": [0, {"a": 1, "a": 2}]}', r"the name b\[1\]\.a twice"),
        (b'{"b": {"a": 1, "a": 2}, "c": ' + b"9" * 5_000 + b"}", "twice"),
        (b'{"\\u0061": 1}', 'write it as "a"'),
        (b'{"b": {"\\/" : 1}}', 'write it as "/"'),
        (b'{"b": {"c": "a\\u0000c"}}', r"NUL character in b\.c"),
        (b'{"a\\u0000c": 1}', "NUL character"),
        (b'{"b": {"\\udc00": 1}}', "half a surrogate pair in b"),
        (b'{"a": "\xff"}', "no JSON"),
        (b'{"a": "\\ud800"}', "half a surrogate"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (nested(DEPTH_MAX + 1), "deeper than 32"),
        (nested(100_000), "deeper than 32"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 32"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "no JSON"),
    ],
)
def test_refused(body: bytes, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        check_body(body)


def test_the_size_limit() -> None:
    with pytest.raises(TooLargeError, match="1048576 allowed"):
        check_body(b'{"a":"' + b"x" * (BODY_BYTES_MAX - 7) + b'"}')
