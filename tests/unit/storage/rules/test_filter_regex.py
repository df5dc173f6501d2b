"""``$regex`` against ``re``, and what is refused; a pattern that would have ``re`` go back for ever."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entgldb.messages.errors import EntglError, InvalidError, UnsupportedError
from entgldb.storage.rules.filtering import regex
from entgldb.storage.rules.filtering.regex import Regex

PATTERNS = int(os.environ.get("ENTGLDB_PATTERNS", "200"))
"""Each is looked for in six texts; a soak has more."""
LETTERS = "ab_-.1A \ncB\u00e9]"
CLASSES = [r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[ab]", "[^a]", "[a-c1]", r"[\d_]", "[^A-Z-]", r"[\]\[]"]
OTHERS = [r"\.", r"\x61", r"\u00e9", r"\t", "é", "^", "$", r"\b", r"(?:a|b)", "()"]
atoms = st.sampled_from([*"ab_-.1A \n", *CLASSES, *OTHERS])
suffixes = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?", "{0}", "??"])


def repeated(piece: str, suffix: str) -> str:
    return piece + ("" if piece in ("^", "$", r"\b") else suffix)


def grouped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(st.builds(repeated, inner, suffixes), max_size=2).map("".join)
    either = st.lists(several, min_size=1, max_size=3).map("|".join)
    return st.builds(lambda one, open: f"{open}{one})", either, st.sampled_from(["(", "(?:"]))


pieces = st.recursive(atoms, grouped, max_leaves=3)
patterns = st.lists(
    st.lists(st.builds(repeated, pieces, suffixes), max_size=4).map("".join), min_size=1, max_size=3
).map("|".join)


@settings(max_examples=PATTERNS, deadline=None)
@given(patterns, st.lists(st.text(LETTERS, max_size=5), min_size=5, max_size=5), st.booleans())
def test_it_finds_what_re_finds(pattern: str, texts: list[str], any_case: bool) -> None:
    theirs = re.compile(pattern.replace("$", r"\Z"), re.ASCII | (re.IGNORECASE if any_case else 0))
    ours = Regex(pattern, any_case=any_case)
    for text in [*texts, ""]:
        assert ours.found_in(text) is (theirs.search(text) is not None), text
        assert not ours.found_in(text) or text.startswith(ours.prefix)


def test_lookups_are_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "SETS_MAX", 20)
    ours = Regex("a.{9}b$")
    for number in range(50):
        text = "".join(chr(97 + (number * place) % 26) for place in range(40))
        assert ours.found_in(text) is (re.search(r"a.{9}b\Z", text) is not None)
        assert ours._kept <= 20


def test_time_grows_with_the_text_alone() -> None:
    """Backtracking would take 2**100000 steps."""
    steps = 0
    ours = Regex("(a*)*(a|aa)+$")

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return after(*arguments)

    after, ours._after = ours._after, counted  # type: ignore[method-assign]  # counts only
    assert not ours.found_in("a" * 100_000 + "b")
    assert steps < 10


@pytest.mark.parametrize(("any_case", "pattern"), [(True, "^straße É"), (False, "(?i)^straße É")])
def test_both_cases_are_alike_beyond_ascii(any_case: bool, pattern: str) -> None:
    ours = Regex(pattern, any_case=any_case)
    assert ours.found_in("STRAßE é")
    assert not ours.found_in("STRAE é")
    assert ours.prefix == ""


@pytest.mark.parametrize(
    ("pattern", "error", "named"),
    [
        ("(?=a)", UnsupportedError, r"\(\?="),
        ("(?<n>a)", UnsupportedError, r"\(\?<"),
        ("(?P<n>a)", UnsupportedError, r"\(\?P"),
        ("a(?i)", UnsupportedError, r"\(\?i"),
        (r"(a)\1", UnsupportedError, r"\\1"),
        (r"\pL", UnsupportedError, r"\\p"),
        (r"\Z", UnsupportedError, r"\\Z"),
        ("a**", UnsupportedError, r"\* after a repetition"),
        ("a*+", UnsupportedError, r"\+ after a repetition"),
        ("(a", InvalidError, "without its"),
        ("a)", InvalidError, r"a \) without its \( at character 2"),
        ("[a", InvalidError, "without its ]"),
        ("[]", InvalidError, "without its ]"),
        ("[[:alpha:]]", InvalidError, "bracket"),
        ("[b-a]", InvalidError, "b-a"),
        ("*a", InvalidError, "repeats nothing"),
        ("a{,2}", InvalidError, "{n,m}"),
        ("a{2", InvalidError, "{n,m}"),
        ("a{2,1}", InvalidError, "backwards"),
        ("a\\", InvalidError, "nothing after it"),
        (r"\x6", InvalidError, "hexadecimal"),
        (r"\ud800", InvalidError, "surrogate"),
    ],
)
def test_what_is_refused(pattern: str, error: type[EntglError], named: str) -> None:
    with pytest.raises(error, match=named):
        Regex(pattern)
