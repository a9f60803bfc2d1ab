"""The cases, by what they measure."""

from __future__ import annotations

from bench.case import Case
from bench.cases.amqp import AMQP, AMQP_UNCONFIRMED
from bench.cases.analytics import ANALYTICS_CASES
from bench.cases.growth import GROWTH
from bench.cases.growth_keys import GROWTH_KEYS
from bench.cases.http import CLICKHOUSE, HTTP
from bench.cases.imports import HELP, IMPORTS
from bench.cases.latency import LATENCY_CASES
from bench.cases.null import NULL, ROUND_TRIP
from bench.cases.operating import METRICS, PAGE, SCRAPE
from bench.cases.options import OPTIONS
from bench.cases.outbox import OUTBOX_CASES
from bench.cases.outbox_brokers import OUTBOX_BROKER_CASES
from bench.cases.outbox_postgres import OUTBOX_POSTGRES_CASES
from bench.cases.redis import REDIS
from bench.cases.size import BACKLOG, CHANNELS, START
from bench.cases.sql import POSTGRES, SQLITE
from bench.cases.stall import STALL
from bench.cases.stores import KAFKA, OBJECTS, SMTP
from bench.cases.traces import TRACES, TRACES_AMQP, TRACES_REDIS
from bench.cases.trickle import TRICKLE
from bench.cases.web import WEB

__all__ = ["CASES"]

_ALL = (
    NULL,
    OPTIONS,
    ROUND_TRIP,
    TRICKLE,
    *LATENCY_CASES,
    WEB,
    *ANALYTICS_CASES,
    TRACES,
    TRACES_REDIS,
    TRACES_AMQP,
    METRICS,
    SCRAPE,
    PAGE,
    AMQP,
    AMQP_UNCONFIRMED,
    REDIS,
    STALL,
    CHANNELS,
    START,
    BACKLOG,
    IMPORTS,
    HELP,
    HTTP,
    CLICKHOUSE,
    POSTGRES,
    SQLITE,
    KAFKA,
    OBJECTS,
    SMTP,
    *GROWTH,
    *GROWTH_KEYS,
    *OUTBOX_CASES,
    *OUTBOX_BROKER_CASES,
    *OUTBOX_POSTGRES_CASES,
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}
