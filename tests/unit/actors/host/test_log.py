"""The log of a node: lines of text or of JSON, files of bounded size, and how a request is followed in it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from entgldb.actors.behaviour import DEBUG, INFO
from entgldb.actors.host import log
from entgldb.actors.host.log import OLD_FILES_MAX, LogFile
from entgldb.actors.node.log_level import LogLevel
from entgldb.messages.administration import SetLogLevel, Undelete
from entgldb.messages.errors import InvalidError
from entgldb.messages.limits import LOG_LEVEL_SECONDS_MAX
from entgldb.messages.local.actors import Apply, Tick
from entgldb.messages.model import Entry
from tests.support.fake_context import FakeContext
from tests.unit.actors.store.test_store_keeper import Bench


def test_lines_of_text_are_indented_and_lines_of_json_are_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LogFile(tmp_path / "entgldb.log", "store")
    file.line(logging.WARNING, "one\ntwo\n")
    file.line(logging.WARNING, "")
    monkeypatch.setattr(LogFile, "as_json", True)
    file.line(logging.ERROR, "three\nfour \N{SNOWMAN}")
    *text, last = (tmp_path / "entgldb.log").read_text().splitlines()
    assert [line.partition("WARNING ")[2] or line for line in text] == ["one", "    two"]
    row = json.loads(last)
    assert (row["who"], row["level"], row["text"]) == ("store", "ERROR", "three\nfour \N{SNOWMAN}")
    assert row["time"].endswith("Z")


def test_a_trace_belongs_to_an_error_and_not_to_a_warning(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "entgldb.log", "sync")
    with pytest.raises(OSError, match="Bad file") as caught:
        os.close(-1)
    about = (caught.type, caught.value, caught.tb)
    for level in (logging.WARNING, logging.ERROR):
        file.emit(logging.LogRecord("zeroconf", level, "", 1, "socket 39: %s", (caught.value,), about))
    warned, failed, *trace = (tmp_path / "entgldb.log").read_text().splitlines()
    for line in (warned, failed):
        assert line.endswith("zeroconf: socket 39: [Errno 9] Bad file descriptor")
    assert trace[0].strip() == "Traceback (most recent call last):"


def test_old_files_are_few_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LOG_BYTES_MAX", 100)
    file = LogFile(tmp_path / "entgldb.log", "store")
    for number in range(20):
        file.line(logging.INFO, f"line {number} " + "x" * 100)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["entgldb.log", *(f"entgldb.log.{n}" for n in range(1, OLD_FILES_MAX + 1))]
    assert "line 19 " in (tmp_path / "entgldb.log").read_text()
    assert "line 16 " in (tmp_path / f"entgldb.log.{OLD_FILES_MAX}").read_text()


def test_a_level_holds_for_its_time_and_the_configured_one_counts_again() -> None:
    ctx, level = FakeContext(), LogLevel()
    level.order(SetLogLevel("DEBUG", 60.0), ctx)
    ctx._now = 20.0
    assert level.report("INFO", ctx) == {"level": "DEBUG", "seconds": 40.0}
    level.order(SetLogLevel("ERROR", 60.0), ctx)
    assert not level.over(Tick("log-level", 1))
    assert level.over(Tick("log-level", 2))
    assert level.report("INFO", ctx) == {"level": "INFO", "seconds": None}
    level.order(SetLogLevel("DEBUG"), ctx)
    assert level.report("INFO", ctx) == {"level": "DEBUG", "seconds": None}
    level.order(SetLogLevel(), ctx)
    assert level.now("WARNING") == "WARNING"


@pytest.mark.parametrize("order", [SetLogLevel("LOUD"), SetLogLevel("INFO", LOG_LEVEL_SECONDS_MAX + 1)])
def test_what_is_no_level_is_refused(order: SetLogLevel) -> None:
    with pytest.raises(InvalidError):
        LogLevel().order(order, FakeContext())


def test_a_request_is_followed_to_another_node_and_no_line_holds_a_document() -> None:
    one, two = Bench("n1"), Bench("n2", seed=b"\2" * 32)
    one.keeper.level = two.keeper.level = DEBUG
    one.ask(one.put("the-key", b'{"secret":"canary"}'))
    (line,) = [line for line in one.ctx.lines if line]
    origin = one.store.origin
    assert line == f"request {b'c'.hex() * 16}:1 is committed as {origin} 1, lsn 1"
    named = replace(one.put("k"), call="shop-42\nforged")
    one.ask(named)
    assert f":2 ('shop-42\\nforged') is committed as {origin} 2, lsn 2" in one.ctx.lines[-1]
    one.ask(one.put("gone"), one.put("gone", None))
    undelete = Undelete(one.request(), "users", "gone")
    one.ask(undelete)
    assert f"Undelete of request {b'c'.hex() * 16}:{undelete.request.counter} is committed as" in str(
        one.ctx.lines
    )
    entries = tuple(Entry(row.header, row.body, row.signature) for row in one.store.rows(0, 10))
    two.ask(Apply("sync", "s1", 0, 0, entries, False, peer="n1"))
    assert f"n1 brought {origin} 1, {origin} 2, {origin} 3, {origin} 4, {origin} 5" in two.ctx.lines
    assert "canary" not in str(one.ctx.lines + two.ctx.lines)
    quiet = Bench("n3", seed=b"\3" * 32)
    quiet.keeper.level = INFO
    quiet.ask(quiet.put("k"))
    assert quiet.ctx.lines == []
