"""The process ``entgldb start`` runs: it holds the directory, forks the actors and watches over them.

It runs no thread and opens no database, because it forks.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entgldb.actors.backoff import backoff
from entgldb.actors.behaviour import refused
from entgldb.actors.host import build
from entgldb.actors.host.log import LogFile
from entgldb.actors.host.system import NodeSystem
from entgldb.actors.node.reloading import merge
from entgldb.actors.node.supervision import Watched
from entgldb.actors.tls.http_certificate import CERTIFICATE, RENEW_EVERY
from entgldb.launch.node import web
from entgldb.launch.node.files import (
    leave_no_core,
    locked,
    refuse_open,
    remove_record,
    wait_stopped,
    write_record,
)
from entgldb.launch.node.notify import Supervisor
from entgldb.messages.client import Refused, Stop
from entgldb.messages.errors import EntglError, ErrorCode, NoAnswerError
from entgldb.messages.local.actors import Boot, HttpState, Ready
from entgldb.messages.settings import NodeSettings
from entgldb.storage.file.open import FILE, open_file

STOP_PATIENCE = 1.5
"""Seconds the node has for a stop in good order; then its processes are killed."""
GONE_PATIENCE = 2.0
NODE_BACKOFF_FIRST, NODE_BACKOFF_MAX = 0.1, 5.0
LOOK_SECONDS = 2.0
"""Between looks at whether the node actor moves."""
MENTION_SECONDS = 1.0
"""The node actor has so long to take a word about the HTTP server."""
POLL = 0.2
"""Seconds between looks at signals while the node starts."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MALLOC = {M_TRIM_THRESHOLD: 256 * 1024, M_MMAP_THRESHOLD: 128 * 1024, M_ARENA_MAX: 1}
ReadyHook = Callable[[dict[str, Any]], None]


def run_node(directory: Path, load: Callable[[], NodeSettings], on_ready: ReadyHook | None = None) -> None:
    """Run the node of ``directory`` until SIGTERM, SIGINT or a Stop; SIGHUP reads the configuration again.

    ``load`` reads the configuration; ``on_ready`` is told what stands in ``node.json`` when all serve.
    Raises EntglError: in-use, or what kept the node from starting, or that its actor system died.
    """
    if sys.platform != "linux":
        raise EntglError(f"nodes run on Linux, this is {sys.platform}", code=ErrorCode.UNSUPPORTED)
    os.umask(0o077)
    leave_no_core()
    directory = directory.resolve()
    refuse_open(directory)
    try:
        with locked(directory):
            launcher = Launcher(directory, load)
            try:
                launcher.start(on_ready)
                launcher.watch()
            finally:
                launcher.end()
    finally:
        wait_stopped(directory, GONE_PATIENCE)


class _Signals:
    """Signals as a flag and a readable descriptor."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)


class StartError(EntglError):
    """One of the actors cannot start; the text is its own."""


class Launcher:
    """One run of one node."""

    def __init__(self, directory: Path, load: Callable[[], NodeSettings]) -> None:
        self.directory = directory
        self._load = load
        self._settings = load()
        LogFile.as_json = self._settings.log_format == "json"
        self._signals = _Signals()
        self._pipe, self._node_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopped = False
        self._system: NodeSystem | None = None
        self._admin_fd = -1
        self._node_fd = -1
        self._booted_at = 0.0
        self._ports: dict[str, int] = {}
        self._deaths = 0
        self._watched = Watched()
        self._place = web.place_of(self._settings, directory) if self._settings.http.listen else None
        self._web: web.WebProcess | None = None
        self._web_told: HttpState | None = None
        self._looked_at = self._renew_at = 0.0
        self._supervisor = Supervisor()

    @property
    def system(self) -> NodeSystem:
        assert self._system is not None
        return self._system

    def start(self, on_ready: ReadyHook | None) -> None:
        """Fork the actors; return when all serve, or a signal asks to stop."""
        remove_record(self.directory)  # of a node that was killed
        (self.directory / "log").mkdir(mode=0o700, exist_ok=True)
        _return_memory()
        _make_database(self.directory)
        build.preload(self._settings.sync)
        _settle_memory()
        self._system = NodeSystem(self.directory, self._node_end)
        self._admin_fd = os.pidfd_open(self.system.admin_pid)
        if self._place is not None:
            # after the admin was forked: no actor inherits the socket
            self._web = web.WebProcess(self.directory, self._place, self._web_said)
            self._web.begin(time.monotonic())
        record = self._boot()
        if record is not None and on_ready is not None:
            on_ready(record)

    def watch(self) -> None:
        """Until told to stop: start the node actor again when it dies or hangs, end with the admin."""
        while not self._signals.stop:
            self._look()
            sources = [self._signals.fd, self._pipe, self._admin_fd, self._node_fd]
            patience = LOOK_SECONDS
            if self._web is not None:
                sources += self._web.sources()
                patience = min(patience, self._web.due(time.monotonic()))
            ready, _, _ = select.select(sources, [], [], patience)
            self._signals.drain()
            if self._web is not None:
                self._tend(self._web, ready)
            if self._admin_fd in ready:
                raise EntglError("the actor system's admin died", hint="start the node again")
            if self._heard_stopped():
                self._supervisor.stopping()
                return
            if self._node_fd in ready and not self._signals.stop:
                self._revive()
            elif self._signals.reload:
                self._reload()
        self._stop()

    def end(self) -> None:
        """Leave nothing behind."""
        remove_record(self.directory)
        if self._system is not None:
            self._system.kill()
        if self._web is not None:
            self._web.end()
        (self.directory / "entgldb.sock").unlink(missing_ok=True)

    def _boot(self) -> dict[str, Any] | None:
        """Create the node actor and wait until all serve; None when a signal came first."""
        self.system.boot(self._settings)
        if self._node_fd >= 0:
            os.close(self._node_fd)
        self._node_fd = os.pidfd_open(self.system.node_pid)
        self._watched.begin(time.monotonic())
        self._web_told = None
        if self._booted_at:  # node itself answers those who ask while the others start
            self._record(self._ports["sync"])
        while not self._signals.stop:
            answer = self.system.poll(POLL)
            self._heard_stopped()
            if isinstance(answer, Refused):
                raise StartError(answer.text, code=_code(answer.code), hint=answer.hint)
            if isinstance(answer, Ready):
                self._booted_at = time.monotonic()
                record = self._record(answer.facts.get("port", 0))
                self._supervisor.ready(f"{record['node_id']} serves, TLS port {self._ports['sync']}")
                return record
            self._look()
            dead, _, _ = select.select([self._admin_fd, self._node_fd], [], [], 0)
            if self._admin_fd in dead:
                raise EntglError("the actor system's admin died", hint="start the node again")
            if dead:
                return None
        return None

    def _record(self, tls_port: int) -> dict[str, Any]:
        self._ports = {"admin": self.system.port, "node": self.system.node_port, "sync": tls_port}
        record: dict[str, Any] = {
            "node_id": self._settings.store.node_id,
            "pid": os.getpid(),
            "ports": self._ports,
            "pids": {"admin": self.system.admin_pid, "node": self.system.node_pid},
        }
        if self._web is not None:
            record["http"] = self._web.url
        write_record(self.directory, record)
        return record

    def _look(self) -> None:
        """End a node actor that hangs: its death is then met as any other."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._renew(now)
        why = self._watched.hangs(self.system.life(), now)
        if why:
            text = f"node {why}: it is ended and started anew, with all it supervises"
            self._log_line(text)
            signal.pidfd_send_signal(self._node_fd, signal.SIGKILL)

    def _tend(self, server: web.WebProcess, ready: list[int]) -> None:
        """The HTTP server's turn; the node actor is told when something is new."""
        now = time.monotonic()
        server.turn(ready, now)
        state = server.state(now)
        # a node actor that stands still is ended by a look, not waited for
        if state != self._web_told and not self._watched.still(now):
            self._web_told = state if self.system.mention(state, MENTION_SECONDS) else None

    def _renew(self, now: float) -> None:
        """The HTTP server shows a certificate of ours that is due; it looks at the files itself."""
        if (
            self._place is None
            or self._place.certificate != self.directory / CERTIFICATE
            or now < self._renew_at
        ):
            return
        self._renew_at = now + RENEW_EVERY
        try:
            web.certified(self._place, self._settings, self.directory)
        except (OSError, EntglError) as fault:
            self._log_line(f"the certificate of the HTTP server cannot be renewed: {fault}")

    def _web_said(self, text: str) -> None:
        LogFile(self.directory / "log" / "entgldb.log", "http").line(logging.WARNING, text)

    def _log_line(self, text: str) -> None:
        LogFile(self.directory / "log" / "entgldb.log", "launcher").line(logging.ERROR, text)

    def _revive(self) -> None:
        """The node actor died, and its children with it."""
        self._supervisor.status("the node actor died; it is started anew")
        healthy = self._booted_at and time.monotonic() - self._booted_at > 60
        self._deaths = 0 if healthy else self._deaths + 1
        if self._deaths > 1:
            pause = backoff(self._deaths, NODE_BACKOFF_FIRST, NODE_BACKOFF_MAX)
            select.select([self._signals.fd, self._admin_fd], [], [], pause)
        if self._signals.stop:
            return
        try:
            self._boot()
        except (StartError, NoAnswerError) as fault:
            # a node that has run before is tried again, after a longer pause
            self._booted_at = self._booted_at and time.monotonic()
            self._log_line(f"the node cannot be started anew, it is tried again: {fault.text}")
            with contextlib.suppress(ProcessLookupError):  # of the one before, where none was created
                signal.pidfd_send_signal(self._node_fd, signal.SIGKILL)

    def _reload(self) -> None:
        self._signals.reload = False
        self._supervisor.reloading()
        try:
            read = self._load()
        except EntglError as fault:
            self.system.tell(refused(fault), 0)
            self._supervisor.ready(f"the configuration is as before: {fault.text.splitlines()[0]}")
            return
        # a node actor that is started anew goes on with these: no door opens by an accident
        self._settings = merge(self._settings, read).settings
        self.system.tell(Boot(read))
        self.system.poll(1.0)
        self._supervisor.ready(f"{self._settings.store.node_id} serves, configuration read again")

    def _heard_stopped(self) -> bool:
        """Read what the node actor wrote: S, it has stopped; L, read the configuration anew; W, all serve."""
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._pipe, 64)
            self._stopped = self._stopped or b"S" in said
            self._signals.reload = self._signals.reload or b"L" in said
            if b"W" in said:
                self._supervisor.well()
        return self._stopped

    def _stop(self) -> None:
        """Let the children close their links and files; patience ends, the signal was not a question."""
        self._supervisor.stopping()
        remove_record(self.directory)
        if self._web is not None:
            self._web.stop()
        deadline = time.monotonic() + STOP_PATIENCE
        with contextlib.suppress(Exception):  # a broken system ends by kill
            self.system.tell(Stop(), 0)
        while not self._heard_stopped() and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._pipe, self._node_fd, self._admin_fd], [], [], left)
            if self._node_fd in ready or self._admin_fd in ready:
                return


def _return_memory() -> None:
    """Have glibc give freed memory back to the system, here and in all that is forked from here.

    By default it keeps what a burst needed, per thread: an import of 28,000 documents made a node a third
    larger for good. Another C library ignores this.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC.items():
            mallopt(option, value)


def _make_database(directory: Path) -> None:
    """Make the tables of a new node in a process that ends with that: what it loads for them takes 5 MB.

    If that fails, the store actor meets the same failure, and tells it.
    """
    if (directory / FILE).exists():
        return
    child = os.fork()
    if child == 0:
        try:
            open_file(directory).close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _settle_memory() -> None:
    """Leave nothing to be changed, right after the fork, in the pages that it shares. Garbage of what was
    loaded stays for good: a hole in such a page would be filled by each process for itself."""
    gc.freeze()  # else the collector touches all objects
    gc.enable()
    # of looks into types, by name: each new one takes the place of another, and touches both names
    sys._clear_type_cache()


def _code(word: str) -> ErrorCode:
    try:
        return ErrorCode(word)
    except ValueError:
        return ErrorCode.INTERNAL
