"""A program whose calls are recorded: publishes on three threads, and records what it promised and delivered.

Arguments: the folder, the number of messages of each thread, and 1 to deliver them, 0 to leave them.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from outboxes import table_of

from rambla_py import Handler, Rambla

FOLDER, EACH, DELIVER = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
PROMISES = os.open(FOLDER / "outbox.db-promises", os.O_WRONLY | os.O_CREAT, 0o600)


class Recorder(Handler):
    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        os.write(PROMISES, f"delivered {message.id}\n".encode())


def publish(app: Rambla, thread: int) -> None:
    for at in range(EACH):
        name = f"<message {thread} {at}>"
        app.publish("orders", "x" * 3_000, id=name)
        os.write(PROMISES, f"promised {name}\n".encode())


app = Rambla(table_of(FOLDER, Recorder, {"deliver": DELIVER, "reserve_bytes": 65_536})).start()
threads = [threading.Thread(target=publish, args=(app, one)) for one in range(3)]
for one in threads:
    one.start()
for one in threads:
    one.join()
os._exit(0)
