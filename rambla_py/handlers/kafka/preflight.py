"""What would make every message of a topic fail, found out without producing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # some are not listed as exported
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

if TYPE_CHECKING:
    from rambla_py.handler import Preflight

__all__ = ["look"]


def look(config: dict[str, Any], where: str, topic: str, report: Preflight, timeout_s: float) -> None:
    """Look for the topic among all topics: to ask for one by name would create it on some brokers."""
    admin = AdminClient(config)
    found = admin.list_topics(timeout=timeout_s)
    if topic in found.topics:
        _look_at_right(admin, topic, report, timeout_s)
    elif _creates(admin, next(iter(found.brokers), 0), timeout_s):
        report.would_create(f"topic {topic!r}, by the brokers (auto.create.topics.enable)")
    else:
        report.problem(
            f"{where}: there is no topic {topic!r}, or this user may not see it",
            hint=f"create it: kafka-topics.sh --create --topic {topic}",
        )


def _creates(admin: AdminClient, broker: int, timeout_s: float) -> bool:
    """Return whether the brokers create topics; False also if they do not answer that."""
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    try:
        future = admin.describe_configs([resource], request_timeout=timeout_s)[resource]
        return bool(future.result(timeout_s)["auto.create.topics.enable"].value == "true")
    except (KafkaException, KeyError, TimeoutError):
        return False


def _look_at_right(admin: AdminClient, topic: str, report: Preflight, timeout_s: float) -> None:
    try:
        asked = admin.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=timeout_s
        )
        allowed = asked[topic].result(timeout_s).authorized_operations
    except (KafkaException, KeyError, TimeoutError):
        allowed = None
    if not allowed:
        report.not_checked(f"the right to write to topic {topic!r}")
    elif not {AclOperation.WRITE, AclOperation.ALL} & set(allowed):
        report.problem(f"this user may not write to topic {topic!r}", hint="add an ACL: kafka-acls.sh --add")
