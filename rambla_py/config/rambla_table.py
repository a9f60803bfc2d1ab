"""The table ``[rambla]``: settings, and default options for every service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from rambla_py.config.analytics_table import read_analytics
from rambla_py.config.conversion import BAD, convert, convert_fields, convert_struct, convert_table
from rambla_py.config.elsewhere import elsewhere
from rambla_py.config.layers import Known, Layer, merged, read_layer
from rambla_py.config.options import reserved
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node, plain
from rambla_py.config.reserved import PER_MESSAGE
from rambla_py.config.schema import OutboxSettings, RamblaSettings, TelemetrySettings, WebSettings
from rambla_py.config.secrecy import secrets_in
from rambla_py.config.struct_fields import fields_of
from rambla_py.errors import nearest

__all__ = ["check_defaults", "chosen_services", "read_defaults", "read_settings"]

_STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "outbox": OutboxSettings,
    "telemetry": TelemetrySettings,
    "web": WebSettings,
}
_TABLES = ("options", "analytics", *_STRUCTS)
"""The tables in ``[rambla]`` that are not converted like its other keys."""


def read_settings(rambla: Node, problems: ProblemList) -> RamblaSettings:
    """Return the settings of ``[rambla]``; one that was refused is reported and has its default."""
    fields = [field for field in fields_of(RamblaSettings) if field.name not in _TABLES]
    hints = elsewhere(Known({}), options="rambla.options", channel="SERVICE.channels.NAME")
    beside = ("include", *_TABLES)
    values = convert_fields(rambla, fields, "rambla", problems, beside=beside, elsewhere=hints)
    options, analytics = rambla.get("options"), rambla.get("analytics")
    for name, struct in _STRUCTS.items():
        path, table = f"rambla.{name}", rambla.get(name)
        if table is not None and convert_table(table, path, problems) is not None:
            values[name] = convert_struct(table, struct, path, problems)
            problems.secret(*secrets_in(values[name]))
    if options is not None and convert_table(options, "rambla.options", problems) is not None:
        values["options"] = plain(options)
    if analytics is not None:
        values["analytics"] = read_analytics(analytics, problems)
    return RamblaSettings(**{name: value for name, value in values.items() if value is not BAD})


def chosen_services(
    settings: RamblaSettings, rambla: Node, known: list[str], problems: ProblemList
) -> list[str]:
    """Return the services listed in ``services``, in the order of the file; without it, all."""
    if settings.services is None:
        return known
    for at, name in enumerate(settings.services):
        if name not in known and not problems.incomplete:
            path, node = f"rambla.services[{at}]", rambla.value["services"]
            problems.unknown(path, known, what="a service of this configuration", node=node, name=name)
    return [name for name in known if name in settings.services]


def read_defaults(rambla: Node, known: Known, problems: ProblemList) -> Layer:
    """Return the options of ``[rambla]`` for one handler, merged over ``retries`` of the table itself."""
    options, retries = rambla.get("options"), rambla.get("retries")
    below = Layer()
    if retries is not None:
        value = convert(retries, reserved()["retries"].type, "rambla.retries", problems)
        below = Layer(failed={"retries"}) if value is BAD else Layer(values={"retries": value})
    if options is None or not options.is_table:
        return below
    given = read_layer(options, "rambla.options", known, problems, skip_unknown=True)
    problems.secret(*secrets_in(given.values, by_name=False), *secrets_in(given.headers))
    return merged([below, given])


def check_defaults(rambla: Node, known: Iterable[Known | None], problems: ProblemList) -> None:
    """Report default options that no handler declares; None represents a handler that was not found.

    ``known`` is consumed only while there are undeclared names.
    """
    options = rambla.get("options")
    if options is None or not options.is_table:
        return
    allowed = [name for name in reserved() if name not in PER_MESSAGE]
    pending = set(options.value) - set(allowed) - PER_MESSAGE
    hints = elsewhere(Known({}), channel="SERVICE.channels.NAME")
    guessing = False
    for handler in known if pending else ():
        if handler is None:
            guessing = True  # it may declare any of them, so only misspelt names are reported
            continue
        if handler.anything:
            return
        allowed = [*handler.fields, *allowed]
        pending -= set(handler.fields)
    for name, node in options.value.items():
        if name in pending and not (guessing and nearest(name, allowed) is None and hints(name) is None):
            path, what = joined("rambla.options", name), "an option that some handler declares"
            hint = hints(name)
            problems.unknown(path, allowed, what=what, node=node, name=name, hint=hint)
