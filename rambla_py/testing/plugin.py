"""The pytest plugin: an app on doubles, what it published, and a proxy that breaks connections.

pytest loads it in every run, so it imports nothing of ours until a fixture is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rambla_py.app import Rambla
    from rambla_py.config import Config
    from rambla_py.outbox.memory import MemoryTables
    from rambla_py.testing.doubles import Capture
    from rambla_py.testing.faults import FaultProxy
    from rambla_py.testing.server_process import Server

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "rambla",
    "rambla_app",
    "rambla_capture",
    "rambla_faults",
    "rambla_outbox",
]

_MARKERS = (
    "rambla_config(source): the configuration of the fixture 'rambla': a table, or the path of a TOML file",
    "rambla_real(*services): services that the fixture 'rambla' leaves as they are configured",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the keys of the ini file."""
    parser.addini(
        "rambla_config", "TOML file of the fixture 'rambla', from the ini file's folder", default=""
    )
    parser.addini("rambla_backoff", "wait between retries as configured", type="bool", default=False)
    parser.addini("rambla_stop_timeout_s", "how long the app may deliver at the end of a test", default="5")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: Any
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test of the contract suite what the handler should do."""
    report = yield
    suite = getattr(item, "cls", None)
    if report.when == "call" and report.failed and hasattr(suite, "_rambla_suite"):
        name = getattr(item, "originalname", item.name)
        lines = list(_ours("testing.advice").advice_for(suite, name))
        if lines:
            report.sections.append(("what the handler should do", "\n".join(lines)))
    return report


@pytest.fixture
def _rambla_doubles(request: pytest.FixtureRequest) -> Iterator[tuple[Config, Capture]]:
    """The configuration, and the capture of every app while the test runs."""
    config = _ours("config").load_config(_source(request))
    real = {name for mark in request.node.iter_markers("rambla_real") for name in mark.args}
    unknown = sorted(real - set(config.services))
    if unknown:
        known = ", ".join(config.services) or "none"
        raise pytest.UsageError(f"rambla_real: no service is called {unknown[0]!r}; there are: {known}")
    backoff = bool(request.config.getini("rambla_backoff"))
    timeout_s = float(request.config.getini("rambla_stop_timeout_s"))
    with _ours("testing.doubles").all_doubled(real=real, backoff=backoff, timeout_s=timeout_s) as capture:
        yield config, capture


@pytest.fixture
def rambla(_rambla_doubles: tuple[Config, Capture]) -> Iterator[Rambla]:
    """A running app on doubles, also the one behind ``rambla_py.publish``; it is stopped after the test.

    The configuration is the marker's ``rambla_config``, or the ini file's, or the one that an app would find.
    Every other app of the process runs on doubles as well, those that ran before the test included.
    """
    app: Rambla = _ours("app").Rambla(_rambla_doubles[0]).start()
    with _ours("_default_app").lent(app):
        yield app


@pytest.fixture
def rambla_app(rambla: Rambla) -> Rambla:
    """The fixture ``rambla`` by another name, for modules that import ``rambla_py as rambla``."""
    return rambla


@pytest.fixture
def rambla_capture(rambla: Rambla, _rambla_doubles: tuple[Config, Capture]) -> Capture:
    """What was published under the fixture ``rambla``, by channel; ``plan`` makes a backend fail."""
    return _rambla_doubles[1]


@pytest.fixture
def rambla_outbox(rambla: Rambla, _rambla_doubles: tuple[Config, Capture]) -> MemoryTables:
    """The outbox of every app under ``rambla``, in memory: ``rows``, ``letters``, ``accounts``."""
    return _rambla_doubles[1].outbox


@pytest.fixture
def rambla_faults() -> Iterator[Callable[..., FaultProxy]]:
    """Make a fault proxy before a server: ``rambla_faults(server)``, or with host and port."""
    with ExitStack() as proxies:

        def before(target: Server | str, port: int | None = None) -> FaultProxy:
            host, its_port = (target, port) if isinstance(target, str) else (target.host, target.port)
            proxy: FaultProxy = _ours("testing.faults").FaultProxy(host, its_port)
            return proxies.enter_context(proxy)

        yield before


def _source(request: pytest.FixtureRequest) -> Any:
    marker = request.node.get_closest_marker("rambla_config")
    if marker is not None:
        if len(marker.args) != 1:
            raise pytest.UsageError("rambla_config takes one argument: a table, or the path of a TOML file")
        return marker.args[0]
    path = str(request.config.getini("rambla_config"))
    if not path:
        return None
    ini = request.config.inipath
    return Path(ini.parent if ini is not None else request.config.rootpath) / path


def _ours(module: str) -> Any:
    return importlib.import_module(f"rambla_py.{module}")
