"""A copied directory and a database that was put back are noticed when the file is opened."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from entgldb.messages.client import RequestId, Write
from entgldb.storage.file import fingerprint
from entgldb.storage.file.open import FILE
from entgldb.storage.rules.incarnations import Why
from entgldb.storage.store import Store

NOW = 1_790_000_000_000


def lived(directory: Path, counter: int = 1) -> str:
    """Open, write, close; the origin."""
    store = Store.open(directory, "a", NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, counter), [Write("users", "k", b'{"n":%d}' % counter)], NOW)
    store.close()
    return store.origin


def opened(directory: Path) -> tuple[str, Why | None]:
    store = Store.open(directory, "a", NOW)
    store.close()
    return store.origin, store.reborn


def test_a_directory_that_stays_stays_itself(tmp_path: Path) -> None:
    origin = lived(tmp_path)
    assert opened(tmp_path) == (origin, None)
    assert opened(tmp_path) == (origin, None)
    assert stat.S_IMODE((tmp_path / fingerprint.FINGERPRINT_FILE).stat().st_mode) == 0o600


def test_a_directory_that_is_moved_stays_itself(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    origin = lived(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert opened(tmp_path / "there") == (origin, None)


def test_a_copied_directory_is_somebody_new_and_the_first_stays_itself(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    origin = lived(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found, why = opened(tmp_path / "two")
    assert (found != origin, why) == (True, Why.CLONED)
    assert opened(tmp_path / "two") == (found, None)
    assert opened(tmp_path / "one") == (origin, None)


@pytest.mark.parametrize("runs", [1, 2])
def test_a_database_that_was_put_back_is_somebody_new(tmp_path: Path, runs: int) -> None:
    """After a run more, by the nonce; within the run, by how far the database had come."""
    origin = lived(tmp_path)
    kept = tmp_path / "kept.db"
    if runs == 1:
        store = Store.open(tmp_path, "a", NOW)
        store.checkpoint()
        shutil.copy(tmp_path / FILE, kept)
        with store.group():
            store.write(RequestId(b"c" * 16, 2), [Write("users", "k", b"{}")], NOW)
        store.close()
    else:
        shutil.copy(tmp_path / FILE, kept)
        assert lived(tmp_path, 2) == origin
    # written in place: the inode tells nothing
    (tmp_path / FILE).write_bytes(kept.read_bytes())
    found, why = opened(tmp_path)
    assert (found != origin, why) == (True, Why.ROLLED_BACK)


def test_a_database_without_its_fingerprint_is_somebody_new(tmp_path: Path) -> None:
    origin = lived(tmp_path)
    (tmp_path / fingerprint.FINGERPRINT_FILE).unlink()
    found, why = opened(tmp_path)
    assert (found != origin, why) == (True, Why.CLONED)


def test_a_database_that_has_vanished_is_told_as_lost(tmp_path: Path) -> None:
    origin = lived(tmp_path)
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    store = Store.open(tmp_path, "a", NOW + 1)
    assert store.reborn is Why.LOST
    (told,) = store.status()["incarnations"]  # type: ignore[misc]  # rows of a report
    assert told == {"origin": store.origin, "at_ms": NOW + 1, "why": "lost"}
    store.close()
    assert opened(tmp_path) == (store.origin, None)
    assert store.origin != origin


def test_a_first_start_that_was_cut_short_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = fingerprint._write

    def cut(directory: Path, made: fingerprint.Fingerprint) -> None:
        write(directory, made)
        raise OSError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "_write", cut)
        assert opened(tmp_path)[1] is None
    assert opened(tmp_path)[1] is None


@pytest.mark.parametrize("stage", ["file written", "database written"])
def test_a_start_that_is_cut_short_is_not_taken_for_a_roll_back(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = lived(tmp_path)
    write, calls = fingerprint._write, []

    def cut(directory: Path, made: fingerprint.Fingerprint) -> None:
        calls.append(made)
        if len(calls) == (2 if stage == "database written" else 3):
            raise OSError("cut short")
        write(directory, made)
        if stage == "file written" and len(calls) == 1:
            raise OSError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "_write", cut)
        assert opened(tmp_path) == (origin, None)
    assert json.loads((tmp_path / fingerprint.FINGERPRINT_FILE).read_text())["coming"] != ""
    assert opened(tmp_path) == (origin, None)


def test_a_garbled_fingerprint_counts_as_none(tmp_path: Path) -> None:
    lived(tmp_path)
    (tmp_path / fingerprint.FINGERPRINT_FILE).write_text('{"nonce": 1}')
    assert opened(tmp_path)[1] is Why.CLONED
