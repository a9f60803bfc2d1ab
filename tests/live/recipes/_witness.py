"""What the recipes share: an app that writes to a file, and notes of what became of messages.

Three files in ``$RECIPE_FOLDER`` tell the test: ``accepted`` has the id of each message whose ``publish``
returned, ``delivered`` a line of JSON for each that the ``file`` handler wrote, ``outcomes`` the status that
the receipt had when its process ended.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def _note_outcomes() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # alarms interrupt the library, and not this
    for pid, name, receipt in _receipts:
        if pid == os.getpid() and receipt.done():
            note("outcomes", f"{name} {receipt.outcomes()[0].status}")


# Exit hooks run in reverse: made before rambla_py is imported, this one sees what its own hook has done.
atexit.register(_note_outcomes)

from rambla_py import Rambla, Receipt  # noqa: E402 - see above
from rambla_py.testing.processes import deadline  # noqa: E402

FOLDER = Path(os.environ["RECIPE_FOLDER"])
MANY = 60

_receipts: list[tuple[int, str, Receipt]] = []
_numbers = itertools.count()


def table(rate: str = "40/s", exit_timeout_s: float = 20.0, **channel: Any) -> dict[str, Any]:
    """Return a configuration whose channel ``orders`` delivers the burst of a second, then at ``rate``.

    The programs that a server starts are durable if ``$RECIPE_DURABLE`` is set.
    """
    channel.setdefault("durable", "RECIPE_DURABLE" in os.environ)
    return {
        "rambla": {"exit_timeout_s": exit_timeout_s, "outbox": {"url": f"sqlite:///{FOLDER / 'outbox.db'}"}},
        "file": {
            "connections": {"here": {"path": str(FOLDER / "delivered")}},
            "channels": {"orders": {"connection": "here", "rate_limit": rate, **channel}},
        },
    }


def started(rate: str = "40/s", exit_timeout_s: float = 20.0, **channel: Any) -> Rambla:
    """Return a running app of that configuration."""
    return Rambla(table(rate, exit_timeout_s, **channel)).start()


def publish(app: Rambla, count: int = MANY, channel: str = "orders") -> list[Receipt]:
    """Publish, and note each message that was accepted."""
    return [publish_one(app, channel) for _ in range(count)]


def publish_one(app: Rambla, channel: str = "orders") -> Receipt:
    """Publish one message, and note that it was accepted."""
    pid, name = os.getpid(), f"{os.getpid()}-{next(_numbers)}"
    receipt = app.publish(channel, {"id": name})
    note("accepted", name)
    _receipts.append((pid, name, receipt))
    return receipt


def interrupt_soon(number: int) -> None:
    """Send this process a signal in half a second; where no thread can be started, by another process."""
    script = f"import os, time; time.sleep(0.5); os.kill({os.getpid()}, {int(number)})"
    subprocess.Popen([sys.executable, "-S", "-c", script])


def delivered() -> list[str]:
    """Return the ids that were delivered so far, in order, with repetitions."""
    try:
        lines = (FOLDER / "delivered").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line)["id"] for line in lines]


def await_delivered(count: int) -> None:
    """Wait until that many messages were delivered; raises ``TimeoutError`` after 20 s."""
    for _ in deadline(20.0, poll_s=0.01):
        if len(set(delivered())) >= count:
            return
    raise TimeoutError(f"{len(delivered())} of {count} were delivered")


def note(file: str, line: str) -> None:
    """Add a line to one of the three files."""
    # One write to a file opened for appending: processes do not mix their lines, and SIGKILL cuts none.
    fd = os.open(FOLDER / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
