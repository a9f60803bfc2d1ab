"""The pytest plugin, as the test suite of an application meets it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rambla_py as rambla
from rambla_py.testing import HandlerContract, doubled
from rambla_py.testing.advice import ADVICE

pytest_plugins = ["pytester"]

TOML = """
[redis.connections.main]
url = "redis://:hunter2@nowhere.invalid:6379/0"
[redis.channels.orders]
[redis.channels.orders.options]
command = "rpush"
[amqp.connections.main]
host = "nowhere.invalid"
[amqp.channels.orders]
[amqp.channels.orders.options]
routing_key = "created"
headers = { origin = "shop" }
[amqp.channels.audit]
"""


@pytest.fixture(autouse=True)
def _no_other_plugins(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes load our plugin by its entry point, and none of those whose imports take two seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.plugins.append("rambla")


@pytest.fixture
def every_plugin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, _no_other_plugins: None) -> None:
    """The processes load every plugin that is installed, as pytest does by itself."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.plugins.clear()


@pytest.fixture
def application(pytester: pytest.Pytester) -> pytest.Pytester:
    """An application with a configuration of two services, and an ini file that names it."""
    folder = pytester.mkdir("config")
    (folder / "app.toml").write_text(TOML)
    pytester.makeini("[pytest]\nrambla_config = config/app.toml\nfilterwarnings = error\n")
    return pytester


def run(application: pytest.Pytester, tests: str, *arguments: str, **outcomes: int) -> pytest.RunResult:
    application.makepyfile(tests)
    done = application.runpytest_subprocess("--strict-markers", "--strict-config", *arguments)
    done.assert_outcomes(**outcomes)
    return done


def test_what_was_published_is_captured_by_channel(application: pytest.Pytester) -> None:
    """The app of the ini file's configuration runs without a server; each target keeps what arrived."""
    run(
        application,
        """
        def test_orders(rambla, rambla_capture):
            rambla.publish("orders", {"id": 42}, id="the-id", key="k", routing_key="paid", headers={"a": "b"})
            assert rambla_capture.payloads("orders", service="redis") == [{"id": 42}]
            one = rambla_capture.arrived("orders", service="amqp")[0]
            assert (one.body, one.id, one.key) == (b'{"id":42}', "the-id", "k")
            assert one.headers == {"origin": "shop", "a": "b"}
            assert one.options.routing_key == "paid"
            assert len(rambla_capture["orders"]) == len(rambla_capture) == 2
            assert rambla_capture["audit"] == []

        def test_every_test_has_an_app_of_its_own(rambla_capture):
            assert len(rambla_capture) == 0
        """,
        passed=2,
    )


def test_the_app_is_the_one_behind_the_functions(application: pytest.Pytester) -> None:
    """Code that calls ``rambla_py.publish`` is captured, and there is no app left after the test."""
    run(
        application,
        """
        import pytest
        import rambla_py

        def test_publish(rambla_capture):
            rambla_py.publish("audit", "seen")
            assert rambla_capture.payloads("audit") == ["seen"]

        def test_after_it():
            with pytest.raises(rambla_py.NotRunningError):
                rambla_py.publish("audit", "unseen")
        """,
        "-p",
        "no:randomly",
        passed=2,
    )


def test_options_are_checked_as_on_the_real_thing(application: pytest.Pytester) -> None:
    """A double takes the options of the handler that it stands for, and no others."""
    run(
        application,
        """
        import pytest
        from rambla_py import OptionError

        def test_misspelled(rambla):
            with pytest.raises(OptionError, match="did you mean 'routing_key'"):
                rambla.publish("audit", "x", routing_kye="paid")

        def test_unserializable(rambla):
            outcome = rambla.publish("audit", {"a": object()}).outcomes(timeout_s=5)[0]
            assert (outcome.status, outcome.error.path) == ("fatal", "$.a")
        """,
        passed=2,
    )


def test_a_backend_fails_as_planned(application: pytest.Pytester) -> None:
    """A plan makes one target fail, lose its connection or hang; retries follow at once."""
    run(
        application,
        """
        from rambla_py.testing import Step

        def test_quota(rambla, rambla_capture, caplog):
            rambla_capture.plan(Step.fail("quota"), "orders", service="redis", times=3)
            redis, amqp = rambla.publish("orders", 7).outcomes(timeout_s=10)
            assert "attempt 1 failed, next at once" in caplog.text
            assert {redis.service: redis.attempts, amqp.service: amqp.attempts} == {"redis": 4, "amqp": 1}

        def test_hang(rambla, rambla_capture):
            rambla_capture.plan(Step.hang(), "audit")
            receipt = rambla.publish("audit", 7)
            assert rambla_capture.script("audit").wait_until(lambda script: script.hanging == 1)
            assert not receipt.done()
            assert [one.payload for one in rambla_capture.arrived("audit", settle=False)] == [7]
        """,
        passed=2,
    )


def test_a_marker_brings_another_configuration(application: pytest.Pytester) -> None:
    """The marker nearest to the test wins over the ini file; it takes a table or a path."""
    (application.path / "other.toml").write_text("[redis.connections.main]\n[redis.channels.elsewhere]\n")
    run(
        application,
        """
        import pytest

        TABLE = {"null": {"channels": {"mine": {}}}}

        @pytest.mark.rambla_config(TABLE)
        class TestTable:
            def test_table(self, rambla):
                assert rambla.channels() == ["mine"]

            @pytest.mark.rambla_config("other.toml")
            def test_path(self, rambla):
                assert rambla.channels() == ["elsewhere"]
        """,
        passed=2,
    )


def test_a_service_may_stay_real(application: pytest.Pytester) -> None:
    """What the marker names is delivered for good, and is not captured."""
    run(
        application,
        """
        from pathlib import Path
        import pytest

        @pytest.mark.rambla_config({
            "file": {"connections": {"one": {"path": "out.jsonl"}}, "channels": {"orders": {}}},
            "redis": {"connections": {"one": {}}, "channels": {"orders": {}}},
        })
        @pytest.mark.rambla_real("file")
        def test_file(rambla, rambla_capture):
            rambla.publish("orders", {"id": 1}).result(timeout_s=5)
            assert Path("out.jsonl").read_text() == '{"id":1}\\n'
            assert len(rambla_capture) == 1
            with pytest.raises(KeyError, match="is on no double; on doubles are: redis.orders"):
                rambla_capture.arrived("orders", service="file")
        """,
        passed=1,
    )


def test_back_off_may_be_real(application: pytest.Pytester) -> None:
    """With ``rambla_backoff`` the waits of the configuration are kept."""
    run(
        application,
        """
        from rambla_py.testing import Step

        def test_waits(rambla):
            policies = [c.policy for s in rambla.config.services.values() for c in s.channels.values()]
            assert {policy.backoff.max_s for policy in policies} == {60.0}
        """,
        "-o",
        "rambla_backoff=true",
        passed=1,
    )


def test_faults_stand_before_a_server(application: pytest.Pytester) -> None:
    """The proxy runs during the test, and is closed after it, with its connections."""
    run(
        application,
        """
        import socket, pytest
        kept = []

        def test_a_proxy(rambla_faults):
            with socket.create_server(("127.0.0.1", 0)) as server:
                proxy = rambla_faults(*server.getsockname())
                kept.append(proxy)
                with socket.create_connection(proxy.address) as client:
                    server.accept()[0].close()
                    assert client.recv(1) == b""

        def test_after_it():
            with pytest.raises(OSError):
                socket.create_connection(kept[0].address)
        """,
        "-p",
        "no:randomly",
        passed=2,
    )


WRONG_MARKS = {
    'rambla_real("redsi")': "no service is called 'redsi'; there are: redis, amqp",
    "rambla_config()": "takes one argument",
    'rambla_config({"redis": {"chanels": {}}})': "did you mean 'channels'",
    'rambla_config("missing.toml")': "missing.toml",
}


SHOP = """
import rambla_py

CONF = {"file": {"connections": {"main": {"path": PATH}}, "channels": {"orders": {}}}}
app = rambla_py.Rambla(CONF)
"""

EVERY_APP = """
import rambla_py, pytest, shop

pytestmark = pytest.mark.rambla_config(shop.CONF)
running = rambla_py.Rambla(shop.CONF).start()

def numbers(rambla_capture):
    return [arrival.payload for arrival in rambla_capture["orders"]]

def test_made_at_import(rambla_capture):
    with shop.app:
        shop.app.publish("orders", 1)
        assert numbers(rambla_capture) == [1]

def test_running_since_import(rambla_capture):
    running.publish("orders", 2)
    assert numbers(rambla_capture) == [2]

def test_started_and_left_running(rambla_app, rambla_capture):
    assert rambla_py.start(shop.CONF) is not rambla_app
    rambla_py.publish("orders", 3)
    shop.app.start().publish("orders", 4)
    assert sorted(numbers(rambla_capture)) == [3, 4]
    with pytest.raises(rambla_py.AlreadyRunningError, match="stop"):
        rambla_py.start(shop.CONF)

def test_pings_reach_doubles(rambla_capture):
    assert shop.app.ping()[0].ok

def test_without_the_fixture():
    assert repr(shop.app).startswith("<Rambla stopped")
    running.publish("orders", "real").result(timeout_s=5)
    running.stop()
"""


def test_every_app_of_the_test_runs_on_doubles(pytester: pytest.Pytester) -> None:
    """Apps made or started at import or in the test reach no backend; what ran before runs again after it."""
    written = pytester.path / "written.jsonl"
    pytester.makepyfile(shop=SHOP.replace("PATH", repr(str(written))))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    run(pytester, EVERY_APP, "-p", "no:randomly", passed=5)
    assert written.read_text() == '"real"\n'


@pytest.mark.parametrize("started", ["before", "inside"])
def test_one_app_runs_on_doubles(tmp_path: Path, started: str) -> None:
    """``doubled`` leaves other apps alone, and gives an app that ran its backends back."""
    written = tmp_path / "written.jsonl"
    conf = {"file": {"connections": {"main": {"path": str(written)}}, "channels": {"orders": {}}}}
    app, other = rambla.Rambla(conf), rambla.Rambla(conf)
    if started == "before":
        app.start()
    with other, doubled(app) as capture:
        app.start().publish("orders", 1)
        other.publish("orders", "other").result(timeout_s=5)
        assert capture.payloads("orders") == [1]
    assert repr(app).startswith("<Rambla running" if started == "before" else "<Rambla stopped")
    with app:
        app.publish("orders", "after").result(timeout_s=5)
    assert written.read_text().splitlines() == ['"other"', '"after"']


FORGETFUL = """
import rambla_py as rambla
from rambla_py.testing import HandlerContract

class Forgetful(rambla.Handler):
    "Confirms what it never writes."
    guarantee = "none"

    def connect(self):
        return object()

    def handle_publish(self, message, options, state):
        message.body()

class TestForgetful(HandlerContract):
    handler = Forgetful
    has_server = has_address = has_login = has_poison = can_cut = False

    def received(self):
        return []
"""


def test_a_failed_contract_test_says_what_to_do(pytester: pytest.Pytester) -> None:
    """Three lines: what was expected, what the handler should do, and which flag leaves the test out."""
    done = run(pytester, FORGETFUL, "-k", "test_a_delivered_message_has_arrived", failed=1)
    shown = done.stdout.str()
    assert "what the handler should do" in shown
    assert "expected: A message that ended as ok" in shown
    assert "to do:    Return from handle_publish only after the backend has confirmed" in shown
    assert "or:       stores = False in TestForgetful" in shown


def test_every_contract_test_has_advice() -> None:
    """No test of the suite fails without saying what to do, and no advice is for a test that is gone."""
    assert {name for name in dir(HandlerContract) if name.startswith("test_")} == set(ADVICE)


def test_a_wrong_marker_is_reported(application: pytest.Pytester) -> None:
    """The error of the fixture says what is wrong with the marker or the configuration."""
    tests = [f"@pytest.mark.{mark}\ndef test_{at}(rambla): ...\n" for at, mark in enumerate(WRONG_MARKS)]
    done = run(application, "import pytest\n" + "".join(tests), errors=len(WRONG_MARKS))
    for reported in WRONG_MARKS.values():
        assert reported in done.stdout.str()


def test_a_missing_configuration_is_reported(pytester: pytest.Pytester) -> None:
    """Without a marker, a key or a file that is found, the fixture says where it looked."""
    done = run(pytester, "def test_it(rambla): ...\n", errors=1)
    assert "rambla.toml" in done.stdout.str()


@pytest.mark.usefixtures("every_plugin")
def test_the_plugin_is_listed(application: pytest.Pytester) -> None:
    """``--markers``, ``--fixtures`` and ``--help`` know it, under names of its own."""
    assert "@pytest.mark.rambla_config(source):" in application.runpytest_subprocess("--markers").stdout.str()
    assert "rambla_capture" in application.runpytest_subprocess("--fixtures").stdout.str()
    assert "rambla_stop_timeout_s" in application.runpytest_subprocess("--help").stdout.str()


@pytest.mark.usefixtures("every_plugin")
def test_the_plugin_can_be_left_out(application: pytest.Pytester) -> None:
    """``-p no:rambla`` leaves nothing of it behind."""
    application.makeini("[pytest]\n")
    run(application, "def test_it(rambla): ...\n", "-p", "no:rambla", errors=1)


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    """Loading it imports neither a driver nor anything else of ours but its own package's doors."""
    program = (
        "import sys, pytest; before = set(sys.modules); import rambla_py.testing.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["rambla_py", "rambla_py.testing", "rambla_py.testing.plugin"]
