"""2 % of messages close the channel to RabbitMQ: what the others go through. Run with ``-rP`` to see the figures."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from amqp_worker import WAIT_S, app_config, bodies

from rambla_py import Message, Rambla
from rambla_py.testing.servers import RabbitMqServer

NUMBER = 1_000
BAD = frozenset(range(25, NUMBER, 50))
USERS = {"named": "somebody", "not named": "s" * 250}
"""User ids that the broker refuses; its reply has room for 255 bytes, which a long one fills."""


@pytest.mark.parametrize("kind", USERS)
def test_the_others_come_with_one_extra_copy(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, kind: str
) -> None:
    """They keep their outcome and the connection; a bad one ends once it closed a channel by itself."""
    config = app_config(rabbitmq, queue_name)
    config["amqp"]["connections"]["local"]["check_user_id"] = False
    bad = {"properties": {"user_id": USERS[kind]}}
    made = [Message(str(n), **(bad if n in BAD else {})) for n in range(NUMBER)]
    with Rambla(config) as app:
        outcomes = app.publish_many("orders", made).outcomes(timeout_s=WAIT_S)
        lost = app.status()["amqp.orders"].lost_connections
    arrived = Counter(int(body) for body in bodies(plain, queue_name))
    print(f"amqp, {kind}: at most {max(arrived.values())} copies, {lost} lost connections")
    assert {n for n, outcome in enumerate(outcomes) if outcome.status != "ok"} == BAD
    assert {outcomes[n].status for n in BAD} == {"fatal"}
    assert max(outcomes[n].attempts for n in BAD) <= (1 if kind == "named" else 2)
    assert set(arrived) == set(range(NUMBER)) - BAD
    assert max(arrived.values()) <= 2
    assert lost == 0
