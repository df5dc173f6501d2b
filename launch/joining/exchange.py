"""The words of host and guest; no sockets, no clocks.

    guest -> host   MAGIC, its half of SPAKE2          the code never goes over the line
    host -> guest   its half                           both derive two keys, one a direction
    guest -> host   sealed: the id it wants, or takes  shows that it knows the code
    host -> guest   sealed: cluster key, id, seeds     or why not
    guest -> host   sealed: done, its key              its files are written, and what it is known by

SPAKE2 (RFC 9382) gives a listener, and a liar in the middle, one guess a connection and nothing to try
others against. All that is sealed is AES-256-GCM under a key of that direction, the number of the frame as
its nonce.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B

from entgldb.actors.cluster_key import cluster_keys
from entgldb.messages.errors import ConfigError, EntglError, ErrorCode, InvalidError
from entgldb.messages.model import check_node_id
from entgldb.messages.remote_peers import split_address
from entgldb.messages.secret import Secret
from entgldb.storage.rules.members import KEY

MAGIC: Final = b"entgldb join 1\n"
FRAME_BYTES_MAX: Final = 4096
SEEDS_MAX: Final = 16
_GUEST, _HOST = b"guest", b"host"


class JoinError(EntglError):
    """The exchange failed; the text says whose fault it seems to be."""

    code = ErrorCode.NOT_ALLOWED


class WrongCodeError(JoinError):
    """The other side does not know the code."""


@dataclass(frozen=True, slots=True)
class Admission:
    """All that a new node needs to be a member."""

    cluster_key: Secret
    """The content of its file."""
    node_id: str
    """Empty: the guest chooses its own."""
    seeds: tuple[str, ...]


class _Side:
    """The half of the exchange that both sides have alike."""

    def __init__(self, half: Any, sends: bytes, reads: bytes) -> None:
        self._half = half
        self._own: bytes = half.start()
        self._names = sends, reads
        self._sealing: AESGCM | None = None
        self._opening: AESGCM | None = None
        self._sent = self._read = 0

    def _agree(self, theirs: bytes, transcript: bytes) -> None:
        try:
            shared = self._half.finish(theirs)
        except Exception:  # noqa: BLE001 -- spake2 raises a class of its own for each way to be no point
            raise JoinError("the other side did not answer as a node of this release does") from None
        sealing, opening = (
            AESGCM(HKDF(SHA256(), 32, salt=transcript, info=MAGIC + name).derive(shared))
            for name in self._names
        )
        self._sealing, self._opening = sealing, opening

    def _seal(self, content: Mapping[str, Any]) -> bytes:
        assert self._sealing is not None
        nonce = self._sent.to_bytes(12)
        self._sent += 1
        return self._sealing.encrypt(nonce, json.dumps(content).encode(), None)

    def _open(self, frame: bytes) -> dict[str, Any]:
        assert self._opening is not None
        nonce = self._read.to_bytes(12)
        self._read += 1
        try:
            found = json.loads(self._opening.decrypt(nonce, frame, None))
        except (InvalidTag, ValueError, RecursionError):
            raise WrongCodeError("the other side does not know this code") from None
        if not isinstance(found, dict):
            raise JoinError("the other side did not answer as a node of this release does")
        return found


class Guest(_Side):
    """The new node. Each step takes the frame that arrived, gives the one to send."""

    def __init__(self, secret: Secret) -> None:
        super().__init__(SPAKE2_A(secret.reveal(), idA=_GUEST, idB=_HOST), _GUEST, _HOST)

    def begin(self) -> bytes:
        """The first frame."""
        return MAGIC + self._own

    def prove(self, frame: bytes, wanted_id: str, otherwise: str = "") -> bytes:
        """Show that the code is known; ``wanted_id`` is empty where the host shall say.

        ``otherwise``: the id that the guest takes where neither side wants another.
        """
        self._agree(frame, MAGIC + self._own + frame)
        return self._seal({"node_id": wanted_id, "otherwise": otherwise})

    def admitted(self, frame: bytes) -> Admission:
        """The answer. Raises WrongCodeError, or JoinError with the host's words."""
        return _read_admission(self._open(frame))

    def done(self, key: str = "") -> bytes:
        """The last frame; ``key``: of the certificates that this node will show."""
        return self._seal({"done": True, "key": key})


class Host(_Side):
    """The member that invited; one for each connection."""

    def __init__(self, secret: Secret) -> None:
        super().__init__(SPAKE2_B(secret.reveal(), idA=_GUEST, idB=_HOST), _HOST, _GUEST)
        self.otherwise = ""
        """The id that the guest takes where nobody wants another; empty: it has not said."""

    def greet(self, frame: bytes) -> bytes:
        """Answer the first frame."""
        if not frame.startswith(MAGIC):
            raise JoinError("this is no node of this release that wants to join")
        self._agree(frame.removeprefix(MAGIC), frame + self._own)
        return self._own

    def wanted(self, frame: bytes) -> str:
        """The id that the guest asks for, empty where it leaves it to us. Raises WrongCodeError."""
        said = self._open(frame)
        node_id, otherwise = said.get("node_id"), said.get("otherwise", "")
        if not isinstance(node_id, str) or not isinstance(otherwise, str):
            raise JoinError("the guest did not say who it wants to be")
        self.otherwise = check_node_id(otherwise, "node id") if otherwise else ""
        return check_node_id(node_id, "node id") if node_id else ""

    def admit(self, admission: Admission) -> bytes:
        """The frame that makes the guest a member."""
        return self._seal(
            {
                "cluster_key": base64.b64encode(admission.cluster_key.reveal()).decode(),
                "node_id": admission.node_id,
                "seeds": list(admission.seeds),
            }
        )

    def refuse(self, text: str) -> bytes:
        """The frame that tells the guest why not."""
        return self._seal({"refused": text})

    def finished(self, frame: bytes) -> str | None:
        """The key of the guest, whose files are written; empty: it does not say. None: they are not."""
        found = self._open(frame)
        key = found.get("key", "")
        return None if found.get("done") is not True else key if KEY.fullmatch(str(key)) else ""


def _read_admission(found: Mapping[str, Any]) -> Admission:
    refused = found.get("refused")
    if isinstance(refused, str):
        raise JoinError(f"the inviting node refused: {refused:.300}")
    try:
        key = base64.b64decode(found["cluster_key"], validate=True)
        node_id, seeds = found["node_id"], found["seeds"]
        cluster_keys(key)
        good = isinstance(seeds, list) and len(seeds) <= SEEDS_MAX
        for seed in seeds:
            split_address(seed, "seed")
        if node_id != "":
            check_node_id(node_id, "node id")
    except (KeyError, TypeError, ValueError, InvalidError, ConfigError):
        good = False
    if not good:
        raise JoinError("the inviting node's answer cannot be read", hint="use the same release")
    return Admission(Secret(key), node_id, tuple(seeds))
