"""The shape of handler packages: the same file names for the same things."""

from __future__ import annotations

import re
from pathlib import Path

import rambla_py.handlers

HANDLERS = Path(rambla_py.handlers.__file__).parent

COMMON = {"__init__", "handler", "settings", "connection", "encode", "errors", "preflight"}
REQUIRED = {"__init__", "handler"}

# Files beside the common ones, each with the reason why it is one of its own.
FURTHER: dict[str, dict[str, str]] = {
    "amqp": {
        "confirms": "the bookkeeping of publisher confirms, without a socket",
        "properties": "the encoding of AMQP's types, a protocol of its own",
        "pika_private": "private parts of the driver",
    },
    "clickhouse": {
        "columns": "the bounds of integer columns",
        "definition": "CREATE TABLE",
        "reader": "queries of reports, which change nothing",
        "rows": "rows of the columns that a channel lists",
    },
    "file": {
        "append": "the descriptor that lines are appended to",
        "compression": "compression of rotated files, on a thread of its own",
        "rotation": "when a file ends, and what it is named then",
    },
    "http": {
        "headers": "the headers of a request, which are constant or vary by message",
        "request_path": "path and query of a request",
        "signature": "the signatures of Standard Webhooks",
    },
    "jitsu": {},
    "kafka": {
        "driver_config": "the names and types of librdkafka's settings",
        "in_turn": "messages that are sent one after the other",
    },
    "kombu": {"kombu_private": "private parts of the driver"},
    "mqtt": {"paho_private": "private parts of the driver"},
    "nats": {
        "jetstream": "the acknowledgements of JetStream, a protocol of its own",
        "nats_private": "private parts of the driver",
    },
    "objects": {
        "batches": "many messages as one object",
        "put_pool": "puts in flight at the same time",
        "stores": "the stores of obstore",
        "template": "path templates",
        "upload": "the put of one object, and its result",
        "urls": "the URLs of stores",
    },
    "redis": {
        "cluster": "the nodes of a cluster",
        "cluster_batch": "a batch as commands by slot",
        "cluster_nodes": "the nodes, with a back-off for each",
        "cluster_slots": "the map of slots",
        "raw_socket": "the socket, with TLS",
        "redis_py": "the driver's client, for callables",
        "replicas": "WAIT",
        "sentinel": "the master by its sentinels",
    },
    "smtp": {
        "addresses": "addresses of mail",
        "attachments": "files of a mail",
        "email_message": "mails given as EmailMessage",
        "headers": "headers of a mail",
        "login": "the session until mail may be sent",
        "mime": "parts of a mail",
        "pinning": "fields that a mail cannot change",
        "policy": "what the standard library writes wrongly",
    },
    "sql": {
        "batch": "rows written together",
        "definition": "creation of tables, columns and indexes",
        "lock_waits": "bounds on waits for locks of other sessions",
        "open_table": "a table that is written to",
        "parts": "rows of several tables or sets of columns in one batch",
        "row_by_row": "rows written apart from each other, where one of them is locked",
        "table": "the table on the server",
    },
}
CHECKED = sorted(FURTHER)
MOST = 8


def files(package: str) -> set[str]:
    return {path.stem for path in (HANDLERS / package).glob("*.py")}


def test_every_package_is_listed() -> None:
    """A new handler package states its files here; shared packages begin with an underscore."""
    found = {path.parent.name for path in HANDLERS.glob("*/__init__.py")}
    assert {name for name in found if not name.startswith("_")} == set(FURTHER)


def test_a_package_has_the_common_files_and_those_with_a_reason() -> None:
    """A new file needs a reason here; the reason of a deleted file must be deleted too."""
    for package in CHECKED:
        found = files(package)
        assert found >= REQUIRED, package
        assert found - COMMON == set(FURTHER[package]), package


def test_amqp_has_at_most_eight_modules() -> None:
    """The package's own module aside, and the one for ``rambla check``."""
    assert len(files("amqp") - {"__init__", "preflight"}) <= MOST


def test_connections_and_settings_are_named_alike() -> None:
    """``connection.py`` defines a class ``...Connection``, ``settings.py`` one ``...Settings``."""
    for package in CHECKED:
        for module, ending in (("connection", "Connection"), ("settings", "Settings")):
            path = HANDLERS / package / f"{module}.py"
            assert not path.exists() or re.search(rf"^class \w+{ending}\b", path.read_text(), re.M), path
