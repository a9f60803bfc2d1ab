"""Contract tests: refused access, and secrets."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from rambla_py.config import load_config
from rambla_py.errors import AccessError, ConfigError
from rambla_py.testing.contract_case import CANARY, HandlerCase
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, TIMEOUT_S, until
from rambla_py.testing.ports import HOST, free_port

__all__ = ["AccessTests"]


class AccessTests(HandlerCase):
    """Of wrong passwords, wrong certificates, and that no secret shows in any error."""

    @only_if("has_login")
    def test_a_wrong_password_is_reported_once(self) -> None:
        """The channel is ``down`` and the log has one error, however often it tries; messages wait."""
        self._check_reported_once(self.wrong_password())

    @only_if("has_tls")
    def test_a_certificate_of_another_name_is_reported_once(self) -> None:
        """A server that shows another's certificate gets nothing: ``down``, one error, messages wait."""
        self._check_reported_once(self.wrong_name())

    @only_if("has_login")
    def test_ping_says_that_the_password_is_wrong(self) -> None:
        """A ping with a wrong password reports that access was refused."""
        self._check_ping_refused(self.wrong_password())

    @only_if("has_tls")
    def test_ping_says_that_the_certificate_is_of_another_name(self) -> None:
        """A ping of a server that shows another's certificate reports that access was refused."""
        self._check_ping_refused(self.wrong_name())

    @only_if("has_login")
    def test_a_password_never_shows(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The password is in no log, error, cause, status, plan, repr, or on the terminal."""
        with self.trial(self.wrong_password(), options={"expires_s": 0.3}) as trial:
            trial.publish(self.payload(1))
            trial.ping()
            assert until(lambda: trial.status().state == "down"), f"{trial.status()}"
            said = [*trial.everything_said(), *self._refusal(), *capfd.readouterr()]
            assert not [text for text in said if CANARY in text]

    @only_if("has_secrets")
    @pytest.mark.parametrize("fault", ["closed", "cutting", "silent"])
    def test_no_error_shows_a_secret(self, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
        """No error of a failed connect contains the connection's password, whatever the cause."""
        with ExitStack() as stack:
            host, port = _faulty(fault, stack)
            trial = stack.enter_context(self.trial(self.secret_at(host, port), options={"expires_s": 0.1}))
            assert trial.publish(self.payload(1)).status == "expired"
            assert not trial.ping().ok
            assert until(lambda: trial.reconnects() > 0), f"{trial.status()}"
            trial.stop(timeout_s=0.1)  # a failure is reported a moment after it is counted
            said = [*trial.everything_said(), *capfd.readouterr()]
            assert not [text for text in said if CANARY in text]

    def _check_reported_once(self, connection: Mapping[str, Any]) -> None:
        with self.trial(connection) as trial:
            receipt = trial.app.publish(CHANNEL, self.payload(1))
            assert until(lambda: trial.status().state == "down"), f"{trial.status()}"
            assert until(lambda: trial.reconnects() >= 3), f"{trial.status()}"
            errors = trial.logged(logging.ERROR)
            assert len(errors) == 1, f"{errors}"
            assert not receipt.done()
            trial.stop(timeout_s=0.1)
            assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "dropped"

    def _check_ping_refused(self, connection: Mapping[str, Any]) -> None:
        with self.trial(connection) as trial:
            ping = trial.ping()
            assert not ping.ok
            assert isinstance(ping.exception, AccessError), f"{ping!r}"

    def _refusal(self) -> Sequence[str]:
        """Return the error about a table that is wrong beside its password."""
        with pytest.raises(ConfigError) as caught:
            load_config(self.table(self.wrong_password(), {"no_such_setting": 1}))
        return [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]


def _faulty(fault: str, stack: ExitStack) -> tuple[str, int]:
    """Return an address without a listener, or where connections are dropped, or ignored."""
    if fault == "closed":
        return HOST, free_port()
    proxy = stack.enter_context(FaultProxy(HOST, free_port()))  # without a server behind it, it cuts
    proxy.black_hole(fault == "silent")
    return proxy.address
