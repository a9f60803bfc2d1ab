"""Further settings of librdkafka, checked when the configuration is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.cimpl import Producer

__all__ = ["QuietLogger", "check_driver_config", "check_mechanism"]

# What the handler sets itself, because the outcome of a delivery depends on it.
_OURS = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "compression.codec",
        "compression.type",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "linger.ms",
        "message.max.bytes",
        "message.timeout.ms",
        "metadata.broker.list",
        "queue.buffering.max.ms",
        "request.required.acks",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "transactional.id",
    }
)
# Python objects, which a configuration file cannot hold.
_CALLABLES = frozenset(
    {"error_cb", "logger", "oauth_cb", "on_delivery", "stats_cb", "throttle_cb", "on_commit"}
)
_NAME = re.compile(r'configuration property:? "([^"]+)"')

log = logging.getLogger("rambla_py.handlers.kafka")


class QuietLogger:
    """Logs librdkafka's own lines as DEBUG: what matters in them reaches the worker as an error."""

    def log(self, level: int, text: str, *args: Any) -> None:
        """Log one line."""
        log.debug(text, *args)


def check_driver_config(config: Mapping[str, Any], *, idempotent: bool = True) -> None:
    """Raise ``ValueError`` for a setting that librdkafka does not know, or whose value it refuses.

    The message names the setting and quotes no value.

    >>> check_driver_config({"bogus.name": 1})
    Traceback (most recent call last):
    ValueError: config 'bogus.name': librdkafka has no such setting
    """
    for name in sorted(config):
        for problem in _problems(name, config[name]):
            raise ValueError(f"config {name!r}: {problem}")
    if config:
        conflict = _refusal({"enable.idempotence": idempotent, **config})  # settings that exclude each other
        if conflict is not None:
            raise ValueError(f"config: {conflict}")


def check_mechanism(mechanism: str) -> None:
    """Raise ``ValueError`` for a SASL mechanism that the installed driver was built without."""
    wanted = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": mechanism}
    problem = _refusal(wanted)
    if problem is not None and "No provider" in problem:
        raise ValueError(
            f"sasl_mechanism {mechanism!r}: the installed confluent-kafka is built without it, as its "
            "wheel on PyPI is; install one that is built from source with it"
        )


def _problems(name: str, value: Any) -> Iterator[str]:
    if name in _OURS:
        yield "the handler sets it; use the connection's own keys"
    elif name in _CALLABLES:
        yield "takes a Python object, which a configuration cannot hold"
    elif (refused := _refusal({name: value})) is not None:
        found = _NAME.search(refused)
        if found and "No such" in refused:
            yield "librdkafka has no such setting"
        elif found:
            yield f"librdkafka does not accept this value, a {type(value).__name__}"
        # Otherwise the setting lacks another one beside it, which may be there.


def _refusal(config: dict[str, Any]) -> str | None:
    """Return why librdkafka refuses a configuration; without brokers it connects to nothing."""
    try:
        Producer({**config, "logger": QuietLogger()})
    except KafkaException as error:
        return str(error.args[0].str())
    except TypeError as error:
        return f'configuration property "{error}"'
    return None
