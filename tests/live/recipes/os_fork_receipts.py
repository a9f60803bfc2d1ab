"""A forked child asks receipts of its parent, and looks at its own accounts."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from _witness import publish, started

from rambla_py.errors import ForkedError

app = started()
receipt = publish(app)[-1]
child = os.fork()


async def awaited() -> None:
    await receipt


def refuses(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except ForkedError:
        return True
    return False


if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asks = (receipt.result, receipt.outcomes, lambda: asyncio.run(awaited()))
assert all(refuses(ask) for ask in asks)
publish(app, 5)
assert app.audit()["file.orders"].accepted == 5
