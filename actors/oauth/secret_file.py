"""Reading a small file that an operator names, wherever it lies.

A mount that does not answer (NFS whose server is away) holds whoever opens a file there, for ever and without
any way back. So a thread of its own reads, and is left behind; while it hangs, the same path is refused at
once.
"""

from __future__ import annotations

import os
import stat
import threading
from queue import Empty, SimpleQueue
from typing import Final

from entgldb.messages.errors import SecretError

WAIT_SECONDS: Final = 1.0
_hanging: Final = dict[str, threading.Thread]()
_lock: Final = threading.Lock()


def read_bounded(path: str, size: int) -> bytes:
    """The first bytes of a regular file. Raises OSError, or SecretError for all else and for one that takes
    long."""
    with _lock:
        if path in _hanging and _hanging[path].is_alive():
            raise _late(path)
        found = SimpleQueue[bytes | Exception]()
        thread = threading.Thread(target=_read, args=(path, size, found), name="secret-file", daemon=True)
        thread.start()
        try:
            answer = found.get(timeout=WAIT_SECONDS)
        except Empty:
            _hanging[path] = thread
            raise _late(path) from None
        _hanging.pop(path, None)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(path: str, size: int, found: SimpleQueue[bytes | Exception]) -> None:
    try:
        # a pipe is not waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretError(f"{path} is not a regular file")
            found.put(os.read(descriptor, size))
        finally:
            os.close(descriptor)
    except (OSError, SecretError) as fault:
        found.put(fault)


def _late(path: str) -> SecretError:
    return SecretError(
        f"{path} was not read within {WAIT_SECONDS:.0f} s", hint="look whether its file system answers"
    )
