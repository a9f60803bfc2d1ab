"""Delivery to Kafka, over confluent-kafka."""

from rambla_py.handlers.kafka.handler import KafkaHandler

__all__ = ["KafkaHandler"]
