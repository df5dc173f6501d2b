"""Verbs and nodes without the start of an interpreter, which takes longer than most of them.

A process that has loaded all that verbs and nodes load waits for commands, and forks. What it forks has the
command, environment, folder and streams that were asked for, also in /proc, and is a child of the process
that asked: ``subprocess`` waits for it as for any other. What a process loads, when, and what memory it takes
are not as after a real start.
"""

from __future__ import annotations

import _posixsubprocess
import atexit
import ctypes
import gc
import marshal
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from entgldb.launch.node.child import end_with_parent
from entgldb.storage.file.schema import without_libraries

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = [sys.executable, "-m", "entgldb"]
STARTERS: Final = {"bench", "cluster", "demo"}
"""Verbs that start nodes: each has a server of its own, as their parent."""
ROOM: Final = 1 << 13
"""Bytes that /proc has room for, of arguments and of environment."""
FILLER: Final = "ROOM_OF_ENVIRONMENT"
READ_AT_START: Final = (b"PYTHON", b"LC_", b"LANG", b"LD_", b"MALLOC_")
"""Variables of the environment that begin so must be as the server has them: nobody would read them again."""
PATH: Final = b"PYTHONPATH="
"""This one can be read again."""
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE_PARENT: Final = 0x8000
_PR_SET_PDEATHSIG: Final = 1
_AT_START: Final = set(os.environ)


def killed_with_parent() -> None:
    """A ``preexec_fn``: the kernel kills the child when the thread that started it ends, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PREPARED: Final = {None: 0, end_with_parent: int(signal.SIGTERM), killed_with_parent: int(signal.SIGKILL)}
"""What is done in a child before it begins -> the signal it has when its parent ends."""


class ForkServer:
    """The waiting process, a child of this one."""

    def __init__(self, asks: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._one_question, self._socket, self._process = threading.Lock(), asks, process
        self.read_at_start = _read_at_start(_lines())
        assert asks.recv(1), "it could not load what it shall"

    @classmethod
    def start(cls) -> ForkServer:
        """One that loads all."""
        ours, theirs = _pair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), "." * ROOM],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), FILLER: "." * ROOM},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return cls(ours, process)

    def fork(self, wanted: dict[str, Any], streams: list[int]) -> int:
        """The pid of a new child of this process that is as wanted by now."""
        with self._one_question:
            socket.send_fds(self._socket, [marshal.dumps(wanted)], streams)
            return int(self._socket.recv(16))

    def end(self) -> None:
        """Its children go on."""
        # a process that was forked from this one may have the socket, too
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._process is not None:
            self._process.wait()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


_servers: list[ForkServer] = []
"""At most one, from the first child that can be forked."""


def stop() -> None:
    """At the end of all tests."""
    while _servers:
        _servers.pop().end()


@contextmanager
def preloaded() -> Iterator[None]:
    """In the block a child that runs a verb is forked. Any other child, and one with wishes that only a real
    start can fulfil, is started as ever."""
    # where every Popen comes by, but for those that a later Python gives to posix_spawn
    started = subprocess._fork_exec

    def fork_exec(*given: Any) -> int:
        wanted = _wanted(*given)
        if wanted is None:
            return int(started(*given))
        if not _servers:
            _servers.append(ForkServer.start())
        # stdin, stdout, stderr; below 0: as here
        streams = [fd if fd >= 0 else number for number, fd in enumerate((given[6], given[9], given[11]))]
        return _servers[0].fork(wanted, streams)

    with (
        patch.object(subprocess, "_fork_exec", fork_exec),
        patch.object(subprocess, "_USE_POSIX_SPAWN", False),
    ):
        yield


@contextmanager
def really_started() -> Iterator[None]:
    """In the block each child is started as ever."""
    with patch.object(subprocess, "_fork_exec", _posixsubprocess.fork_exec):
        yield


def _wanted(
    arguments: list[bytes | str],
    _executables: object,
    close: bool,
    keep: tuple[int, ...],
    folder: bytes | str | None,
    environment: list[bytes] | None,
    *given: Any,
) -> dict[str, Any] | None:
    """What a child shall be, in the order of ``subprocess``; None: not one that can be forked."""
    command = [os.fsdecode(word) for word in arguments]
    session, others, prepare = given[9], given[10:15], given[15]
    if os.uname().machine not in _CLONE:
        return None
    if command[:3] != PROGRAM or len(command) == 3 or prepare not in _PREPARED:
        return None
    # a group of processes, of users, a mask, open files: nobody wants them yet
    if others != (-1, None, None, None, -1) or not close or len(keep) > 1:
        return None
    if not _servers and threading.current_thread() is not threading.main_thread():
        # what ends with its parent would end with this thread
        return None
    lines = _lines() if environment is None else environment
    read = _servers[0].read_at_start if _servers else _read_at_start(_lines())
    longest = max(sum(map(len, texts)) + len(texts) for texts in (lines, command))
    if longest > ROOM or _read_at_start(lines) != read or _is_customized(lines):
        return None
    place = os.getcwd() if folder is None else os.fsdecode(folder)
    if not os.path.isdir(place):
        return None
    return {
        "command": command,
        "environment": lines,
        "folder": place,
        "session": session,
        "at end of parent": _PREPARED[prepare],
    }


def _lines() -> list[bytes]:
    """The environment of this process."""
    return [b"=".join(pair) for pair in os.environb.items()]


def _read_at_start(lines: list[bytes]) -> set[bytes]:
    return {line for line in lines if line.startswith(READ_AT_START) and not line.startswith(PATH)}


def _is_customized(lines: list[bytes]) -> bool:
    """Whether Python finds something to run at its start, such as a clock of a test's own."""
    folders = b"".join(line.removeprefix(PATH) for line in lines if line.startswith(PATH))
    return any(Path(folder, "sitecustomize.py").exists() for folder in os.fsdecode(folders).split(os.pathsep))


# --- in the process that waits, and in those that it forks --------------------------------------------


def main() -> None:
    _load()
    asked = socket.socket(fileno=int(sys.argv[1]))
    wanted = _serve(asked)
    while wanted is not None and wanted["command"][3] in STARTERS and not _servers:
        ours, theirs = _pair()
        if os.fork() == 0:
            ours.close()
            asked.close()
            asked, wanted = theirs, _serve(theirs)
        else:
            theirs.close()
            _servers.append(ForkServer(ours))
    if wanted is not None:
        _become(wanted)
        asked.send(str(os.getpid()).encode())
        asked.close()
        with preloaded() if _servers else nullcontext():
            _run()


def _load() -> None:
    """All that verbs, nodes and clouds load."""
    from entgldb.actors.host import build
    from entgldb.launch.cli.main import _VERBS

    verbs = {f"launch.{module}" for module, verb, _ in _VERBS.values() if verb not in STARTERS}
    for name in sorted(verbs | {"launch.node.launcher", "launch.node.config", "web.server"}):
        import_module(f"entgldb.{name}")
    build.preload(SimpleNamespace(discovery=True, role="cloud"))
    with without_libraries():
        # else each new node imports it for its file
        import_module("sqlite_utils")
    gc.collect()
    gc.freeze()


def _serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork for all who ask. In the child: what is wanted of it. None: nobody will ask any more."""
    asked.send(b".")
    while True:
        request, streams, _, _ = socket.recv_fds(asked, 4 * ROOM, 3)
        if not request:
            return None
        if _fork() == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            wanted: dict[str, Any] = marshal.loads(request)
            return wanted
        for stream in streams:
            os.close(stream)


def _fork() -> int:
    """Fork a sibling: its parent is the parent of this process (clone(2), CLONE_PARENT)."""
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid: int = python.syscall(_CLONE[os.uname().machine], _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    assert pid >= 0, "no more processes"
    return pid


def _become(wanted: dict[str, Any]) -> None:
    """Change what execve(2) would have changed, and what was to be done before it."""
    if wanted["session"]:
        os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, wanted["at end of parent"])
    os.chdir(wanted["folder"])
    command, lines = wanted["command"], wanted["environment"]
    by_modules = {name: os.environ[name] for name in set(os.environ) - _AT_START}
    os.environ.clear()
    # arguments and environment where the kernel looks for them: proc_pid_stat(5), from arg_start on
    places = list(map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:49]))
    for begin, end, texts in ((*places[:2], map(os.fsencode, command)), (*places[2:], lines)):
        ctypes.memmove(begin, b"\0".join(texts).ljust(end - begin, b"\0"), end - begin)
    os.environb.update(line.split(b"=", 1) for line in lines)
    os.environ.update(by_modules)
    sys.argv = command[2:]
    sys.path[:1] = [wanted["folder"], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    # those of before know whether they lead to a file
    through = sys.stdout.write_through
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
    sys.stdout.reconfigure(write_through=through)
    sys.stderr.reconfigure(errors="backslashreplace")


def _run() -> None:
    """As ``python -m entgldb``, without the interpreter's end: it takes all modules apart."""
    try:
        runpy.run_module("entgldb", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    main()
