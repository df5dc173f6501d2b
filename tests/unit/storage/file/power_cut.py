"""A directory after a power cut: all that is done to its files is noted, any moment can be cut.

Synced bytes are there. Of other bytes each sector is there or not by itself, as on a disk with a cache.
Changes of names (made, renamed, removed) come back in their order, up to some moment after the last sync of
the directory, as on a file system with a journal. A sync of a file makes its own name durable, as ext4, xfs
and btrfs do. kill -9 shows none of this: the kernel keeps all that it was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_void_p, cast, pointer, string_at
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from entgldb.storage.file import fingerprint
from tests.unit.storage.file.faulty_disk import (
    _OPEN,
    _SYNC,
    _TRUNCATE,
    _WRITE,
    _File,
    _Methods,
    _Vfs,
    library,
)

SECTOR: Final = 512
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_TEMPORARY: Final = 0x8 | 0x200 | 0x400 | 0x1000
"""SQLite's flags of files without a future: deleted on close, temporary databases and journals."""


@dataclass
class _Content:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data), or (size, None) for a truncation."""


@dataclass
class _Disk:
    """The bytes on the disk, and the changes that only the cache knows of."""

    contents: dict[int, _Content] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    changed: list[tuple[str, int | None]] = field(default_factory=list)
    """Names in the order of their changes; None: removed."""

    def sync_names(self, upto: int | None = None) -> None:
        upto = len(self.changed) if upto is None else upto
        for name, made in self.changed[:upto]:
            if made is None:
                self.names.pop(name, None)
            else:
                self.names[name] = made
        del self.changed[:upto]

    def sync(self, number: int) -> None:
        content = self.contents[number]
        _write(content.durable, content.pending)
        content.pending.clear()
        mine = [at for at, (_, made) in enumerate(self.changed) if made == number]
        if mine:
            self.sync_names(mine[-1] + 1)


class RecordedDisk:
    """Notes what is done to the files of one directory, SQLite's and Python's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.steps: list[Callable[[_Disk], None]] = []
        self._open_files: dict[int, int] = {}
        """Address of an open SQLite file -> its number."""
        self._names: dict[str, tuple[int, int]] = {}
        """Name -> (number of the file, its inode)."""
        self._files = 0
        self._by_sqlite: set[int] = set()
        """Files whose every write was seen: they need not be read."""
        self._methods: dict[int, Any] = {}
        self._library = library()
        self._real = self._library.sqlite3_vfs_find(None)
        mine = _Vfs.from_buffer_copy(self._real.contents)
        self._real_delete = cast(mine.others[0], _DELETE)
        self._delete = _DELETE(self._deleted)
        mine.name, mine.open = b"recorded", _OPEN(self._opened)
        mine.others[0] = cast(self._delete, c_void_p).value
        self._mine = pointer(mine)

    @property
    def moment(self) -> int:
        """How much was done so far: a moment at which the power may go."""
        return len(self.steps)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Of everything that is done meanwhile, by this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "rename", "unlink", "remove", "link", "fsync"):
                patch.setattr(os, name, self._watched(name, getattr(os, name)))
            assert self._library.sqlite3_vfs_register(self._mine, 1) == 0
            try:
                yield
            finally:
                assert self._library.sqlite3_vfs_register(self._real, 1) == 0
                assert self._library.sqlite3_vfs_unregister(self._mine) == 0

    def cut(self, moment: int, random: Random, target: Path) -> None:
        """Into the empty ``target``: the directory as a power cut at ``moment`` left it."""
        disk = _Disk()
        for step in self.steps[:moment]:
            step(disk)
        disk.sync_names(random.randint(0, len(disk.changed)))
        for name, number in disk.names.items():
            content = disk.contents[number]
            _write(content.durable, _torn(content.pending, random))
            (target / name).write_bytes(content.durable)

    def _note(self, step: Callable[[_Disk], None]) -> None:
        self.steps.append(step)

    def _ours(self, path: str | os.PathLike[str]) -> str | None:
        place = Path(os.path.abspath(os.fspath(path)))
        return place.name if place.parent == self.directory else None

    def _made(self, name: str, number: int) -> None:
        """A name for a file that is known."""
        self._names[name] = (number, (self.directory / name).stat().st_ino)
        self._note(lambda disk: disk.changed.append((name, number)))

    def _new(self, name: str) -> int:
        """A file not known under this name: the inode of a removed file may have been given again."""
        self._files += 1
        number = self._files
        self._note(lambda disk: disk.contents.update({number: _Content()}))
        self._made(name, number)
        self._whole(name, number)
        return number

    def _number(self, name: str) -> int:
        number, inode = self._names.get(name, (0, 0))
        return number if inode == (self.directory / name).stat().st_ino else self._new(name)

    def _gone(self, name: str) -> None:
        self._names.pop(name, None)
        self._note(lambda disk: disk.changed.append((name, None)))

    def _opened(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        path = None if not name or flags & _TEMPORARY else self._ours(string_at(name).decode())
        if path is not None and not (self.directory / path).exists():
            self._names.pop(path, None)
        code = int(self._real.contents.open(cast(self._real, c_void_p), name, file, flags, out))
        if code == 0 and path is not None:
            self._open_files[file] = self._number(path)
            self._by_sqlite.add(self._open_files[file])
            opened = cast(file, POINTER(_File)).contents
            opened.methods = self._replaced(opened.methods)
        return code

    def _deleted(self, vfs: int, name: bytes, sync: int) -> int:
        code = int(self._real_delete(cast(self._real, c_void_p).value, name, sync))
        path = self._ours(name.decode())
        if path is not None and code == 0:
            self._gone(path)
            if sync:
                self._note(lambda disk: disk.sync_names())
        return code

    def _replaced(self, real: Any) -> Any:
        address = cast(real, c_void_p).value or 0
        if address not in self._methods:
            table = real.contents
            mine = _Methods.from_buffer_copy(table)
            mine.write = _WRITE(self._write(table.write))
            mine.truncate = _TRUNCATE(self._truncate(table.truncate))
            mine.sync = _SYNC(self._sync(table.sync))
            self._methods[address] = pointer(mine)
        return self._methods[address]

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: int, amount: int, offset: int) -> int:
            number, written = self._open_files[file], string_at(data, amount)
            self._note(lambda disk: disk.contents[number].pending.append((offset, written)))
            return real(file, data, amount, offset)

        return write

    def _truncate(self, real: Callable[..., int]) -> Callable[..., int]:
        def truncate(file: int, size: int) -> int:
            number = self._open_files[file]
            self._note(lambda disk: disk.contents[number].pending.append((size, None)))
            return real(file, size)

        return truncate

    def _sync(self, real: Callable[..., int]) -> Callable[..., int]:
        def sync(file: int, how: int) -> int:
            number, code = self._open_files[file], real(file, how)
            self._note(lambda disk: disk.sync(number))
            return code

        return sync

    def _whole(self, name: str, number: int) -> None:
        """Take all that Python has written into a file as one write, at the moment when something is done
        with the file."""
        written = (self.directory / name).read_bytes()
        size = len(written)
        self._note(lambda disk: disk.contents[number].pending.extend(((size, None), (0, written))))

    def _seen(self, name: str) -> int:
        """A file of Python's own as it is now."""
        known = self._names.get(name)
        number = self._number(name)
        if known is not None and known[0] == number and number not in self._by_sqlite:
            self._whole(name, number)
        return number

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return {"fsync": self._fsync, "unlink": self._unlink, "remove": self._unlink}.get(name, self._move)(
            real, name
        )

    def _fsync(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def fsync(descriptor: int) -> None:
            real(descriptor)
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            ours = self._ours(place)
            if place == str(self.directory):
                self._note(lambda disk: disk.sync_names())
            elif ours is not None and not (self.directory / ours).is_dir():
                number = self._seen(ours)
                self._note(lambda disk: disk.sync(number))

        return fsync

    def _unlink(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def unlink(path: Any, **options: Any) -> None:
            real(path, **options)
            ours = self._ours(path)
            if ours is not None:
                self._gone(ours)

        return unlink

    def _move(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def move(source: Any, target: Any, **options: Any) -> None:
            before, after = self._ours(source), self._ours(target)
            number = None if before is None else self._seen(before)
            real(source, target, **options)
            if after is not None and number is not None:
                self._made(after, number)
            elif after is not None:
                self._new(after)
            if before is not None and name != "link":
                self._gone(before)

        return move


def _write(content: bytearray, writes: list[tuple[int, bytes | None]]) -> None:
    for offset, data in writes:
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
        else:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data


def _torn(pending: list[tuple[int, bytes | None]], random: Random) -> list[tuple[int, bytes | None]]:
    """Any part of what was not synced: sector by sector, a truncation whole or not at all."""
    odds = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    kept: list[tuple[int, bytes | None]] = []
    for offset, data in pending:
        if data is None:
            if random.random() < odds:
                kept.append((offset, None))
            continue
        at = 0
        while at < len(data):
            end = min(len(data), (offset + at) // SECTOR * SECTOR + SECTOR - offset)
            if random.random() < odds:
                kept.append((offset + at, data[at:end]))
            at = end
    return kept


def stay_one_machine(patch: pytest.MonkeyPatch) -> None:
    """Have files that come back after a power cut on the same machine and place, whatever inode they have."""
    try:
        library()
    except AttributeError:
        pytest.skip("the SQLite of this Python does not show its functions")
    patch.setattr(fingerprint, "_place", lambda directory: ("machine", 1, 2))
