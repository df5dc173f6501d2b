"""The node's half of the client socket, answering what a test tells it to."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from pathlib import Path

from entgldb.actors.behaviour import Asker
from entgldb.actors.store.client_socket import ClientSocket
from entgldb.messages.schema import Message

Answer = Callable[[Message, Asker], None]


class Store:
    """Answers in a thread what arrives, as the store's host does."""

    def __init__(self, directory: Path, answer: Answer) -> None:
        self.socket = ClientSocket(directory)
        self._answer = answer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.socket.start()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self.socket.stop()

    def _run(self) -> None:
        while not self._ended.is_set():
            select.select([self.socket.fileno()], [], [], 0.02)
            for asker, message in self.socket.drain():
                if asker is not None:
                    self._answer(message, asker)
