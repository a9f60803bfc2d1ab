"""The page, with the policy that lets a browser run nothing but what is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Page", "page"]

_INLINE = r"<{tag}>(.*?)</{tag}>"


class Page(NamedTuple):
    """The bytes of the page, and its Content-Security-Policy."""

    content: bytes
    policy: str


@cache
def page() -> Page:
    """Return the page, read once.

    >>> "script-src 'sha256-" in page().policy
    True
    """
    content = files("rambla_py.web").joinpath("page.html").read_bytes()
    return Page(content, _policy(content.decode()))


def _policy(html: str) -> str:
    script, style = (_hashes(html, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _hashes(html: str, tag: str) -> str:
    texts = re.findall(_INLINE.format(tag=tag), html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
