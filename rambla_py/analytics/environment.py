"""Arguments of a tracker that come from the environment, each by a variable ``RAMBLA_ANALYTICS_...``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rambla_py.analytics.errors import AnalyticsError

__all__ = ["PREFIX", "Arguments", "arguments_of"]

PREFIX = "RAMBLA_ANALYTICS_"
_SWITCHES = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


class Arguments(NamedTuple):
    """Arguments of a tracker; None for one that was not given."""

    write_key: str | None = None
    enabled: bool | None = None
    debug: bool | None = None
    batch_size: int | None = None
    batch_timeout_s: float | None = None
    sample: float | Mapping[str, float] | None = None


def arguments_of(given: Arguments, environ: Mapping[str, str]) -> Arguments:
    """Return the arguments, those that were not given from the environment; raises ``AnalyticsError``.

    >>> arguments_of(Arguments(batch_size=20), {"RAMBLA_ANALYTICS_BATCH_SIZE": "5"}).batch_size
    20
    >>> arguments_of(Arguments(), {"RAMBLA_ANALYTICS_ENABLED": "off"}).enabled
    False
    """
    values = dict(given._asdict())
    sources: dict[str, str] = {}
    for name, value in values.items():
        variable = PREFIX + name.upper()
        text = environ.get(variable, "").strip()
        if value is None and text:
            values[name], sources[name] = _READ[name](variable, text), variable
    chosen = Arguments(**values)
    _check(chosen, sources)
    return chosen


def _check(chosen: Arguments, sources: Mapping[str, str]) -> None:
    sample = {} if chosen.sample is None else chosen.sample
    shares = sample.values() if isinstance(sample, Mapping) else (sample,)
    size, timeout_s = chosen.batch_size, chosen.batch_timeout_s
    for name, expected, is_right in (
        ("batch_size", "an integer > 0", size is None or (_is_number(size, int) and size > 0)),
        ("batch_timeout_s", "seconds from 0 to 1e9", timeout_s is None or _is_within(timeout_s, 1e9)),
        ("sample", "a share from 0 to 1", all(_is_within(one, 1) for one in shares)),
    ):
        if not is_right:
            got = getattr(chosen, name)
            raise AnalyticsError(f"expected {expected}; got {got!r}", field=sources.get(name, name))


def _is_within(value: Any, most: float) -> bool:
    return _is_number(value) and 0 <= value <= most


def _is_number(value: Any, kind: Any = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _switch(variable: str, text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise AnalyticsError(f"expected true or false; got {text!r}", field=variable)
    return _SWITCHES[text.lower()]


def _number_of(kind: type, expected: str) -> Callable[[str, str], Any]:
    def read(variable: str, text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise AnalyticsError(f"expected {expected}; got {text!r}", field=variable) from None

    return read


_READ: dict[str, Callable[[str, str], Any]] = {
    "write_key": lambda variable, text: text,
    "enabled": _switch,
    "debug": _switch,
    "batch_size": _number_of(int, "an integer > 0"),
    "batch_timeout_s": _number_of(float, "seconds from 0 to 1e9"),
    "sample": _number_of(float, "a share from 0 to 1"),
}
