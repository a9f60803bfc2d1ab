"""Schemas of payloads: types of Python, and JSON Schema."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import msgspec.inspect

from rambla_py._internal.import_paths import import_object
from rambla_py._internal.text_files import decoded
from rambla_py.errors import HandlerError, PayloadError
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.error_path import key_step, shortened

__all__ = ["Misfit", "SchemaError", "Validate", "validator_of"]

Validate = Callable[[Any], None]
"""Is given a payload; raises ``PayloadError``."""

_FORMS = '"module:Type", or a JSON Schema file (.json)'
_PATH = re.compile(r" - at `(?:key in )?(.*)`$", re.DOTALL)
# These quote a value of the payload.
_QUOTES = re.compile(r"^(Invalid (?:enum )?value).*", re.DOTALL)


class SchemaError(ValueError):
    """A schema that cannot be used: what was expected, and what was found."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got


class Misfit(NamedTuple):
    """Where a payload does not fit, and why; it quotes no value of the payload."""

    path: str
    reason: str


def validator_of(reference: str, folder: Path, where: str) -> Validate:
    """Return the function that checks the payloads of a channel, called ``where`` in its errors.

    A payload is checked as JSON has it: text and bytes as the JSON in them, anything else as it is written.
    Raises ``SchemaError``.

    >>> try:
    ...     validator_of("builtins:int", Path(), "a.n")("x")
    ... except PayloadError as error:
    ...     print(error)
    the payload does not fit the schema of a.n: at $: Expected `int`, got `str`
    """
    if reference.endswith(".json"):
        check = _of_file(folder / reference)
    elif ":" in reference:
        check = _of_type(reference)
    else:
        raise SchemaError(_FORMS, repr(reference))
    return partial(_validate, check, where)


def _validate(check: Callable[[bytes], Misfit | None], where: str, payload: Any) -> None:
    misfit = check(_as_json(payload))
    if misfit is not None:
        raise PayloadError(misfit.path, misfit.reason, where)


def _as_json(payload: Any) -> bytes:
    if not isinstance(payload, (str, bytes, bytearray, memoryview)):
        return to_json(payload, nan="null")
    data = to_json(payload) if isinstance(payload, str) else bytes(payload)
    text = data if not isinstance(payload, str) else payload.encode()
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return data  # a string that is no JSON is checked as a string
    return text


# -- types of Python ---------------------------------------------------------------------------------------


def _of_type(reference: str) -> Callable[[bytes], Misfit | None]:
    try:
        kind = import_object(reference)
    except HandlerError as error:
        raise SchemaError(_FORMS, error.reason) from error
    pydantic = getattr(kind, "__pydantic_validator__", None)
    if pydantic is not None:
        return partial(_misfit_of_pydantic, pydantic.validate_json)
    try:
        if isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
            raise TypeError("it declares no fields")
        decode = msgspec.json.Decoder(kind).decode
    except (TypeError, NameError) as error:
        raise SchemaError("a type that msgspec or pydantic can check", f"{reference!r}: {error}") from error
    return partial(_misfit_of_msgspec, decode)


def _misfit_of_msgspec(decode: Callable[[bytes], Any], data: bytes) -> Misfit | None:
    try:
        decode(data)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        reason = _QUOTES.sub(r"\1", text[: found.start()] if found else text)
        return Misfit(found[1] if found else "$", reason)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Misfit("$", "expected JSON")
    return None


def _misfit_of_pydantic(validate_json: Callable[..., Any], data: bytes) -> Misfit | None:
    try:
        validate_json(data, strict=True)
    except ValueError as error:
        listed = getattr(error, "errors", None)
        if listed is None:
            return Misfit("$", f"a validator raised {type(error).__name__}")
        first = listed(include_url=False, include_context=False, include_input=False)[0]
        # A validator of the application's own may quote the value.
        own = first["type"] in ("value_error", "assertion_error")
        return Misfit(_path(first["loc"]), "refused by a validator" if own else first["msg"])
    return None


# -- JSON Schema -------------------------------------------------------------------------------------------


def _of_file(path: Path) -> Callable[[bytes], Misfit | None]:
    try:
        library: Any = importlib.import_module("jsonschema_rs")
    except ImportError as error:
        raise SchemaError("the extra 'schema'", f"{error}; pip install 'rambla-py[schema]'") from error
    schema = _read(path)
    try:
        validator = library.validator_for(
            schema, mask="the value", base_uri=path.resolve().as_uri(), retriever=_of_file_uri
        )
    except (ValueError, library.ReferencingError) as error:
        raise SchemaError("a valid JSON Schema", f"{path}: {str(error).splitlines()[0]}") from error
    return partial(_misfit_of_json_schema, validator)


def _misfit_of_json_schema(validator: Any, data: bytes) -> Misfit | None:
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Misfit("$", "expected JSON")
    for error in validator.iter_errors(value):
        return Misfit(_path(error.instance_path), error.message)
    return None


def _read(path: Path) -> Any:
    try:
        return _decode(decoded(path.read_bytes()).encode())
    except OSError as error:
        raise SchemaError(
            "a readable JSON Schema", f"{path}: {(error.strerror or str(error)).lower()}"
        ) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SchemaError("a JSON Schema", f"{path}: {error}") from error


def _of_file_uri(uri: str) -> Any:
    """Return a schema that another one refers to; only files are read."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"{uri} is not a file")
    return _read(Path(unquote(parts.path)))


def _path(steps: Iterable[str | int]) -> str:
    return shortened(["$", *(key_step(step) for step in steps)])


_decode = msgspec.json.Decoder(float_hook=float).decode
