"""What ``rambla check`` finds about the outbox and durable channels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rambla_py._internal.import_paths import import_object
from rambla_py._internal.redaction import Redactor
from rambla_py.config import Config
from rambla_py.errors import RamblaError
from rambla_py.outbox.attaching import journal_of

__all__ = ["outbox_checked"]


def outbox_checked(config: Config) -> list[dict[str, Any]]:
    """Return what was found, in the form of a target called ``outbox``; nothing if no channel is durable.

    A file that does not exist is not made, nor are tables in PostgreSQL.
    """
    durable = [channel for channel in config.every_channel() if channel.durable and channel.enabled]
    settings = config.rambla.outbox
    if settings is None or not durable:
        return []
    mask = Redactor(config.secrets).text
    found: dict[str, Any] = {
        "target": "outbox",
        "status": "ok",
        "took_s": 0.0,
        "problems": [],
        "would_create": [],
        "not_checked": [
            f"{channel.name} has a fallback and no expires_s: a message waits for its backend for ever, and "
            "reaches the fallback only once its retries are used up"
            for channel in durable
            if channel.fallbacks and channel.policy.expires_s is None
        ],
    }
    scheme, _, rest = (settings.url or "").partition("://")
    if scheme == "sqlite" and not Path(rest[1:]).exists():
        found["would_create"] = [rest[1:]]
        return [found]
    began = time.perf_counter()
    try:
        if scheme in ("postgresql", "postgres"):
            look = import_object("rambla_py.outbox.postgres.survey:survey")(settings.url)
            found["not_checked"] += look.warnings
            found["would_create"] = [] if look.has_tables else ["the tables of the outbox"]
        else:
            journal = journal_of(settings)
            journal.open(delivers=False)
            journal.close()
    except RamblaError as error:
        found["status"] = "failed"
        advice = "correct [rambla.outbox]; rambla outbox status shows what is in it"
        found["problems"] = [{"error": mask(str(error)), "advice": advice}]
    found["took_s"] = round(time.perf_counter() - began, 6)
    return [found]
