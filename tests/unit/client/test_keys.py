"""Keys that ``insert`` makes: UUIDs of version 7."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from entgldb.client import keys
from entgldb.client.keys import Ascending, new_key, version_7


def test_the_vector_of_the_rfc() -> None:
    """RFC 9562, appendix A.6."""
    made = version_7(0x017F22E279B0, 0xCC3 << 62 | 0x18C4DC0C0C07398F)
    assert str(made) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


@pytest.mark.parametrize("make", [new_key, Ascending().make])
def test_a_key_tells_its_time(make: keys.Make) -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(str(make()))
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_keys_ascend_within_a_millisecond_and_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ascending, now = Ascending(), [1_700_000_000_000_000_000]
    monkeypatch.setattr(keys, "_now_ns", lambda: now[0])
    made = [ascending.make() for _ in range(1000)]
    now[0] -= 60_000_000_000
    made += [ascending.make() for _ in range(1000)]
    assert sorted(set(made)) == made
    assert {one.int >> 80 for one in made} == {1_700_000_000_000}
    assert all((one.version, one.variant) == (7, uuid.RFC_4122) for one in made)


def test_threads_never_make_the_same() -> None:
    ascending, made = Ascending(), list[uuid.UUID]()
    threads = [
        threading.Thread(target=lambda: made.extend([ascending.make() for _ in range(2000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 8000
