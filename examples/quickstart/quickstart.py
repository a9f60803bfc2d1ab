"""Publish three orders to every target of the channel, and see what became of them."""

from pathlib import Path

import rambla_py as rambla
from rambla_py.handlers.memory import store

CONFIG = Path(__file__).with_name("rambla.toml")


def main() -> None:
    """Publish, ask, count."""
    with rambla.Rambla.from_toml(CONFIG) as app:
        for number in (1, 2):
            app.publish("orders", {"id": number}, key="customer-7")  # let it go; its outcome is counted
        receipt = app.publish("orders", {"id": 3}, key="customer-7")
        for outcome in receipt.outcomes(timeout_s=5):
            print(f"order 3: {outcome.service} {outcome.status}")
        app.flush(timeout_s=5)
        for target, audit in app.audit().items():
            print(f"{target}: {audit.accepted} accepted, {audit.ok} ok")
    print("kept in memory:", store("quickstart").payloads("orders"))


if __name__ == "__main__":
    main()
