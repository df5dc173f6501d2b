"""A disk that fails at the n-th thing it is asked to do: SQLite's own layer, with three methods replaced.

``sqlite3_vfs`` and ``sqlite3_io_methods`` are those of https://www.sqlite.org/c3ref/vfs.html and
https://www.sqlite.org/c3ref/io_methods.html: every connection opened while a ``FaultyDisk`` is there uses it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p, cast, pointer
from typing import Any, Final

FULL: Final = 13
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE = 10 | 3 << 8, 10 | 4 << 8, 10 | 6 << 8

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("file_bytes", c_int),
        ("path_bytes_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _OPEN),
        ("others", c_void_p * 15),
    )


class _Methods(Structure):
    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        ("others", c_void_p * 13),
    )


class _File(Structure):
    _fields_ = (("methods", POINTER(_Methods)),)


def library() -> Any:
    """The SQLite that the ``sqlite3`` module uses; AttributeError where it does not show its functions."""
    import _sqlite3

    found = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    found.sqlite3_vfs_find.restype = POINTER(_Vfs)
    assert ctypes.c_char_p.in_dll(found, "sqlite3_version") is not None
    return found


class FaultyDisk:
    """Counts writes, syncs and truncations; the one with the number ``fails_at`` fails."""

    def __init__(self) -> None:
        self._library = library()
        self._real = self._library.sqlite3_vfs_find(None)
        self._made: dict[int, Any] = {}
        self.heal()
        mine = _Vfs.from_buffer_copy(self._real.contents)
        mine.name, mine.open = b"faulty", _OPEN(self._open)
        self._mine = pointer(mine)
        assert self._library.sqlite3_vfs_register(self._mine, 1) == 0

    def heal(self) -> None:
        """Nothing fails from now on."""
        self.arm(0, full=False)

    def arm(self, fails_at: int, *, full: bool, lasting: bool = False, torn: bool = False) -> None:
        """``full``: no room instead of an I/O error. ``lasting``: all that follows fails, too.

        ``torn``: half of what should be written is written first.
        """
        self.calls, self.fired = 0, False
        self._fails_at, self._full, self._lasting, self._torn = fails_at, full, lasting, torn

    def close(self) -> None:
        """SQLite's own layer is the default again; open connections keep this one."""
        assert self._library.sqlite3_vfs_register(self._real, 1) == 0
        assert self._library.sqlite3_vfs_unregister(self._mine) == 0

    def _fails(self) -> bool:
        self.calls += 1
        hit = self.calls == self._fails_at or (self._lasting and 0 < self._fails_at < self.calls)
        self.fired = self.fired or hit
        return hit

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        code = self._real.contents.open(cast(self._real, c_void_p), name, file, flags, out)
        opened = cast(file, POINTER(_File)).contents
        if code == 0:
            opened.methods = self._replaced(opened.methods)
        return int(code)

    def _replaced(self, real: Any) -> Any:
        """A table of methods like ``real``, one for each that SQLite has."""
        address = cast(real, c_void_p).value or 0
        if address not in self._made:
            table = real.contents
            mine = _Methods.from_buffer_copy(table)
            mine.write = _WRITE(self._write(table.write))
            mine.truncate = _TRUNCATE(self._other(table.truncate, IOERR_TRUNCATE))
            mine.sync = _SYNC(self._other(table.sync, IOERR_FSYNC))
            self._made[address] = pointer(mine)
        return self._made[address]

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: int, amount: int, offset: int) -> int:
            if not self._fails():
                return real(file, data, amount, offset)
            if self._torn:
                real(file, data, amount // 2, offset)
            return FULL if self._full else IOERR_WRITE

        return write

    def _other(self, real: Callable[..., int], code: int) -> Callable[..., int]:
        return lambda file, how: code if self._fails() else real(file, how)
