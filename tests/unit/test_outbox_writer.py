"""Group commit: each item is committed once, in order, whatever interrupts whom, and no thread waits for ever."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import Point, every_point, interrupted_at

from rambla_py.outbox.writer import Writer

FILES = ("outbox/writer.py",)


class BusyError(Exception):
    """A submit that interrupts the writer on its own thread."""


class InterruptedCommitError(Exception):
    """The commit that an item was in was interrupted."""


class RefusedError(Exception):
    """What a commit may raise."""


class Log:
    """A writer whose commits are recorded; ``before`` runs in each commit."""

    def __init__(
        self,
        before: Callable[[Sequence[Any]], Any] = lambda items: None,
        most: int = 500,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.groups: list[list[Any]] = []
        self.inside = 0
        self.before = before
        self.writer: Writer[Any] = Writer(
            self.commit,
            expected=RefusedError,
            busy=BusyError,
            interrupted=InterruptedCommitError,
            most=most,
            clock=clock,
        )

    def commit(self, items: Sequence[Any]) -> None:
        self.inside += 1
        try:
            assert self.inside == 1, "two writers at the same time"
            self.before(items)
            self.groups.append(list(items))
        finally:
            self.inside -= 1

    @property
    def items(self) -> list[Any]:
        return [item for group in self.groups for item in group]

    def check_usable(self) -> None:
        """Submit on another thread, which must not wait for ever."""
        thread = threading.Thread(target=self.writer.submit, args=("after",), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the role was not handed over"
        assert self.items[-1] == "after"


def test_an_exception_at_any_point_leaves_the_role_free() -> None:
    """A signal handler that raises: the item is committed once or not at all, and the next thread can write."""

    def raised(number: int) -> Point:
        log = Log()
        try:
            with interrupted_at(number, FILES, _interrupt) as point:
                log.writer.submit("mine")
        except KeyboardInterrupt:
            assert point.reached
        assert log.items in ([], ["mine"])
        log.check_usable()
        return point

    assert every_point(raised) > 10


def test_a_publish_at_any_point_is_made_or_refused() -> None:
    """A signal handler that publishes: its item is committed, or refused as busy; the outer one is committed."""

    def nested(number: int) -> Point:
        log = Log()
        refused: list[str] = []
        with interrupted_at(number, FILES, lambda: _act(log, "publish", refused)) as point:
            log.writer.submit("outer")
        assert sorted(log.items + refused) == (["inner", "outer"] if point.reached else ["outer"])
        log.check_usable()
        return point

    assert every_point(nested) > 10


@pytest.mark.parametrize("action", ["raise", "publish"])
def test_a_follower_may_be_interrupted_at_any_point(action: str) -> None:
    """The thread that waits for another one's commit: nothing is left behind that is waited for."""

    def follow(number: int) -> Point:
        queued = threading.Event()
        log = Log(lambda items: queued.wait(10) if items == ["first"] else None)
        leader = threading.Thread(target=log.writer.submit, args=("first",), daemon=True)
        leader.start()
        _wait(lambda: log.inside == 1)
        watcher = threading.Thread(target=_set_when_queued, args=(log, queued), daemon=True)
        watcher.start()
        refused: list[str] = []
        try:
            with interrupted_at(number, FILES, lambda: _act(log, action, refused)) as point:
                log.writer.submit("mine")
        except KeyboardInterrupt:
            assert action == "raise"
        finally:
            queued.set()
        leader.join(10)
        watcher.join(10)
        log.check_usable()
        assert log.items.count("first") == 1
        assert log.items.count("mine") == 1 or action == "raise"
        assert (log.items + refused).count("inner") == (action == "publish" and point.reached)
        return point

    assert every_point(follow) > 5


def test_others_of_an_interrupted_group_are_not_left_waiting() -> None:
    """They raise that the commit was interrupted, or return if it was over."""

    def lead(number: int) -> Point:
        outcomes: list[Any] = []
        started: list[threading.Thread] = []

        def join_in(items: Sequence[Any]) -> None:
            if items == ["opening"]:  # two others queue up behind the first commit
                started.extend(_submitted(log, name, outcomes) for name in ("one", "two"))
                _wait(lambda: len(log.writer._queue) >= 2)

        log = Log(join_in)
        try:
            with interrupted_at(number, FILES, _interrupt) as point:
                with log.writer.role():
                    started.extend(_submitted(log, name, outcomes) for name in ("one", "two"))
                    _wait(lambda: len(log.writer._queue) == 2)
                log.writer.submit("mine")
        except KeyboardInterrupt:
            pass
        for thread in started:
            thread.join(10)
            assert not thread.is_alive()
        assert len(outcomes) == len(started)
        assert set(outcomes) <= {"ok", InterruptedCommitError}
        log.check_usable()
        return point

    assert every_point(lead) > 10


def test_the_error_of_a_refused_publish_is_not_that_of_the_others() -> None:
    """A handler lets through that it was refused: others of the group raise that the commit was interrupted."""
    outcomes: list[Any] = []

    def publish(items: Sequence[Any]) -> None:
        if "one" in items:
            log.writer.submit("inner")

    log = Log(publish)
    with log.writer.role():
        threads = [_submitted(log, name, outcomes) for name in ("one", "two")]
        _wait(lambda: len(log.writer._queue) == 2)
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, outcomes)) == sorted(map(str, [BusyError, InterruptedCommitError]))


def test_an_expected_error_fails_the_whole_group() -> None:
    """Each item of the group raises it; the next group is committed."""
    outcomes: list[Any] = []

    def refuse(items: Sequence[Any]) -> None:
        if "one" in items:
            raise RefusedError

    log = Log(refuse)
    with log.writer.role():
        threads = [_submitted(log, name, outcomes) for name in ("one", "two")]
        _wait(lambda: len(log.writer._queue) == 2)
    for thread in threads:
        thread.join(10)
    assert outcomes == [RefusedError, RefusedError]
    log.check_usable()


@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=4),
    roles=st.integers(0, 3),
    most=st.integers(1, 6),
)
def test_threads_commit_each_item_once_and_in_their_order(
    sizes: list[list[int]], roles: int, most: int
) -> None:
    """Groups are at most ``most`` large, or one item; threads that ask for the role get it."""
    log, taken = Log(most=most), []

    def publish(thread: int) -> None:
        for at, size in enumerate(sizes[thread]):
            log.writer.submit((thread, at, size), size)

    def keep() -> None:
        with log.writer.role():
            assert log.inside == 0
            taken.append(1)

    threads = [threading.Thread(target=publish, args=(one,), daemon=True) for one in range(len(sizes))]
    threads += [threading.Thread(target=keep, daemon=True) for _ in range(roles)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for one, mine in enumerate(sizes):
        found = [item for item in log.items if item[0] == one]
        assert found == [(one, at, size) for at, size in enumerate(mine)]
    assert all(sum(size for *_, size in group) <= most or len(group) == 1 for group in log.groups)
    assert len(taken) == roles


# An exception may hit a finalizer of the interpreter's own as well, which can only report it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(2))
def test_signals_at_random_moments(seed: int) -> None:
    """Signals that publish, raise, or do both, while other threads write: all goes on, nothing comes twice."""
    log, stop, rng = Log(), threading.Event(), random.Random(seed)
    count = {"inner": 0, "busy": 0, "raised": 0}
    submitted: list[Any] = []
    numbers = itertools.count()
    armed: list[bool] = []

    def handler(number: int, frame: Any) -> None:
        try:
            log.writer.submit(("inner", next(numbers)))
            count["inner"] += 1
        except BusyError:
            count["busy"] += 1
        if armed and armed.pop() and rng.random() < 0.5:
            count["raised"] += 1
            raise (KeyboardInterrupt if rng.random() < 0.5 else TimeoutError)

    def publish(name: int) -> None:
        at = 0
        while not stop.is_set():
            with _suppressed(InterruptedCommitError):
                log.writer.submit((name, at))
            at += 1
            if at % 5 == 0:
                with log.writer.role():
                    pass
            stop.wait(0.0005)

    threads = [threading.Thread(target=publish, args=(one,), daemon=True) for one in range(3)]
    for thread in threads:
        thread.start()
    before = signal.signal(signal.SIGALRM, handler)
    end = time.monotonic() + 1.5
    try:
        at = 0
        while time.monotonic() < end:
            try:
                armed.append(True)
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00002, 0.0004))
                log.writer.submit(("main", at))
                submitted.append(("main", at))
                armed.append(False)
            except (KeyboardInterrupt, TimeoutError):
                pass
            at += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    log.check_usable()
    items = log.items
    assert [item for item, number in Counter(items).items() if number > 1] == []
    assert set(submitted) <= set(items)
    assert count["raised"]
    assert count["inner"]


# -- what the tests share -------------------------------------------------------------------------------


class _suppressed:  # noqa: N801  # like contextlib.suppress, whose code is not interrupted either
    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return kind is not None and issubclass(kind, self.kind)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _act(log: Log, action: str, refused: list[str]) -> None:
    if action == "raise":
        _interrupt()
    try:
        log.writer.submit("inner")
    except BusyError:
        refused.append("inner")


def _submitted(log: Log, name: str, outcomes: list[Any]) -> threading.Thread:
    def run() -> None:
        try:
            log.writer.submit(name)
            outcomes.append("ok")
        except Exception as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _set_when_queued(log: Log, event: threading.Event) -> None:
    """Let the leader go on once another one waits, or soon after."""
    end = time.monotonic() + 0.03
    while time.monotonic() < end and not log.writer._queue:
        event.wait(0.001)
    event.set()


def _wait(condition: Callable[[], Any]) -> None:
    end, pause = time.monotonic() + 10, threading.Event()
    while not condition():
        assert time.monotonic() < end
        pause.wait(0.0005)


def test_released_threads_share_the_next_commit() -> None:
    """Else two groups take turns, each with half of the threads, and each costs a sync."""
    now = [0.0]

    def before(items: Sequence[Any]) -> None:
        now[0] += 1.0  # and no further: the writer waits for as long as it takes
        if items == ["a1"]:
            _wait(lambda: log.writer._queue)

    log = Log(before, clock=lambda: now[0])
    first = threading.Thread(target=log.writer.submit, args=("a1",), daemon=True)
    first.start()
    _wait(lambda: log.inside)
    second = threading.Thread(target=log.writer.submit, args=("b1",), daemon=True)
    second.start()
    first.join(10)
    _wait(lambda: log.writer._gathering or len(log.groups) == 2)
    log.writer.submit("a2")
    second.join(10)
    assert log.groups == [["a1"], ["b1", "a2"]]


def test_a_writer_does_not_wait_in_vain_for_long() -> None:
    """The others do not come back: it commits after the time of a commit, and does not try again at once."""
    log = Log(lambda items: _wait(lambda: log.writer._queue) if items == ["a1"] else None)
    first = threading.Thread(target=log.writer.submit, args=("a1",), daemon=True)
    first.start()
    _wait(lambda: log.inside)
    log.writer.submit("b1")
    log.writer.submit("b2")
    assert log.groups == [["a1"], ["b1"], ["b2"]]
    assert log.writer._skip == 1
