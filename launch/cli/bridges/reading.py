"""The configuration of a bridge: one TOML file, read whole, all faults told at once."""

from __future__ import annotations

import os
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from entgldb.launch.node.config_fields import Faults, Section, expand
from entgldb.messages.errors import ConfigError, InvalidError, UnsupportedError
from entgldb.messages.model import check_collection
from entgldb.messages.remote_peers import check_authority
from entgldb.messages.secret import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class BridgeFile:
    """A file whose faults are noted while it is read; ``finish`` raises them all."""

    def __init__(self, file: Path) -> None:
        """Raises ConfigError for a file that cannot be read or is no TOML."""
        self.file = file
        self.faults = Faults()
        try:
            table: dict[str, Any] = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
        except OSError as fault:
            raise ConfigError(f"{file}: {fault.strerror}") from None
        except (ValueError, RecursionError) as fault:
            raise ConfigError(f"{file.name}: not valid TOML: {fault}") from None
        self.tables = {name: value for name, value in table.items() if isinstance(value, list)}
        fields = {name: value for name, value in table.items() if name not in self.tables or _texts(value)}
        self.top = self.section("it", fields)
        self.name = self.top.text("name", check=_name) or _name(file.stem)

    def section(self, name: str, table: Any) -> Section:
        """A table of the file, with ``${NAME}`` replaced."""
        return Section(
            name, expand(table, self.file.name, os.environ, self.faults), self.file.name, self.faults
        )

    def sections(self, name: str) -> list[Section]:
        """The tables ``[[name]]``."""
        found = self.tables.pop(name, [])
        return [self.section(f"{name}[{i}]", table) for i, table in enumerate(found)]

    def secret(self, text: str) -> Secret:
        """The secret behind a reference. Raises SecretError."""
        # the secrets of the node are read by the same rules; they cost 100 ms
        from entgldb.actors.oauth.secrets import referenced

        return referenced(text, self.file.parent)

    def finish(self, *sections: Section) -> None:
        """Raise ConfigError when anything is wrong, unknown settings included."""
        for section in (self.top, *sections):
            section.finish()
        for name, rows in self.tables.items():
            if not _texts(rows):
                self.faults.add(f"{self.file.name}: {name}", "unknown section")
        self.faults.raise_all()


def part(module: str, extra: str) -> Any:
    """A module of ours that needs an extra. Raises UnsupportedError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as fault:
        raise UnsupportedError(
            f"this needs {fault.name}, which is not installed", hint=f"pip install 'entgldb[{extra}]'"
        ) from None


def reference(text: str) -> str:
    """Give a reference to a secret back. Raises InvalidError, which does not quote it."""
    if not text.startswith(("env:", "file:")):
        raise InvalidError("a secret does not stand here: env:NAME or file:PATH is expected")
    return text


def url(text: str) -> str:
    """Give a URL back: https, or http on loopback, without a user in it. Raises InvalidError."""
    place, _, query = text.partition("?")
    check_authority(place, "url")
    if "@" in place or any(not "!" <= char <= "~" for char in query):
        raise InvalidError("url has a user, or characters that no URL has")
    return text


def collection(text: str) -> str:
    """Give the name of a collection back. Raises InvalidError."""
    return check_collection(text)


def existing(file: BridgeFile, text: str) -> str:
    """The path of a file that the configuration names, from the folder that it is in."""
    return str(file.file.parent / text) if text else ""


def _texts(value: Any) -> bool:
    return not isinstance(value, list) or not any(isinstance(one, dict) for one in value)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise InvalidError(f"{text!r:.80} is no name: letters, digits, _ . -")
    return text
