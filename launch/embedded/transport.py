"""The way from a ``Database`` to the store in its own process: implements ``client.transport.Transport``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final, Protocol

from entgldb.client.wire import unless_refused
from entgldb.launch.embedded.host import Host
from entgldb.messages import codec
from entgldb.messages.client import Commit, CreateIndex, RebuildIndex, Relay
from entgldb.messages.errors import InvalidError, NoNodeError, ProtocolError
from entgldb.messages.schema import Channel, Message, from_array, to_array
from entgldb.storage.documents.query import Documents

HERE: Final = ("store", "oplog")
"""The actors that serve a program that has opened a directory."""


class Opened(Protocol):
    """A directory that this process holds."""

    @property
    def directory(self) -> Path: ...

    @property
    def host(self) -> Host: ...

    def close(self) -> None:
        """Give it back."""


class Told:
    """Implements ``client.transport.News``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._news = Event()
        self._follower = host.follow(self._news.set)

    def wait_pushed(self, timeout: float) -> bool:
        # nobody else may be there to do what is due
        self._host.tend()
        told = self._news.wait(timeout)
        self._news.clear()
        self._host.check()
        return told

    def close(self) -> None:
        self._follower.close()


class EmbeddedTransport:
    """Requests are carried out by the thread that makes them: no timeout ends one."""

    def __init__(self, opened: Opened) -> None:
        self._opened, self._host = opened, opened.host

    def attach(self, patience: float) -> None:
        self._host.check()

    def open_documents(self) -> Documents:
        self._host.check()
        return Documents.open(self._opened.directory, held=True)

    def request(self, message: Message, timeout: float) -> Message:
        return self.begin(message, timeout)()

    def begin(self, message: Message, timeout: float) -> Callable[[], Message]:
        refuse_absent(message, self._opened.directory)
        answer = self._host.ask(checked(message))
        if isinstance(message, CreateIndex | RebuildIndex):
            # no thread but this one may ever come here
            while self._host.builds():
                self.pause(self._host.rest())
                self._host.tend()
        return lambda: unless_refused(answer)

    def ask(self, actor: str, message: Message, timeout: float) -> Message:
        return self.request(Relay(actor, codec.encode(message)), timeout)

    def ask_aside(self, actor: str, message: Message, timeout: float) -> Message:
        return self.ask(actor, message, timeout)

    def follow(self) -> Told:
        return Told(self._host)

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def let_go(self) -> None:
        """It has nothing that could be had anew."""

    def close(self) -> None:
        self._opened.close()


def refuse_absent(message: Message, directory: Path) -> None:
    """Raise NoNodeError for a question to an actor that only a running node has."""
    if isinstance(message, Relay) and message.actor not in HERE:
        fault = NoNodeError(
            f"{directory} is open in this program, without a node: there is no {message.actor} to ask",
            hint=f"close it, run entgldb start --dir {directory}, and use entgldb.connect",
        )
        fault.lasting = True
        raise fault


def checked(message: Message) -> Message:
    """A request as the store of a node would take it from its socket. Raises InvalidError."""
    try:
        if isinstance(message, Commit):
            # its fields are of the types that they shall be; the store checks their values
            made: Commit = from_array(Commit, to_array(message))
            return made
        return codec.decode(codec.encode(message), Channel.CLIENT).message
    except (ProtocolError, AttributeError) as fault:
        raise InvalidError(f"{message} cannot be asked: {fault}") from None
