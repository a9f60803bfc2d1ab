"""A program whose handler kills it in the attempt of the message ``"kill"``.

Arguments: the folder of the outbox, the setting ``on_unknown``, then the messages to publish. It waits until
everything is delivered.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import outboxes

from rambla_py import Handler, Rambla

FOLDER = Path(sys.argv[1])


class Deadly(Handler):
    """Appends each payload to a file, and is killed by one of them."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        with (FOLDER / "attempts").open("a") as file:
            file.write(f"{message.payload}\n")
        if message.payload == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


table = outboxes.table_of(FOLDER, Deadly, on_unknown=sys.argv[2], options={"retries": 2})
with Rambla(table) as app:
    app.publish_many("orders", sys.argv[3:])
    app.flush(timeout_s=20)
