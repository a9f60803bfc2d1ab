"""Send a minute of traffic to the shop: ``make shop-demo``, or ``python -m shop.demo``."""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from rich.console import Console

from rambla_py.analytics.report import report_of, terminal_report

EXAMPLES = Path(__file__).resolve().parents[1]
START_S = 60.0
PAUSE_S = 0.05
PASSWORDS = {"ada": "engine", "grace": "compiler"}


def main() -> None:
    """Start the shop with a database of its own, send requests, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m shop.demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to send requests; 60")
    parser.add_argument("--port", type=int, default=8000, help="8000; if it is taken, a free one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        url = f"sqlite:///{folder}/analytics.db"
        with shop(url, free_port(given.port), log=Path(folder, "shop.log")) as address:
            print(f"sending requests for {given.seconds:g} seconds; see {address}/analytics", flush=True)
            sent = traffic(address, given.seconds)
        print(f"sent {sent:,} requests\n")
        Console().print(terminal_report(report_of(url)))


@contextmanager
def shop(url: str, port: int, *, log: Path) -> Iterator[str]:
    """Give the address of a shop in a process of its own, which ends with the block."""
    address = f"http://127.0.0.1:{port}"
    environ = {**os.environ, "RAMBLA_ANALYTICS_URL": url}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "shop", "--port", str(port)],
            cwd=EXAMPLES,
            env=environ,
            stdout=output,
            stderr=output,
        )
    try:
        if not _answers(address, process):
            raise SystemExit(f"the shop did not start at {address}:\n{log.read_text()}")
        yield address
    finally:
        process.terminate()
        process.wait()


def traffic(address: str, seconds: float, seed: int = 7) -> int:
    """Send requests of some visitors; return how many."""
    chance, sent, end = random.Random(seed), 0, time.monotonic() + seconds
    with httpx.Client(base_url=address) as client:
        while time.monotonic() < end:
            method, path, body = visit(chance)
            with suppress(httpx.TransportError):  # the shop closes the connection after an exception
                client.request(method, path, json=body)
                sent += 1
            time.sleep(chance.uniform(0, 2 * PAUSE_S))
    return sent


def visit(chance: random.Random) -> tuple[str, str, object]:
    """Return the method, the path and the body of a request."""
    user = chance.choice(["ada", "grace"])
    kind = chance.choices(["list", "show", "pay", "login", "upload", "broken", "lost"], [9, 9, 4, 3, 2, 1, 1])
    if kind == ["show"]:
        currency = chance.choice(["EUR", "EUR", "USD", "JPY", "XXX"])
        return "GET", f"/products/{chance.choice([1, 2, 2, 3])}?currency={currency}", None
    if kind == ["pay"]:
        card = chance.choice(["4111 1111 1111 1111", "4111 1111 1111 1111", "4000 0000 0000 0000"])
        order = {"user": user, "product": chance.choice([1, 2]), "card": card}
        return "POST", "/payments", {**order, "currency": chance.choice(["EUR", "USD", "JPY"])}
    if kind == ["login"]:
        return "POST", "/login", {"user": user, "password": chance.choice([PASSWORDS[user]] * 5 + ["wrong"])}
    if kind == ["upload"]:
        return "POST", "/uploads", "x" * chance.randrange(50_000)
    return "GET", {"broken": "/broken", "lost": "/wp-login.php"}.get(kind[0], "/products"), None


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(httpx.TransportError):
            return httpx.get(f"{address}/favicon.ico").is_success
        time.sleep(0.05)
    return False


def free_port(port: int) -> int:
    """Return the port, or any other if it is taken."""
    for wanted in (port, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as listener:
            return int(listener.getsockname()[1])
    raise SystemExit("there is no free port")


if __name__ == "__main__":
    main()
