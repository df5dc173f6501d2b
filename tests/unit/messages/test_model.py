from __future__ import annotations

import pytest

from entgldb.messages.model import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("1000", 1000),
        ("1001", None),
        ("9" * 5000, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1_0", None),
        ("1.0", None),
        ("\u0663", None),
        ("\u00b2", None),
    ],
)
def test_only_ascii_digits_up_to_a_limit_are_a_number(text: str, number: int | None) -> None:
    assert whole_number(text, 1000) == number
