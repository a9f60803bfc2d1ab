"""Writes to an outbox that interrupt another one of their thread."""

from __future__ import annotations

import os

import pytest

from rambla_py.outbox.errors import OutboxBusyError
from rambla_py.outbox.reentry import refuse_reentry


def test_a_second_write_of_a_thread_is_refused() -> None:
    """It would wait for the first one; another place, and the next write, are not concerned."""
    with refuse_reentry("here", "a"):
        with (
            pytest.raises(OutboxBusyError, match="interrupted while it was writing"),
            refuse_reentry("here", "a"),
        ):
            pass
        with refuse_reentry("there", "b"):
            pass
    with refuse_reentry("here", "a"):
        pass


def test_a_forked_child_begins_without_writes() -> None:
    """A thread of the child may have the identity of one that was writing in the parent."""
    with refuse_reentry("here", "a"):
        child = os.fork()
        if child == 0:
            try:
                with refuse_reentry("here", "a"):
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
