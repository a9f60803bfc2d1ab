"""What is kept in a topic of Kafka."""

from __future__ import annotations

from confluent_kafka import Consumer, Message, TopicPartition

from rambla_py.testing.kafka_cluster import KafkaCluster


def records_of(cluster: KafkaCluster, topic: str) -> list[Message]:
    """Return every record of a topic, partition by partition."""
    found: list[Message] = []
    settings = {"group.id": "reader", "enable.partition.eof": True, "fetch.wait.max.ms": 10}
    consumer = Consumer({"bootstrap.servers": cluster.servers, **settings})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ended = 0
        while ended < len(partitions):
            message = consumer.poll(10)
            assert message is not None, "the cluster gives no answer"
            if message.error():
                ended += 1
            else:
                found.append(message)
    finally:
        consumer.close()
    return found
