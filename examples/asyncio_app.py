"""A thousand tasks publish from one event loop, and each awaits its own delivery."""

import asyncio

import rambla_py as rambla

TASKS = 1_000
CONFIG = {"memory": {"channels": {"events": {"max_pending": 100}}}, "null": {"channels": {"events": {}}}}


async def handle_request(app: rambla.Rambla, number: int) -> int:
    """Answer once the event is delivered to both targets; the mailbox is small, so some wait for room."""
    receipt = await app.publish_async("events", {"request": number})
    await receipt
    return number


async def main() -> None:
    """Run all tasks at once."""
    async with rambla.Rambla(CONFIG) as app:
        answered = await asyncio.gather(*(handle_request(app, number) for number in range(TASKS)))
        print(f"{len(answered)} requests answered")
        for target, audit in app.audit().items():
            print(f"{target}: {audit.ok} of {audit.accepted} delivered")


if __name__ == "__main__":
    asyncio.run(main())
