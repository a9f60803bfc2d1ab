"""A process with an outbox, to be killed: forked for each order from a process that has everything loaded.

Orders come as lines of JSON on the standard input: ``folder`` and ``run``, the name of a function below,
beside its arguments. The number of the forked process is written for each. The arguments of the program
are modules that are loaded before. It records in files of the
folder, line by line, what it promised (``promised``) and what its handler got (``delivered``).
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outboxes import account, table_of
from waiting import wait_until

from rambla_py import Handler, Message, Rambla


def appender(path: Path) -> Any:
    """Return a function that appends a line to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return lambda line: os.write(descriptor, f"{line}\n".encode())


def recorder(folder: Path, pause_s: float = 0.0) -> type[Handler]:
    """Return a handler that records each payload; ``poison`` ends its process."""
    delivered = appender(folder / "delivered")
    pause = threading.Event()

    class Recorder(Handler):
        def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
            for message in messages:
                if message.payload == "poison":
                    os._exit(9)
                if pause_s:
                    pause.wait(pause_s)
                delivered(message.payload)
            return [None] * len(messages)

    return Recorder


def publish(
    folder: Path,
    number: int,
    threads: int,
    pause_s: float = 0.0,
    outbox: dict[str, Any] | None = None,
    **channel: Any,
) -> None:
    """Publish on some threads for ever, one message or a few at a time; each thread has a key of its own."""
    promised = appender(folder / "promised")
    app = Rambla(table_of(folder, recorder(folder, pause_s), outbox, **channel)).start()

    def run(thread: int) -> None:
        key = f"{threads}-{thread}"
        for at in itertools.count():
            names = [f"{number}/{key}/{at}/{part}" for part in range(1 if at % 3 else 4)]
            messages = [Message(name, key=key) for name in names]
            if len(messages) == 1:
                app.publish("orders", messages[0])
            else:
                app.publish_many("orders", messages)
            promised("\n".join(names))

    others = [threading.Thread(target=run, args=(one,)) for one in range(1, threads)]
    for other in others:
        other.start()
    run(0)


def drain(folder: Path, **channel: Any) -> None:
    """Deliver all that is there, and stop."""
    app = Rambla(table_of(folder, recorder(folder), {"poll_s": 0.1}, **channel)).start()
    wait_until(lambda: account(folder).pending == 0)
    app.stop(10)


def relay(folder: Path, url: str, number: int, **channel: Any) -> None:
    """Publish to an outbox in PostgreSQL, and deliver from it, for ever; half of the keys are its own."""
    promised = appender(folder / "promised")
    app = Rambla(table_of(folder, recorder(folder), {"url": url, "poll_s": 0.1}, **channel)).start()
    for at in itertools.count():
        key = f"{number}-{at % 3}" if at % 2 else None
        names = [f"{number}/{key}/{at}/{part}" for part in range(1 if at % 5 else 4)]
        app.publish_many("orders", [Message(name, key=key) for name in names])
        promised("\n".join(names))


def keep(folder: Path, number: int, many: int, pause_s: float = 0.0, **channel: Any) -> None:
    """Publish ``many`` messages, report, and live on until it is killed."""
    app = Rambla(table_of(folder, recorder(folder, pause_s), {"poll_s": 0.2}, **channel)).start()
    for at in range(many):
        app.publish("orders", f"{number}/{at}")
    appender(folder / "ready")(number)
    threading.Event().wait()


def fork(folder: Path, many: int) -> None:
    """As ``keep``; a forked child publishes as well, and lives on when this process is killed.

    Neither delivers anything, nor looks for what other processes left: the child would adopt the rows of its
    parent otherwise, if it were the first to look.
    """
    app = Rambla(table_of(folder, recorder(folder, 3600.0), {"poll_s": 3600.0})).start()
    for at in range(many):
        app.publish("orders", f"parent/{at}")
    child = os.fork()
    if child == 0:
        app.publish("orders", "child")
        appender(folder / "child")(os.getpid())
        threading.Event().wait()
    os.waitpid(child, 0)


def prefork(folder: Path, workers: int, many: int) -> None:
    """Start an app, fork workers that publish, as an application server does; only the workers deliver theirs."""
    master, promised = os.getpid(), appender(folder / "promised")
    delivered, wait = appender(folder / "delivered"), threading.Event()

    class ByProcess(Handler):
        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            if os.getpid() == master:
                wait.wait()
            delivered(message.payload)

    app = Rambla(table_of(folder, ByProcess, {"poll_s": 0.1})).start()
    for at in range(many):
        app.publish("orders", f"master/{at}")
    children = [pid for one in range(workers) if (pid := _worker(app, one, many, promised))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    appender(folder / "codes")(json.dumps(codes))
    threading.Event().wait()


def _worker(app: Rambla, number: int, many: int, promised: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        threads = [
            threading.Thread(target=_publish_some, args=(app, f"worker {number}/{one}", many, promised))
            for one in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = 0 if app.flush(20) and app.stop(10)["probe.orders"].pending == 0 else 2
    finally:
        os._exit(code)


def _publish_some(app: Rambla, name: str, many: int, promised: Any) -> None:
    for at in range(many):
        app.publish("orders", f"{name}/{at}")
        promised(f"{name}/{at}")


def fork_while_publishing(folder: Path, forks: int) -> None:
    """Fork again and again while threads publish; each child publishes as well."""
    promised, stop = appender(folder / "promised"), threading.Event()
    app = Rambla(table_of(folder, recorder(folder), {"poll_s": 0.1})).start()

    def publish(thread: int) -> None:
        for at in itertools.count():
            if stop.is_set():
                return
            app.publish("orders", f"parent {thread}/{at}")
            promised(f"parent {thread}/{at}")

    threads = [threading.Thread(target=publish, args=(one,)) for one in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(forks):
        pid = os.fork()
        if pid == 0:
            stop.set()
            _publish_some(app, f"child {number}", 3, promised)
            os._exit(0 if app.flush(20) else 3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    app.stop(10)
    appender(folder / "codes")(json.dumps(codes))


def write_poison(folder: Path, deliver: bool, others: int) -> None:
    """Publish a poison message among others, for another process to deliver."""
    app = Rambla(table_of(folder, recorder(folder), {"deliver": deliver})).start()
    payloads = [f"good/{at}" for at in range(others)]
    app.publish_many("orders", [*payloads[: others // 2], "poison", *payloads[others // 2 :]])
    app.stop(5)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(order)
        print(pid, flush=True)


def _run(order: dict[str, Any]) -> None:
    code = 0
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a process that is left behind must not hold the pipe open
    try:
        globals()[order.pop("run")](Path(order.pop("folder")), **order)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
