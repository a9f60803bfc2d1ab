"""The contract suite: the guarantees of every handler, as tests to inherit."""

from __future__ import annotations

from rambla_py.testing.contract_case import CANARY, Received
from rambla_py.testing.contract_tests.access import AccessTests
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.reach import ReachTests
from rambla_py.testing.contract_tests.sockets import SocketTests
from rambla_py.testing.contract_tests.surrogates import SurrogateTests
from rambla_py.testing.contract_tests.tables import TableTests

__all__ = ["CANARY", "HandlerContract", "Received"]


class HandlerContract(
    DeliveryTests,
    PayloadTests,
    SurrogateTests,
    FailureTests,
    TableTests,
    ReachTests,
    AccessTests,
    LossTests,
    SocketTests,
):
    """The contract of a handler, tested through a real app. Inherit it, name it ``Test...``, and run pytest.

    Say what the handler is (``handler``), how it is configured (``connection``, ``options``), and how to see
    what arrived (``received``). The flags say what there is to test; all are up, so that nothing is left out
    by forgetting it: put one down where the backend has no such thing, or write the method that it asks for.

    ==================  =========================  ========================================================
    flag                method                     when it is down
    ==================  =========================  ========================================================
    ``stores``          ``received``               nothing can be read back
    ``carries_ids``                                ``Received.id`` is None: the backend has no place for it
    ``serializes``                                 payloads do not become bytes
    ``has_poison``      ``poison``                 no message is refused for what it is
    ``has_server``      ``unreachable``            there is nothing that could be unreachable
    ``has_address``     ``at``                     its servers are not found by host and port
    ``has_login``       ``wrong_password``         there are no credentials
    ``can_cut``         ``cut``, ``cuts``          there is no connection to lose
    ==================  =========================  ========================================================

    Five flags more are up where their method is written, and down where it is not:

    ==================  =========================  ========================================================
    flag                method                     what is tested with it
    ==================  =========================  ========================================================
    ``has_limit``       ``too_large``              a payload over the server's limit
    ``has_tls``         ``wrong_name``             a certificate that shows another name
    ``has_secrets``     ``secret_at``              a password in the errors of whatever goes wrong
    ``can_silence``     ``silence``                a server that takes messages and answers no more
    ``can_die``         ``die``, ``deaths``        a server that is killed in the midst of a batch
    ==================  =========================  ========================================================

    The data of a refused message is looked for in all that shows: ``poison_with`` puts it into the payload of
    ``poison``; write it where the payload would no longer be refused. No failed message may stay in memory,
    and no socket open after the stop.

    ``carries_events`` is down until it is put up: CloudEvents, whole, and with their attributes as headers.

    Each test has a new instance of the class, and an app of its own; fixtures are taken in an ``autouse``
    fixture of the subclass.

    ::

        class TestAudit(HandlerContract):
            handler = AuditHandler
            has_address = has_login = has_poison = can_cut = False

            def connection(self):
                return {"host": "localhost"}

            def unreachable(self):
                return {"host": "nowhere.invalid"}

            def received(self):
                return [Received(row.body, row.id) for row in audit_client("localhost").rows()]
    """
