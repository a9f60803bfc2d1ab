"""Checks of the tables ``[rambla.web]`` and ``[rambla.telemetry]`` as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from rambla_py._internal.host_names import address_of, ascii_host
from rambla_py.config.problems import ProblemList
from rambla_py.config.raw_tree import Node
from rambla_py.config.schema import TelemetrySettings, WebSettings

__all__ = ["check_telemetry", "check_web", "is_loopback"]

_PATH = "rambla.web"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine only.

    >>> is_loopback("localhost"), is_loopback("127.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        name = ascii_host(host)
    except ValueError:
        return False
    address = address_of(name)
    return name == "localhost" if address is None else address.is_loopback


def check_web(
    settings: WebSettings, rambla: Node, services: Mapping[str, Node], problems: ProblemList
) -> None:
    """Report unknown channels in ``required``, a server open to all, and what TLS and the extra lack."""
    table = rambla.get("web")
    if table is None or not table.is_table:
        return
    _check_required(settings, table, services, problems)
    token, file = settings.token, table.file
    if token is not None and not token.reveal().isprintable():
        problems.add(f"{_PATH}.token", expected="printable characters", got="others", file=file)
    if token is not None and not token.reveal().strip():
        problems.add(f"{_PATH}.token", expected="a string that is not empty", got="an empty one", file=file)
    if not settings.enabled:
        return
    if token is None and not is_loopback(settings.host) and "token" not in table.value:
        hint = f"host {settings.host!r} can be reached from other machines; set token, or $RAMBLA_WEB_TOKEN"
        problems.missing(f"{_PATH}.token", expected="a string", file=file, hint=hint)
    _check_extra("web", ("starlette", "uvicorn"), f"{_PATH}.enabled", file, problems)
    _check_tls(settings, file, problems)


def check_telemetry(settings: TelemetrySettings, rambla: Node, problems: ProblemList) -> None:
    """Report traces without the extra that makes them."""
    if settings.traces:
        table = rambla.get("telemetry")
        file = None if table is None else table.file
        _check_extra("otel", ("opentelemetry",), "rambla.telemetry.traces", file, problems)


def _check_extra(
    extra: str, packages: Sequence[str], path: str, file: str | None, problems: ProblemList
) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        hint = f"pip install 'rambla-py[{extra}]'"
        problems.add(path, expected=f"the extra {extra}", got=f"no {missing[0]}", file=file, hint=hint)


def _check_required(
    settings: WebSettings, table: Node, services: Mapping[str, Node], problems: ProblemList
) -> None:
    known = [
        name
        for service, node in services.items()
        for channel in _channels(node)
        for name in (channel, f"{service}.{channel}")
    ]
    for at, name in enumerate(settings.required):
        if name not in known and not problems.incomplete:
            path, node = f"{_PATH}.required[{at}]", table.value["required"]
            problems.unknown(path, known, what="the name of a channel", node=node, name=name)


def _channels(service: Node) -> list[str]:
    channels = service.get("channels")
    return list(channels.value) if channels is not None and channels.is_table else []


def _check_tls(settings: WebSettings, file: str | None, problems: ProblemList) -> None:
    files = {"tls_cert": settings.tls_cert, "tls_key": settings.tls_key}
    for name, given in files.items():
        path = f"{_PATH}.{name}"
        if given is None and any(files.values()):
            other = next(other for other, value in files.items() if value)
            problems.missing(path, expected="the path of a PEM file", file=file, hint=f"{other} is set")
        elif given is not None and not Path(given).is_file():
            problems.add(path, expected="the path of a PEM file", got=repr(given), file=file)
