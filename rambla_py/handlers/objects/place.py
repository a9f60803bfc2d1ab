"""This module takes the URL of an object store apart."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import unquote

from rambla_py.errors import nearest

__all__ = ["Place", "Scheme", "check_path", "place_of"]

Scheme = Literal["s3", "gs", "az", "file", "memory"]

_SCHEMES: tuple[Scheme, ...] = ("s3", "gs", "az", "file", "memory")
_FORMS = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder or memory://name"


class Place(NamedTuple):
    """Where objects go: ``root`` is the bucket or container, the folder, or the name of a store in memory."""

    scheme: Scheme
    root: str
    prefix: str

    @property
    def url(self) -> str:
        """The URL as people write it, without a slash at its end."""
        return f"{self.scheme}://{self.root}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def keeps_attributes(self) -> bool:
        """Whether objects have a place for metadata."""
        return self.scheme != "file"


def place_of(url: str) -> Place:
    """Return what a URL means; raises ``ValueError`` that quotes nothing of what could be a password.

    >>> place_of("s3://events/daily/")
    Place(scheme='s3', root='events', prefix='daily')
    >>> place_of("file:///var/spool/events").root
    '/var/spool/events'
    """
    name, mark, rest = url.partition("://")
    if not mark or name not in _SCHEMES:
        close = nearest(name, _SCHEMES) if mark else None
        raise ValueError(f"a url that is not {_FORMS}" + (f"; did you mean {close}://?" if close else ""))
    if name == "file":
        if not rest.startswith("/"):
            raise ValueError("a file url without an absolute path; write file:///folder, with three slashes")
        return Place("file", unquote(rest).rstrip("/") or "/", "")
    root, _, prefix = rest.partition("/")
    if any(character in rest for character in "@?#"):
        raise ValueError(f"a url that is more than {_FORMS}; credentials and options have keys of their own")
    if not root and name != "memory":
        raise ValueError(f"a url without a {'container' if name == 'az' else 'bucket'}; write {_FORMS}")
    prefix = prefix.strip("/")
    if prefix:
        check_path(prefix)
    return Place(name, root, prefix)


def check_path(path: str) -> None:
    r"""Raise ``ValueError`` for a path that no store takes, or that would lead out of where it stands.

    >>> check_path("2026/11/21/order-42.json")
    >>> check_path("a/../b")
    Traceback (most recent call last):
    ...
    ValueError: 'a/../b' has the part '..'; a path is names between single slashes
    """
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{path!r} has the part {part!r}; a path is names between single slashes")
    if not path.isprintable() or "\\" in path:
        raise ValueError(f"{path!r} has a control character or a backslash, which paths may not have")
