"""A state store behind ``rambla state serve``, over HTTP.

It uses the standard library's client: each method is one small request on a kept connection, and the caller
waits for the answer, so a faster client would save little and cost a dependency.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import ssl
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.urls import check_url
from rambla_py.handler import Secret, secret_text
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.json_numbers import read_json_as
from rambla_py.state import protocol
from rambla_py.state.errors import StateAccessError, StateError, StateUnavailableError
from rambla_py.state.record import StateRecord, check_key, check_prefix, check_ttl, json_of
from rambla_py.state.rows import write_rule
from rambla_py.state.store import StateStore

__all__ = ["HttpStore"]

_MAX_IDLE = 8


class HttpStore(StateStore):
    """Keeps records on the server at ``url`` (``http://host:port`` or ``https://``, optionally with a path).

    ``init()`` checks its health, and that it accepts ``token``. Connections are kept; each calling thread has
    its own. No request is repeated automatically: a failure after the request was written raises
    ``StateUnavailableError`` with ``applied = "unknown"``. The server's clock decides what has expired.
    ``ca_file`` is a PEM file of certificate authorities to trust.

    >>> HttpStore("http://localhost:8420", token="hunter2")
    <HttpStore(http://localhost:8420), not ready>
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Secret | None = None,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 10.0,
        ca_file: str | None = None,
    ) -> None:
        super().__init__()
        self._host, self._port, self._path, tls = _address(url)
        self._url = f"http{'s' if tls else ''}://{self._host}:{self._port}{self._path}"
        self._tls, self._ca_file = tls, ca_file
        self._context: ssl.SSLContext | None = None
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {secret_text(token)}"
        self._connect_timeout_s, self._timeout_s = connect_timeout_s, timeout_s
        self._idle: list[http.client.HTTPConnection] = []
        self._owner = os.getpid()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> HttpStore:
        """Return the store of a server's URL."""
        check_url(url)
        return cls(url, **options)

    def _name(self) -> str:
        return f"HttpStore({self._url})"

    def _open(self) -> None:
        if self._tls and self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise StateAccessError(self._name(), f"cannot read ca_file: {error}") from error
        try:
            health = self._ask("GET", "/health", protocol.Health)
            if health.about != protocol.ABOUT:
                raise StateUnavailableError(self._name(), "is not a server of 'rambla state serve'")
            if not health.authorized:
                raise StateAccessError(self._name(), "it does not accept the token")
        except StateError:
            self._close()
            raise

    def _close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None."""
        self._check_ready()
        found: StateRecord | None = self._ask("GET", _path("/record", key=check_key(key)), StateRecord | None)
        return found

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys, in one request."""
        self._check_ready()
        wanted = list(dict.fromkeys(map(check_key, keys)))
        if not wanted:
            return {}
        answer: protocol.Records = self._ask("POST", "/read", protocol.Records, to_json({"keys": wanted}))
        return {record.key: record for record in answer.records}

    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``."""
        self._check_ready()
        path = _path("/records", prefix=check_prefix(prefix))
        answer: protocol.Records = self._ask("GET", path, protocol.Records)
        return answer.records

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Store a value."""
        self._check_ready()
        rule = write_rule(key, if_absent, if_version)
        body: dict[str, Any] = {"key": check_key(key), "value": msgspec.Raw(json_of(key, value))}
        body["expires_s"] = check_ttl(key, expires_s)
        body |= {"if_absent": rule.if_absent, "if_version": rule.if_version}
        record: StateRecord = self._ask("POST", "/record", StateRecord, to_json(body))
        return record

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys in one request."""
        self._check_ready()
        raw: dict[str, Any] = {}
        for key, value in values.items():
            raw[check_key(key)] = msgspec.Raw(json_of(key, value))
            check_ttl(key, expires_s)
        if not raw:
            return []
        body = to_json({"values": raw, "expires_s": expires_s})
        answer: protocol.Records = self._ask("POST", "/records", protocol.Records, body)
        return answer.records

    def put(self, record: StateRecord) -> None:
        """Store a record as it is."""
        self._check_ready()
        key = check_key(record.key)
        raw = msgspec.structs.replace(record, value=msgspec.Raw(json_of(key, record.value)))
        self._ask("PUT", "/record", StateRecord | None, to_json({"record": raw}))

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record; return whether there was one."""
        self._check_ready()
        path = _path("/record", key=check_key(key), if_version=if_version)
        answer: protocol.Removed = self._ask("DELETE", path, protocol.Removed)
        return answer.removed > 0

    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``."""
        self._check_ready()
        self._ask("DELETE", _path("/records", prefix=check_prefix(prefix)), protocol.Removed)

    def cleanup_expired(self, prefix: str = "") -> int:
        """Let the server remove expired records; return how many there were."""
        self._check_ready()
        path = _path("/cleanup", prefix=check_prefix(prefix))
        answer: protocol.Removed = self._ask("POST", path, protocol.Removed, b"{}")
        return answer.removed

    def _ask(self, method: str, path: str, kind: Any, body: bytes | None = None) -> Any:
        """Send one request and return its answer, read as ``kind``."""
        status, data = self._exchange(method, path, body)
        if status != 200:
            raise protocol.error_of(status, data, self._name())
        try:
            return read_json_as(data, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reason = f"the answer is not one of 'rambla state serve': {error}"
            raise StateUnavailableError(self._name(), reason, applied="unknown") from error

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._idle_or_new()
        try:
            written = False
            connection.request(method, self._path + path, body, self._headers)
            written = True
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost_error(error, written=written) from error
        except BaseException:
            connection.close()
            raise
        if answer.will_close or len(self._idle) >= _MAX_IDLE or not (self._ready or path == "/health"):
            connection.close()
        else:
            self._idle.append(connection)
        return answer.status, data

    def _idle_or_new(self) -> http.client.HTTPConnection:
        """Return an idle connection that the server has not closed, or a new one."""
        if self._owner != os.getpid():
            self._owner, inherited, self._idle = os.getpid(), self._idle, []
            for connection in inherited:
                connection.close()  # this process's copy of the socket; the parent's stays
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._new()
            if _is_usable(connection):
                return connection
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._context is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._connect_timeout_s, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._connect_timeout_s)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            reason = f"the certificate is not accepted: {error.verify_message or error}"
            raise StateAccessError(self._name(), reason) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = "cannot connect: " + (str(error) or type(error).__name__)
            raise StateUnavailableError(self._name(), reason) from error
        connection.sock.settimeout(self._timeout_s if self._ready else self._connect_timeout_s)
        return connection

    def _lost_error(self, error: Exception, *, written: bool) -> StateUnavailableError:
        waited_s = self._timeout_s if self._ready else self._connect_timeout_s
        reason = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"no answer within {waited_s:g} s"
        # The server ignores a request that was not written whole.
        applied: Any = "unknown" if written else "no"
        return StateUnavailableError(self._name(), f"the connection was lost: {reason}", applied=applied)


def _address(url: str) -> tuple[str, int, str, bool]:
    """Return host, port, path and whether there is TLS; raises ``ValueError`` that quotes nothing."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        known = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        if known and parts.username is None and parts.password is None:
            return ascii_host(parts.hostname or ""), port, parts.path.rstrip("/"), tls
    raise ValueError("a url that is not http://host:port/path or https://...; pass a token as 'token'")


def _path(path: str, **query: str | None) -> str:
    # Keys go into the query, where no proxy interprets "..", "//" or "%2F".
    parts = [f"{name}={quote(value, safe='')}" for name, value in query.items() if value]
    return f"{path}?{'&'.join(parts)}" if parts else path


def _is_usable(connection: http.client.HTTPConnection) -> bool:
    """Return whether the server has neither closed an idle connection nor sent anything on it."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)
