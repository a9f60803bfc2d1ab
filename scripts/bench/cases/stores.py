"""The cases of object stores, mail and Kafka."""

from __future__ import annotations

import importlib
import smtplib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, publish_confirmed, rate, stopwatch

__all__ = ["KAFKA", "OBJECTS", "SMTP"]

BODY = b"x" * 1_024


def _publish(table: dict[str, Any], count: int, payload: Any) -> Figures:
    with rambla.Rambla(table) as app:
        return rate(count, publish_confirmed(app, "out", payload, count))


def _objects(context: Context) -> Figures:
    count = context.count(8_000)
    connection = {
        "url": "s3://bench",
        "endpoint": context.servers["http"],
        "region": "us-east-1",
        "access_key_id": "bench",
        "secret_access_key": "bench",
    }
    table = {"objects": {"connections": {"local": connection}, "channels": {"out": {}}}}
    figures = _publish(table, count, BODY)
    _stored(context, count + 1)
    return figures


def _put_object(context: Context) -> Figures:
    """Put from 32 threads, which share a client as its authors advise."""
    boto3: Any = importlib.import_module("boto3")
    config: Any = importlib.import_module("botocore.config")
    client = boto3.client(
        "s3",
        endpoint_url=context.servers["http"],
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=config.Config(max_pool_connections=32, s3={"addressing_style": "path"}),
    )
    count = context.count(2_000)
    with ThreadPoolExecutor(32) as pool, stopwatch() as watch:
        puts = [pool.submit(client.put_object, Bucket="bench", Key=str(n), Body=BODY) for n in range(count)]
        for put in puts:
            put.result()
    _stored(context, count)
    return rate(count, watch)


def _stored(context: Context, count: int) -> None:
    """Check what the server counted; ours may have put one more, to see whether it can."""
    with urllib.request.urlopen(f"{context.servers['http']}/taken") as answer:
        found = int(answer.read().split()[0])
    assert found in (count, count + 1), f"the server took {found} objects, not {count}"


OBJECTS = Case(
    name="objects",
    title="S3: objects of 1 kB, to a server that only counts them",
    servers=("http",),
    contenders={"rambla": _objects, "boto3, 32 threads": _put_object},
    goals=(Goal("rambla / boto3 with 32 threads (at least 3)", "rambla", "boto3, 32 threads", least=3),),
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
    goals=(Goal("rambla / the loop (at least 0.8)", "rambla", "confluent-kafka, its own loop", least=0.8),),
)
