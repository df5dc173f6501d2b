"""The glossary is short, and its words are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TERMS_MAX = 40
TERMS = re.findall(r"^- \*\*(.+?)\*\*:", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
ROOMS = ("messages", "storage", "actors", "client", "web", "launch")


@pytest.fixture(scope="module")
def code() -> str:
    """All source in lower case, its compound names taken apart."""
    text = "\n".join(file.read_text() for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text).lower()


def test_the_glossary_has_at_most_forty_terms_once_each_and_the_readme_leads_there() -> None:
    assert 0 < len(TERMS) == len(set(TERMS)) <= TERMS_MAX
    assert sorted(TERMS) == TERMS
    assert "docs/glossary.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_a_word_of_the_code(code: str, term: str) -> None:
    assert re.search(rf"\b{re.escape(term)}s?\b", code)


def test_each_word_in_italics_has_its_own_line() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "glossary.md").read_text().partition("- **")[2])
    named = set(re.findall(r"(?<!\*)\*([a-z][a-z ]*)\*(?!\*)", text))
    # defined within the line of `entry`
    lines = {*TERMS, *(f"{term}s" for term in TERMS), "entries", "recorded"}
    assert named - lines == set()
