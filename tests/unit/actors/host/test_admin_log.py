"""Thespian's admin writes the few lines of Thespian's log itself."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from entgldb.actors.host import system  # host_wire before thespian
from entgldb.actors.host.wire import require

from thespian.system import multiprocCommon  # isort: skip


def test_a_record_that_reaches_the_admin_is_written_and_sent_to_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    require(system._PATCHED)
    record = logging.LogRecord("an actor", logging.WARNING, "", 0, "early", (), None)
    # nothing of it but this is there: a send would fail
    admin = multiprocCommon.MultiProcAdmin.__new__(multiprocCommon.MultiProcAdmin)
    admin.asLogger = "itself"
    assert admin._handleReplicatorMessages(SimpleNamespace(message=record)) == (True, True)
    assert caplog.records == [record]
