"""Compression of request bodies."""

from __future__ import annotations

import zlib
from typing import Literal

import zstandard

__all__ = ["Compression", "compressed"]

Compression = Literal["none", "gzip", "zstd"]

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 4  # 128 kB of JSON rows: within a tenth of the size that level 6 gives, in half the time


def compressed(body: bytes, how: Compression) -> bytes:
    """Return the body as it is sent.

    >>> zlib.decompress(compressed(b"text", "gzip"), wbits=_GZIP)
    b'text'
    """
    if how == "gzip":
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        return packer.compress(body) + packer.flush()
    # A compressor must not be shared between threads, and making one is cheap.
    return body if how == "none" else zstandard.ZstdCompressor().compress(body)
