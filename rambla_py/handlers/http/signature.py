"""Signatures of bodies, as standard-webhooks.com defines them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["key_of", "signed_headers"]

_MARK = "whsec_"


def key_of(secret: str) -> bytes:
    """Return the bytes of a key: base64 after ``whsec_``; any other string is the key itself, in UTF-8.

    Raises ``ValueError``, which does not quote the key.

    >>> key_of("whsec_aGVsbG8="), key_of("hello")
    (b'hello', b'hello')
    """
    if not secret.startswith(_MARK):
        if not secret:
            raise ValueError("a signature with an empty secret")
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_MARK), validate=True)
    except binascii.Error:
        raise ValueError("a signature's secret with whsec_ that is not followed by base64") from None


def signed_headers(
    keys: Sequence[bytes], prefix: str, message_id: str, timestamp: int, body: bytes
) -> list[tuple[str, str]]:
    """Return the three headers by which a receiver verifies sender and time of a body.

    >>> signed_headers([b"key"], "webhook", "m-1", 1, b"{}")[2]
    ('webhook-signature', 'v1,r3X84WXmNwLzYMz8zmgGhbqcndSf25y/Uqj/5DbFue0=')
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    signatures = " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
    return [
        (f"{prefix}-id", message_id),
        (f"{prefix}-timestamp", str(timestamp)),
        (f"{prefix}-signature", signatures),
    ]
