"""The cases of object stores, mail and Kafka."""

from __future__ import annotations

import importlib
import smtplib
import uuid
from email.message import EmailMessage
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, publish_confirmed, rate, stopwatch

__all__ = ["KAFKA", "OBJECTS", "SMTP"]

BODY = b"x" * 1_024


def _publish(table: dict[str, Any], count: int, payload: Any) -> Figures:
    with rambla.Rambla(table) as app:
        return rate(count, publish_confirmed(app, "out", payload, count))


def _boto3(context: Context) -> Any:
    boto3: Any = importlib.import_module("boto3")
    return boto3.client(
        "s3",
        endpoint_url=context.servers["s3"],
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )


def _bucket(context: Context) -> str:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    _boto3(context).create_bucket(Bucket=name)
    return name


def _objects(context: Context) -> Figures:
    count = context.count(1_000)
    connection = {
        "url": f"s3://{_bucket(context)}",
        "endpoint": context.servers["s3"],
        "region": "us-east-1",
        "access_key_id": "bench",
        "secret_access_key": "bench",
    }
    table = {"objects": {"connections": {"local": connection}, "channels": {"out": {}}}}
    return _publish(table, count, BODY)


def _put_object(context: Context) -> Figures:
    count, bucket, client = context.count(300), _bucket(context), _boto3(context)
    with stopwatch() as watch:
        for number in range(count):
            client.put_object(Bucket=bucket, Key=str(number), Body=BODY)
    return rate(count, watch)


OBJECTS = Case(
    name="objects",
    title="S3: objects of 1 kB, to moto's server",
    servers=("s3",),
    contenders={"rambla": _objects, "boto3": _put_object},
    goals=(Goal("rambla / boto3 (at least 3)", "rambla", "boto3", least=3),),
)

MAIL = {"to": "ann@example.com", "subject": "Your bill", "text": "x" * 256}


def _mail(context: Context) -> Figures:
    host, port = context.servers["smtp"].split(":")
    connection = {"relay": host, "port": int(port), "tls": "never", "from": "shop@example.com"}
    table = {"smtp": {"connections": {"local": connection}, "channels": {"out": {}}}}
    return _publish(table, context.count(2_000), MAIL)


def _smtplib(context: Context) -> Figures:
    host, port = context.servers["smtp"].split(":")
    count = context.count(2_000)
    with smtplib.SMTP(host, int(port)) as client, stopwatch() as watch:
        for _ in range(count):
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = "shop@example.com", MAIL["to"], MAIL["subject"]
            mail.set_content(MAIL["text"])
            client.send_message(mail)
    return rate(count, watch)


SMTP = Case(
    name="smtp",
    title="SMTP: small mails over one kept connection",
    servers=("smtp",),
    contenders={"rambla": _mail, "smtplib": _smtplib},
    goals=(Goal("rambla / smtplib (at least 0.8)", "rambla", "smtplib", least=0.8),),
)


def _kafka(context: Context) -> Figures:
    connection = {"servers": context.servers["kafka"]}
    table = {
        "kafka": {
            "connections": {"local": connection},
            "channels": {"out": {"max_pending": 1_000_000, "options": {"topic": "bench"}}},
        }
    }
    return _publish(table, context.count(200_000), BODY[:256])


def _librdkafka(context: Context) -> Figures:
    """Its own loop in Python: produce with a callback for each report, poll as it goes."""
    confluent_kafka: Any = importlib.import_module("confluent_kafka")
    count, reported = context.count(200_000), 0
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": context.servers["kafka"], "enable.idempotence": True, "linger.ms": 5}
    )

    def report(error: Any, message: Any) -> None:
        nonlocal reported
        assert error is None, error
        reported += 1

    with stopwatch() as watch:
        for _ in range(count):
            while True:
                try:
                    producer.produce("bench", BODY[:256], on_delivery=report)
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
        producer.flush()
    assert reported == count
    return rate(count, watch)


KAFKA = Case(
    name="kafka",
    title="Kafka: messages of 256 bytes, idempotent, acks = all, to librdkafka's mock brokers",
    servers=("kafka",),
    contenders={"rambla": _kafka, "confluent-kafka, its own loop": _librdkafka},
    goals=(Goal("rambla / the loop (at least 0.5)", "rambla", "confluent-kafka, its own loop", least=0.5),),
)
