"""Start the shop: ``python -m shop``, from the folder ``examples``."""

from __future__ import annotations

import argparse

import uvicorn


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m shop", description="Start the shop.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    print(f"http://{given.host}:{given.port}/analytics shows what happened in the last hour", flush=True)
    uvicorn.run("shop.app:app", host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
