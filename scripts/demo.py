"""Publish 2,000 real flights and show how they ended.

Without options they go to the channels of ``config/rambla.toml``, which need no server. With ``--broker`` it
starts a private RabbitMQ and a private Redis, publishes through ``config/broker.toml``, asks both servers how
much they hold, and stops them. With ``--chaos`` a process that publishes to a durable channel is killed again
and again (``demo_chaos.py``); what it had accepted is delivered all the same, and the audit shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import redis
from rich.console import Console
from rich.table import Table

from rambla_py import Message, Outcome, Rambla
from rambla_py.handlers.memory import store
from rambla_py.testing.servers import RabbitMqServer, RedisServer

if TYPE_CHECKING:
    from rambla_py.status import Audit

ROOT = Path(__file__).resolve().parent.parent
FLIGHTS = ROOT / "examples" / "data" / "flights.jsonl"
CHANNEL = "flights"
TIMEOUT_S = 60.0
KILLED_AFTER = 400

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--broker", action="store_true", help="to a private RabbitMQ and a private Redis")
    parser.add_argument("--chaos", action="store_true", help="kill the publisher, and show the recovery")
    given = parser.parse_args()
    if given.broker:
        to_brokers()
    elif given.chaos:
        chaos()
    else:
        embedded()


def embedded() -> None:
    """Publish to the channels that need no server, and show the files that they wrote."""
    with tempfile.TemporaryDirectory(prefix="rambla-demo-") as fresh:
        folder = Path(os.environ.setdefault("RAMBLA_DEMO_DIR", fresh))
        publish_and_show(ROOT / "config" / "rambla.toml")
        show_memory()
        show_files(folder)


def to_brokers() -> None:
    """Publish to two real brokers, and show what they say they hold."""
    for kind in (RabbitMqServer, RedisServer):
        if package := kind.missing():
            raise SystemExit(f"{kind.__name__} is not installed: apt-get install {package}")
    console.print("starting a private RabbitMQ and a private Redis, which takes about six seconds")
    with RabbitMqServer() as rabbitmq, RedisServer() as redis_server:
        os.environ.update(RABBITMQ_URL=rabbitmq.url, REDIS_URL=redis_server.url)
        publish_and_show(ROOT / "config" / "broker.toml")
        show_brokers(rabbitmq, redis_server)


def chaos() -> None:
    """Kill the process that publishes the flights, as often as it takes; show what became of them."""
    flights = read_flights()
    program = Path(__file__).with_name("demo_chaos.py")
    with tempfile.TemporaryDirectory(prefix="rambla-demo-") as fresh:
        folder = Path(fresh)
        kills = 0
        while (accepted := len(lines_of(folder / "accepted"))) < len(flights):
            process = subprocess.Popen([sys.executable, str(program), fresh, str(accepted)])
            while process.poll() is None and len(lines_of(folder / "accepted")) < accepted + KILLED_AFTER:
                time.sleep(0.005)
            if process.poll() is None:
                process.kill()
                process.wait()
                kills += 1
                audit_journal(folder, f"after kill {kills}")
        console.print("one more start, which publishes nothing: it adopts what the killed ones left")
        subprocess.run([sys.executable, str(program), fresh, str(len(flights))], check=True)
        delivered = [str(json.loads(line)["number"]) for line in lines_of(folder / "delivered")]
        lost = set(lines_of(folder / "accepted")) - set(delivered)
        console.rule(f"{len(flights):,} flights, {kills} kills")
        console.print(f"delivered {len(set(delivered)):,}, again {len(delivered) - len(set(delivered)):,}")
        console.print(f"lost {len(lost)}")
        audit_journal(folder, "at the end")
        if lost:
            raise SystemExit("messages were lost")


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def audit_journal(folder: Path, when: str) -> None:
    """Print what ``rambla audit`` says of the outbox."""
    config = folder / "rambla.toml"
    command = [sys.executable, "-m", "rambla_py", "audit", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    console.print(f"[bold]{when}[/bold]\n{done.stdout.rstrip()}", highlight=False)
    if done.returncode:
        raise SystemExit(f"the audit does not add up: {done.stderr}")


def publish_and_show(config: Path) -> None:
    """Publish every flight, keyed by its carrier so that a carrier's flights keep their order."""
    messages = [Message(flight, key=flight["carrier"]) for flight in read_flights()]
    with Rambla.from_toml(config) as app:
        start = time.perf_counter()
        receipt = app.publish_many(CHANNEL, messages)
        accepted_s = time.perf_counter() - start
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
        took_s = time.perf_counter() - start
        app.flush(timeout_s=TIMEOUT_S)
        audit = app.audit()
    console.rule(f"{len(messages):,} flights through {config.relative_to(ROOT)}")
    console.print(
        f"accepted in {accepted_s * 1e3:,.0f} ms, delivered in {took_s * 1e3:,.0f} ms: "
        f"{len(outcomes) / took_s:,.0f} deliveries/s"
    )
    console.print(outcome_table(outcomes), audit_table(audit))
    if any(outcome.status != "ok" for outcome in outcomes):
        raise SystemExit("not every delivery ended as ok")


def read_flights() -> list[dict[str, Any]]:
    with FLIGHTS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def outcome_table(outcomes: list[Outcome]) -> Table:
    """Count the outcomes of each target by status, with the attempts that they took."""
    table = Table("target", "status", "deliveries", "attempts", "longest wait", title="outcomes")
    grouped: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        grouped[f"{outcome.service}.{outcome.channel}", outcome.status].append(outcome)
    for (target, status), group in grouped.items():
        attempts = sum(outcome.attempts for outcome in group)
        longest_ms = max(outcome.queued_s for outcome in group) * 1e3
        table.add_row(target, status, f"{len(group):,}", f"{attempts:,}", f"{longest_ms:,.0f} ms")
    return table


def audit_table(audit: dict[str, Audit]) -> Table:
    """Show the accounts of each target: what was accepted, and that nothing is unaccounted for."""
    used = {target: account for target, account in audit.items() if account.accepted}
    table = Table("", *used, title="audit")
    for line in ("accepted", "ok", "failed", "fatal", "dropped", "expired", "unknown", "pending"):
        table.add_row(line, *(f"{getattr(account, line):,}" for account in used.values()))
    table.add_row("adds up", *("yes" if account.balanced else "NO" for account in used.values()))
    return table


def show_memory() -> None:
    """Ask the memory channel which of the flights that it was given left over six hours late."""
    table = Table(
        "hour (UTC)", "flight", "from", "to", "late", title="most delayed, asked of the memory channel"
    )
    records = store(CHANNEL).messages(CHANNEL, where=lambda record: (record.payload["dep_delay"] or 0) > 360)
    for flight in (record.payload for record in records):
        name, late = f"{flight['carrier']} {flight['flight']}", f"{flight['dep_delay'] / 60:.1f} h"
        table.add_row(flight["time_hour"], name, flight["origin"], flight["dest"], late)
    console.print(table)


def show_files(folder: Path) -> None:
    """Show what the file channel wrote."""
    table = Table("file", "lines", "bytes", title=f"files in {folder}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        lines = content.count(b"\n")
        table.add_row(str(path.relative_to(folder)), f"{lines:,}", f"{len(content):,}")
    console.print(table)


def show_brokers(rabbitmq: RabbitMqServer, redis_server: RedisServer) -> None:
    """Ask both servers, with their own clients, how much they hold."""
    table = Table("server", "holds", "messages", title="what the brokers report")
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    declared = connection.channel().queue_declare(CHANNEL, passive=True)
    table.add_row("RabbitMQ", f"queue {CHANNEL}", f"{declared.method.message_count:,}")
    connection.close()
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        table.add_row("Redis", f"stream {CHANNEL}", f"{client.xlen(CHANNEL):,}")
        latest = client.xrevrange(CHANNEL, count=3)
    console.print(table)
    for entry, fields in latest:
        line = f"{entry}  {fields['id']}  {fields['payload']}"
        console.print(line, overflow="ellipsis", no_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
