"""Somebody else's directory, one that cannot be written, a read-only file system: one sentence each."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import entgldb
from entgldb.client.access import refused
from entgldb.launch.cli.common import NOT_ALLOWED, exit_code, sentence
from entgldb.launch.node.child import environment
from entgldb.launch.node.init import Plan, init
from entgldb.messages.client import RequestId, Write
from entgldb.messages.errors import NotAllowedError
from entgldb.storage.store import Store

NOW = 1_790_000_000_000
NOBODY = 65534
PROGRAM = """
import json, sys
from entgldb.launch.cli.main import entgldb
from entgldb.launch.cli.common import run
for verb in json.loads(sys.argv[1]):
    code = run(entgldb, verb)
    print(json.dumps([verb[0], code]), flush=True)
"""
READING = [
    "get {n} users u1",
    "find {n} users",
    "changes {n}",
    "collections {n}",
    "export {n} users",
    "why {n} users u1",
]
WRITING = [
    "put {n} users u2 {{}}",
    "delete {n} users u1",
    "status {n}",
    "stop {n}",
    "start {n}",
    "start {n} --detach",
    "start {n} --rebuild",
    "init {n}",
    "verify {n}",
    "forks {n}",
    "nodes {n}",
    "compact {n}",
    "ask {n} store Status",
    "rejoin {n}",
    "restore {n} {file}",
    "backup {n} {file}",
    "import {n} users {file}",
]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    made = init(Plan(tmp_path / "n1", "lan-1", host="127.0.0.1")).directory
    store = Store.open(made, "lan-1", NOW)
    with store.group():
        store.write(RequestId(b"c" * 16, 1), [Write("users", "u1", b"{}")], NOW)
    store.close()
    yield made
    made.chmod(0o700)


def refusals(directory: Path, verbs: list[str]) -> list[tuple[str, int, str]]:
    """Each verb with its exit code and its words, run by a user whom permissions bind."""
    typed = [verb.format(n=f"-d {directory}", file="/dev/null").split() for verb in verbs]
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*bound, sys.executable, "-c", PROGRAM, json.dumps(typed)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=True,
    )
    found, said = [], ""
    for line in done.stdout.splitlines(keepends=True):
        if line.startswith("["):
            found.append((*json.loads(line), said))
            said = ""
        else:
            said += line
    return [(name, code, said) for name, code, said in found]


def state(directory: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.rglob("*")
        if file.is_file() and not file.name.endswith("-shm")
    }


@pytest.mark.slow
def test_the_directory_of_another_user_is_refused_by_every_verb(directory: Path) -> None:
    before = state(directory)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    else:
        directory.chmod(0)
    verbs = READING + WRITING
    for name, code, said in refusals(directory, verbs):
        assert code == NOT_ALLOWED, (name, said)
        assert said.startswith(f"not-allowed: {directory}: Permission denied. Try: "), name
        assert len(said.splitlines()) == 1
    directory.chmod(0o700)
    assert state(directory) == before


@pytest.mark.slow
def test_a_directory_that_cannot_be_written_is_left_as_it_is(directory: Path) -> None:
    for file in directory.glob("entgldb.db-*"):
        file.unlink()
    before = state(directory)
    directory.chmod(0o500)
    told = refusals(directory, [*READING, "start {n}", "start {n} --rebuild", "init {n}"])
    for name, code, said in told:
        assert code == NOT_ALLOWED, (name, said)
        assert said.startswith("not-allowed: "), name
        assert len(said.splitlines()) == 1
    assert directory.stat().st_mode & 0o777 == 0o500
    directory.chmod(0o700)
    assert state(directory) == before


def test_the_python_api_says_the_same(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, how: False)
    with pytest.raises(NotAllowedError, match="Permission denied"):
        entgldb.connect(directory)
    with pytest.raises(NotAllowedError, match="Permission denied"):
        entgldb.Database(directory)["users"].get("u1")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_the_system_forbids_is_not_allowed_and_says_what_to_do(code: int, tmp_path: Path) -> None:
    fault = refused(OSError(code, os.strerror(code), str(tmp_path / "x")))
    assert exit_code(fault) == NOT_ALLOWED
    assert sentence(fault).startswith(f"not-allowed: {tmp_path}/x: {os.strerror(code)}. Try: ")
    other = refused(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path)))
    assert sentence(other).startswith(f"disk-error: {tmp_path}: No space left on device. Try: ")
