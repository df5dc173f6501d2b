"""The demo's own eyes must see: secrets in files, connections, certificates, patience."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest

from entgldb.launch.cli.common import run
from entgldb.launch.demo.airports import MADE_UP, airports, made_up
from entgldb.launch.demo.run import STEPS, DemoResult, Step
from entgldb.launch.demo.stage import search
from entgldb.launch.playground.certificate import make_server_certificate
from entgldb.launch.playground.cluster import Member, wait_for
from entgldb.launch.playground.processes import connections_to, pss_bytes, tree
from entgldb.messages.errors import NoAnswerError

SECRET = "correct horse battery staple"


@pytest.mark.parametrize(
    "hidden",
    [
        SECRET.encode(),
        SECRET.encode().hex().encode(),
        SECRET.encode().hex().upper().encode(),
        SECRET.encode("utf-16-le"),
        SECRET.encode("utf-16-be"),
        *(base64.b64encode(b"#" * n + SECRET.encode() + b"#") for n in range(3)),
        base64.urlsafe_b64encode(b"~~" + SECRET.encode()),
    ],
)
def test_a_secret_is_found_however_it_is_written(hidden: bytes, tmp_path: Path) -> None:
    member = Member(tmp_path, "n", "lan", 1)
    (tmp_path / "log").mkdir()
    file = tmp_path / "log" / "node.log"
    file.write_bytes(b"before " + hidden + b" after")
    (tmp_path / "log" / "other.log").write_bytes(b"nothing")
    assert search([member], ["other", SECRET], "before") == (2, 1, [str(file)])
    assert search([member], [SECRET[::-1]], "absent") == (2, 0, [])


def test_connections_are_seen_from_outside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections_to(port, [os.getpid()]) == set()
        with socket.create_connection(("127.0.0.1", port)) as link:
            assert connections_to(port, [os.getpid()]) == {link.getsockname()[1]}
            assert connections_to(port, []) == set()


def test_the_processes_of_a_tree_are_found() -> None:
    assert os.getpid() in tree(os.getpid())
    assert tree(2**22 + 1) == set()
    assert pss_bytes([os.getpid()]) > 1_000_000


def test_the_playgrounds_certificate_passes_strict_checks(tmp_path: Path) -> None:
    make_server_certificate(tmp_path, ("localhost", "127.0.0.1"))
    assert all((tmp_path / name).stat().st_mode & 0o077 == 0 for name in ("ca.pem", "cert.pem", "key.pem"))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client_side = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        server_side.wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    with client_side.wrap_socket(ours, server_hostname="127.0.0.1") as link:
        assert link.version() == "TLSv1.3"
    thread.join()


def test_patience_ends_with_what_was_waited_for() -> None:
    with pytest.raises(NoAnswerError, match="not within 0 s: the moon"):
        wait_for("the moon", lambda: False, 0.0)


def test_the_demo_is_ok_only_when_all_steps_are() -> None:
    steps = [Step(name, True, 0.1, "") for name in STEPS]
    assert len(STEPS) == 14
    assert DemoResult(steps).ok
    assert not DemoResult(steps[:-1]).ok
    assert not DemoResult([*steps[:-1], Step("restart-all", False, 0.1, "lost")]).ok


def test_demo_and_cluster_refuse_a_directory_that_is_not_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from entgldb.launch.cli.main import entgldb

    (tmp_path / "precious").write_text("x")
    assert run(entgldb, ["demo", "--keep", str(tmp_path)]) == 2
    assert run(entgldb, ["cluster", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("is not empty") == 2


def test_without_the_package_of_real_airports_there_are_others_like_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, remark = airports()
    assert (len(real) > MADE_UP, remark) == (True, "")
    monkeypatch.setitem(sys.modules, "airportsdata", None)
    found, remark = airports()
    assert "[demo]" in remark
    assert len(found) == MADE_UP
    assert {*map(frozenset, found.values())} == {frozenset(one) for one in real.values()}
    assert found == made_up()
