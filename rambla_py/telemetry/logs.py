"""Log records as lines of JSON."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from rambla_py._internal.redaction import Redactor, redact_url

__all__ = ["JsonFormatter"]

LONGEST: Final = 8_192
"""Bytes of a value; what is longer is cut."""

_FIELDS: Final = (
    "service",
    "channel",
    "message_id",
    "attempts",
    "status",
    "worker",
    "error",
    "error_class",
    "trace_id",
    "span_id",
)
# JSON allows these in a string, and programs that read lines may break a line at one.
_BREAKING = re.compile("[\x7f-\x9f\u2028\u2029]")


class JsonFormatter(logging.Formatter):
    r"""Formats a record as one line: a JSON object.

    It has ``at`` (UTC), ``level``, ``logger``, ``message``, ``pid``, ``thread``, for records of ours also
    ``service``, ``channel`` and what is known of the message, the worker and the error, and ``stack`` where
    there is an exception. What a record does not have is absent. ``extra`` names further attributes of
    records, as given with ``extra=`` of a log call. Values longer than 8 KiB are cut, others that JSON does
    not know are their ``repr``. ``secrets`` (``app.config.secrets``) and passwords in URLs are masked.

    Formatting never raises, whatever is in the record. Thread-safe.

    >>> record = logging.LogRecord("shop", logging.INFO, "", 0, "sold\n%s", ("hunter2",), None)
    >>> msgspec.json.decode(JsonFormatter(secrets=["hunter2"]).format(record))["message"]
    'sold\n***'
    """

    def __init__(self, *, extra: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._extra = tuple(extra)
        self._redact = Redactor(secrets).text

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        for name in _FIELDS:
            value = getattr(record, f"rambla_{name}", None)
            if value is not None:
                fields[name] = value
        fields |= {"pid": record.process, "thread": record.threadName}
        self._add_exception(fields, record)
        for name in self._extra:
            if name not in fields and getattr(record, name, None) is not None:
                fields[name] = getattr(record, name)
        known = {name: self._value(value) for name, value in fields.items() if value is not None}
        line = msgspec.json.encode(known).decode()
        return _BREAKING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)

    def _add_exception(self, fields: dict[str, Any], record: logging.LogRecord) -> None:
        if not record.exc_info or record.exc_info[1] is None:
            return
        error = record.exc_info[1]
        fields.setdefault("error", _text(error))
        fields.setdefault("error_class", type(error).__name__)
        try:
            fields["stack"] = self.formatException(record.exc_info)
        except Exception:  # third-party __str__ may raise
            fields["stack"] = _text(error)

    def _value(self, value: Any) -> Any:
        """Return a value as JSON has it, redacted and not too long."""
        if isinstance(value, str):
            return self._cut(value)
        try:
            encoded = msgspec.json.encode(value, enc_hook=_text)
            if len(encoded) > LONGEST:
                return self._cut(encoded.decode())
            return self._masked(msgspec.json.decode(encoded))
        except Exception:  # keys that are no strings, values that contain themselves
            return self._cut(_text(value))

    def _masked(self, value: Any) -> Any:
        """Return JSON data redacted: string by string, as what is masked in the line might end it as JSON."""
        if isinstance(value, list):
            return [self._masked(one) for one in value]
        if isinstance(value, dict):
            return {self._clean(name): self._masked(one) for name, one in value.items()}
        if isinstance(value, str):
            return self._clean(value)
        if value is None or isinstance(value, bool):
            return value
        clean = self._clean(str(value))
        return value if clean == str(value) else clean

    def _clean(self, text: str) -> str:
        return self._redact(redact_url(text))

    def _cut(self, text: str) -> str:
        """Redact first: half a secret would not be recognized."""
        clean = self._clean(text).encode(errors="backslashreplace")
        return clean.decode() if len(clean) <= LONGEST else clean[:LONGEST].decode(errors="ignore") + "…"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the arguments do not fit, or their __str__ raises
        return _text(record.msg)


def _text(value: Any) -> str:
    try:
        return str(value) if isinstance(value, str | BaseException) else repr(value)
    except Exception:  # third-party code
        return f"<{type(value).__name__} whose repr raises>"
