"""The contract of state stores on a shelf, and its URL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rambla_shelf import ShelfStore

from rambla_py import Rambla
from rambla_py.state import StateStore, store_from_url
from rambla_py.testing import StateContract


class TestShelf(StateContract):
    """Times are whole seconds; without its folder the store cannot be reached."""

    time_resolution_s = 1.0

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def make(self, clock: Callable[[], float]) -> StateStore:
        return ShelfStore(self.folder / "shelf.json", clock=clock)

    @contextmanager
    def broken(self, clock: Callable[[], float]) -> Iterator[StateStore]:
        with self.make(clock) as store:
            store.set("a", 1)
            shutil.rmtree(self.folder)
            yield store


def test_its_url_is_known(tmp_path: Path) -> None:
    """Through the entry point: to ``store_from_url``, and to a connection, with its options."""
    url = f"shelf://{tmp_path}/shelf.json"
    connection = {"url": url, "store_options": {"lock_timeout_s": 2}}
    config = {"state": {"connections": {"main": connection}, "channels": {"carts": {}}}}
    with Rambla(config) as app:
        assert app.publish("carts", {"ada": 2}).result(timeout_s=20) == 1
    with store_from_url(url, lock_timeout_s=1) as store:
        assert isinstance(store, ShelfStore)
        assert store.get("ada").value == 2


def test_a_url_without_a_path_is_refused() -> None:
    """With what to write."""
    with pytest.raises(ValueError, match="shelf:///"):
        store_from_url("shelf://shelf.json")
