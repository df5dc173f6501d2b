"""The permissions that this user lacks, told in one sentence and before anything is changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, NotAllowedError

_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_access(directory: Path) -> None:
    """Raise NotAllowedError where this user may not look into a directory; one that is not there may come."""
    try:
        directory.stat()
    except PermissionError as fault:
        raise refused(fault) from None
    except OSError:
        return
    if not os.access(directory, os.R_OK | os.X_OK):
        raise refused(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory)))


def check_writable(directory: Path) -> None:
    """Raise ConfigError for a file, NotAllowedError where this user may not write into a directory there."""
    if os.path.isfile(directory):
        raise ConfigError(f"{directory} is a file", hint="give the directory of a node, or a new one")
    if directory.is_dir() and not os.access(directory, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        raise refused(OSError(code, os.strerror(code), str(directory)))


def refused(fault: OSError) -> EntglError:
    """A refusal of the system as an error: not allowed, or whatever else it says."""
    place = str(fault.filename or "")
    text = f"{place}: {fault.strerror or fault}" if place else str(fault.strerror or fault)
    if fault.errno not in _NOT_ALLOWED:
        return EntglError(text, code=ErrorCode.DISK_ERROR, hint="look at the disk, and at what else uses it")
    if fault.errno == errno.EROFS:
        return NotAllowedError(text, hint="mount it read-write, or copy the directory")
    return NotAllowedError(text, hint=_whose(Path(place)))


def _whose(place: Path) -> str:
    """A hint that names the owner of the nearest place that can be looked at."""
    for one in (place, *place.parents):
        try:
            owner = one.stat().st_uid
        except OSError:
            continue
        if owner != os.geteuid():
            return f"{one} belongs to {_name(owner)}, you are {_name(os.geteuid())}"
        return f"chmod u+rwX {one}"
    return "ask its owner"


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
