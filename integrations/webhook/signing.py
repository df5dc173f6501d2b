"""Signatures of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 of id, time and body."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from entgldb.messages.errors import ConfigError
from entgldb.messages.secret import Secret

PREFIX: Final = "whsec_"
SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64


def read_secret(given: Secret) -> Secret:
    """The bytes of ``whsec_BASE64``. Raises ConfigError, which does not quote it."""
    text = given.text()
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(PREFIX) or not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ConfigError(
            f"the webhook's secret is not {PREFIX} and the base64 of"
            f" {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes",
            hint=f'echo "{PREFIX}$(head -c 32 /dev/urandom | base64)"',
        )
    return Secret(secret)


def headers(secrets: Iterable[Secret], message_id: str, at_seconds: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows who has sent ``body`` and when; one signature a secret."""
    signed = f"{message_id}.{at_seconds}.".encode() + body
    made = (base64.b64encode(hmac.digest(secret.reveal(), signed, sha256)).decode() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(f"v1,{one}" for one in made),
    }
