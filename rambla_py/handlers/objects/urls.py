"""URLs and paths of object stores."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote

from rambla_py.errors import nearest

__all__ = ["Place", "Scheme", "check_path", "has_control", "local_path", "place_of"]

Scheme = Literal["s3", "gs", "az", "file", "memory"]

_SCHEMES: tuple[Scheme, ...] = ("s3", "gs", "az", "file", "memory")
_RESERVED = re.compile(r"()(#|%(?:25)*23)([0-9]+)\Z")
_DRIVE = re.compile(r"([A-Za-z])([:|]|%(?:25)*(?:3A|7C))()\Z")
_ENCODED = {"#": "%23", ":": "%3A", "|": "%7C"}
# Joiners and spaces of any kind are characters of names; line and paragraph separators, and what is no
# character at all, are not, and XML, in which stores list their objects, cannot hold them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_FORMS = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder or memory://name"


class Place(NamedTuple):
    """Where objects go; ``root`` is the bucket or container, the folder, or the name of a store in memory."""

    scheme: Scheme
    root: str
    prefix: str

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return f"{self.scheme}://{self.root}" + (f"/{self.prefix}" if self.prefix else "")

    def stored(self, path: str) -> str:
        """Return the path below the URL that the store is given for an object."""
        return local_path(path) if self.scheme == "file" else path

    @property
    def keeps_attributes(self) -> bool:
        """Whether objects can have metadata."""
        return self.scheme != "file"


def place_of(url: str) -> Place:
    """Return the parts of a URL; raises ``ValueError``, which quotes no possible password.

    >>> place_of("s3://events/daily/")
    Place(scheme='s3', root='events', prefix='daily')
    >>> place_of("file:///var/spool/events").root
    '/var/spool/events'
    """
    if url != url.strip():
        raise ValueError("a url with whitespace around it; remove it")
    given, mark, rest = url.partition("://")
    name = next((scheme for scheme in _SCHEMES if scheme == given.lower()), None)
    if not mark or name is None:
        close = nearest(given, _SCHEMES) if mark else None
        raise ValueError(f"a url that is not {_FORMS}" + (f"; did you mean {close}://?" if close else ""))
    if name == "file":
        if not rest.startswith("/"):
            raise ValueError("a file url without an absolute path; write file:///folder, with three slashes")
        return Place("file", unquote(rest).rstrip("/") or "/", "")
    root, _, prefix = rest.partition("/")
    if any(character in rest for character in "@?#"):
        raise ValueError(f"a url with more than {_FORMS}; credentials and options have their own keys")
    if not root and name != "memory":
        raise ValueError(f"a url without a {'container' if name == 'az' else 'bucket'}; write {_FORMS}")
    prefix = prefix.strip("/")
    if prefix:
        check_path(prefix)
    return Place(name, root, prefix)


def local_path(path: str) -> str:
    r"""Return the path of an object's file.

    The driver reserves names that end in ``#`` and digits, and takes a letter with ``:`` or ``|`` at the end
    for a drive: these characters are percent-encoded. The ``%`` of a name that is so encoded already becomes
    ``%25``, so that no two paths share a file.

    >>> local_path("orders/a#1"), local_path("orders/a%231"), local_path("orders/a#b")
    ('orders/a%231', 'orders/a%25231', 'orders/a#b')
    >>> local_path("orders/a:"), local_path("orders/a%3A"), local_path("orders/a:b")
    ('orders/a%3A', 'orders/a%253A', 'orders/a:b')
    """
    return _DRIVE.sub(_encoded, _RESERVED.sub(_encoded, path))


def _encoded(found: re.Match[str]) -> str:
    before, reserved, after = found.groups()
    return before + _ENCODED.get(reserved, "%25" + reserved[1:]) + after


def check_path(path: str) -> None:
    r"""Raise ``ValueError`` for a path that no store takes, or that would lead out of its folder.

    >>> check_path("2026/11/21/order-42.json")
    >>> check_path("a/../b")
    Traceback (most recent call last):
    ...
    ValueError: 'a/../b' has the part '..'; a path is names between single slashes
    """
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{path!r} has the part {part!r}; a path is names between single slashes")
    if has_control(path) or "\\" in path:
        raise ValueError(f"{path!r} has a control character or a backslash, which paths may not have")


def has_control(name: str) -> bool:
    r"""Return whether a string contains a control character or another one that names may not have.

    >>> has_control("a\u200db\u3000c\u00a0d"), has_control("a\nb")
    (False, True)
    """
    return not name.isprintable() and _CONTROL.search(name) is not None
