"""This module checks the table ``[rambla]``: settings, and default options for every service."""

from __future__ import annotations

from collections.abc import Iterable

from rambla_py.config.conversion import BAD, convert, convert_fields, convert_table
from rambla_py.config.findings import Findings, joined
from rambla_py.config.layers import Known, Layer, merged, read_layer
from rambla_py.config.node import Node, plain
from rambla_py.config.options import reserved
from rambla_py.config.reserved import PER_MESSAGE
from rambla_py.config.schema import RamblaSettings
from rambla_py.config.secrecy import secrets_in
from rambla_py.config.shapes import fields_of
from rambla_py.errors import nearest

__all__ = ["check_defaults", "chosen_services", "read_defaults", "read_envelope", "read_settings"]

ENVELOPE = "envelope"


def read_settings(rambla: Node, findings: Findings) -> RamblaSettings:
    """Return the settings of ``[rambla]``; a refused one has its default, and is noted."""
    fields = [field for field in fields_of(RamblaSettings) if field.name != "options"]
    values = convert_fields(rambla, fields, "rambla", findings, beside=("options", "include"))
    outbox, options = rambla.get("outbox"), rambla.get("options")
    if outbox is not None:
        hint = "the outbox is not part of this version"
        findings.problem("rambla.outbox", expected="nothing", got="a table", file=outbox.file, hint=hint)
    if options is not None and convert_table(options, "rambla.options", findings) is not None:
        values["options"] = plain(options)
    return RamblaSettings(**{name: value for name, value in values.items() if value is not BAD})


def chosen_services(
    settings: RamblaSettings, rambla: Node, known: list[str], findings: Findings
) -> list[str]:
    """Return the services that ``services`` restricts to, in the order of the file; all without it."""
    if settings.services is None:
        return known
    for at, name in enumerate(settings.services):
        if name not in known and not findings.incomplete:
            path, node = f"rambla.services[{at}]", rambla.value["services"]
            findings.unknown(path, known, what="a service of this configuration", node=node, name=name)
    return [name for name in known if name in settings.services]


def read_defaults(rambla: Node, known: Known, findings: Findings) -> Layer:
    """Return the options of ``[rambla]`` for one handler, ``retries`` from the table itself below them."""
    options, retries = rambla.get("options"), rambla.get("retries")
    below = Layer()
    if retries is not None:
        value = convert(retries, reserved()["retries"].type, "rambla.retries", findings)
        below = Layer(failed={"retries"}) if value is BAD else Layer(values={"retries": value})
    if options is None or not options.is_table:
        return below
    given = read_layer(options.without(ENVELOPE), "rambla.options", known, findings, skip_unknown=True)
    findings.secret(*secrets_in(given.values, by_name=False), *secrets_in(given.headers))
    return merged([below, given])


def read_envelope(rambla: Node, findings: Findings) -> bool | None:
    """Return what ``[rambla.options]`` says of ``envelope``, or None."""
    options = rambla.get("options")
    node = options.get(ENVELOPE) if options is not None else None
    value = None if node is None else convert(node, bool, f"rambla.options.{ENVELOPE}", findings)
    return None if value is BAD or value is None else bool(value)


def check_defaults(rambla: Node, known: Iterable[Known | None], findings: Findings) -> None:
    """Note the default options that no handler declares; None stands for a handler that could not be found.

    ``known`` is read only where there are names to account for.
    """
    options = rambla.get("options")
    if options is None or not options.is_table:
        return
    allowed = [ENVELOPE, *(name for name in reserved() if name not in PER_MESSAGE)]
    pending = set(options.value) - set(allowed) - PER_MESSAGE
    guessing = False
    for handler in known if pending else ():
        if handler is None:
            guessing = True  # it may declare any of them: only what looks misspelt is a problem
            continue
        if handler.anything:
            return
        allowed = [*handler.fields, *allowed]
        pending -= set(handler.fields)
    for name, node in options.value.items():
        if name in pending and not (guessing and nearest(name, allowed) is None):
            path = joined("rambla.options", name)
            findings.unknown(path, allowed, what="an option that some handler declares", node=node, name=name)
