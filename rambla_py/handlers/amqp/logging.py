"""This module keeps pika's own log lines about our connections down to DEBUG.

pika logs each lost or refused connection several times as ERROR, with tracebacks, and it does so at every
attempt to reconnect. What matters of it reaches the worker as an error, which is logged once.
"""

from __future__ import annotations

import logging

__all__ = ["THREAD_NAME_END", "quieten_pika"]

THREAD_NAME_END = " amqp i/o"

_ours = logging.getLogger("rambla_py.amqp.pika")


def quieten_pika() -> None:
    """Have what pika logs on a thread of ours logged by ``rambla_py.amqp.pika``, as DEBUG.

    Lines from other threads, of an application that uses pika itself, are left alone. May be called again.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "pika" or name.startswith("pika."):
            logging.getLogger(name).addFilter(_not_ours)  # a filter is added once only


def _not_ours(record: logging.LogRecord) -> bool:
    if not (record.threadName or "").endswith(THREAD_NAME_END):
        return True
    if _ours.isEnabledFor(logging.DEBUG):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        _ours.handle(record)
    return False
