"""Contract suite of state stores, as tests to inherit."""

from __future__ import annotations

from rambla_py.testing.state_tests.conditions import ConditionTests
from rambla_py.testing.state_tests.failures import FailureTests
from rambla_py.testing.state_tests.records import RecordTests
from rambla_py.testing.state_tests.selection import SelectionTests
from rambla_py.testing.state_tests.twins import TwinTests

__all__ = ["StateContract"]


class StateContract(RecordTests, ConditionTests, SelectionTests, TwinTests, FailureTests):
    """The contract of a state store. Inherit it, name it ``Test...``, write ``make``, and run pytest.

    Each test has a new instance of the class; take fixtures in an ``autouse`` fixture of the subclass, so
    that each test has its own place, which is empty. Needs hypothesis beside pytest.

    =======================  ========  ===================================================================
    flag                     default   meaning
    =======================  ========  ===================================================================
    ``shared``               True      two stores of one place see each other's records
    ``durable``              True      records survive the store that was closed
    ``time_resolution_s``    0         times are multiples of this many seconds (1 for whole seconds)
    ``max_key_bytes``        1024      the longest key
    ``can_break``                      up if ``broken`` is written: a store that cannot be reached
    ``has_quota``                      up if ``full`` is written: a store without room
    =======================  ========  ===================================================================

    ::

        class TestShelf(StateContract):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def make(self, clock):
                return ShelfStore(self.folder / "shelf", clock=clock)

            @contextmanager
            def broken(self, clock):
                with self.make(clock) as store:
                    store.set("a", 1)
                    (self.folder / "shelf").unlink()
                    yield store
    """
