"""One process of the soak: publishes to a durable channel until SIGTERM, or delivers what is left.

Arguments: the folder, the configuration as JSON, and ``publish`` or ``drain``. Each message that ``publish``
has returned for is a line of the file ``promised``.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import uuid
from pathlib import Path

from rambla_py import Message, Rambla, RamblaError

_THREADS = 2
_PAUSE_S = 0.002


def main(folder: Path, config: str, mode: str) -> None:
    descriptor = os.open(folder / "promised", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    app = Rambla(json.loads(config)).start()
    run = uuid.uuid4().hex[:8]

    def publish(thread: int) -> None:
        for at in itertools.count():
            if stop.wait(_PAUSE_S):
                return
            many = 1 if at % 10 else 5
            names = [f"{run}-{thread}-{at}-{part}" for part in range(many)]
            messages = [Message({"id": name}, key=f"{run}-{thread}") for name in names]
            try:
                app.publish_many("orders", messages)
            except RamblaError as error:
                print(f"not accepted: {error}", flush=True)
                continue
            os.write(descriptor, ("\n".join(names) + "\n").encode())

    if mode == "publish":
        threads = [threading.Thread(target=publish, args=(one,)) for one in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # not at once: a signal that came while stopped may wake another thread
                thread.join(0.5)
        app.stop(1.0)
        return
    name = f"{run}-fresh"
    app.publish("orders", {"id": name}).result(timeout_s=120)
    os.write(descriptor, f"{name}\n".encode())
    if not app.flush(timeout_s=300):
        raise SystemExit("not all was delivered within 300 s")
    app.stop(10.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
