"""The folder ``tenants`` of a cloud node: for each tenant a directory, with the files that a node's has."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from entgldb.messages.tenants import check_tenant
from entgldb.storage.file.durable import sync

TENANTS_FOLDER: Final = "tenants"
STEP_BYTES: Final = 64 * 1024 * 1024
"""A file system gives back so many bytes of a file in a moment."""


def tenant_directory(directory: str | Path, tenant: str) -> Path:
    """The directory of a tenant of the node in ``directory``. Raises InvalidError for what is no name."""
    return Path(directory) / TENANTS_FOLDER / check_tenant(tenant)


class TenantFiles:
    """Implements ``ports.TenantFiles``."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = directory

    def make(self, tenant: str) -> Path:
        """Its directory, made where it is not there yet."""
        path = tenant_directory(self._directory, tenant)
        if not path.is_dir():
            for folder in (path.parent, path):
                folder.mkdir(mode=0o700, exist_ok=True)
                sync(folder.parent)
        return path

    def names(self) -> list[str]:
        """Tenants that have a directory."""
        folder = Path(self._directory) / TENANTS_FOLDER
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def size(self, tenant: str) -> int:
        """Bytes of its files."""
        found = 0
        for path in tenant_directory(self._directory, tenant).rglob("*"):
            with suppress(FileNotFoundError):
                found += path.stat().st_size
        return found

    def remove(self, tenant: str) -> bool:
        """One bounded step of removing all that is there; whether nothing is left.

        Nobody serves it any more. Repeated after a crash, it goes on. Raises OSError.
        """
        path = tenant_directory(self._directory, tenant)
        if not path.exists():
            return True
        left = sorted(path.rglob("*"), reverse=True)
        for found in left:
            if (size := found.stat().st_size) > STEP_BYTES:
                # by its name: a descriptor that this process closed would cost it SQLite's locks
                os.truncate(found, size - STEP_BYTES)
                return False
        for found in left:
            found.rmdir() if found.is_dir() else found.unlink()
        path.rmdir()
        sync(path.parent)
        return True
