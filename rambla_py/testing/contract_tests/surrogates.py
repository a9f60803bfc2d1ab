"""Contract tests: lone surrogates, which no encoding can write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rambla_py.config.options import declared
from rambla_py.errors import RamblaError, ReceiptTimeoutError
from rambla_py.message import Message
from rambla_py.testing.contract_case import HandlerCase
from rambla_py.testing.harness import Harness

__all__ = ["SurrogateTests"]

_BAD = "bad\udcff"
"""What Python makes of a file's name that is not UTF-8, or of broken JSON."""


class SurrogateTests(HandlerCase):
    """Of strings that UTF-8 cannot encode, in every part of a message."""

    def test_a_lone_surrogate_is_permanent_wherever_it_occurs(self) -> None:
        """In the payload, id, key, headers and options: refused at once, by an error that is ours."""
        with self.trial() as trial:
            for part, message in self._spoiled():
                refused = self._check_spoiled(trial, part, message)
                assert refused or part.startswith("option "), f"{part}: a lone surrogate was delivered"
            assert trial.publish(self.payload(4)).status == "ok"

    def _check_spoiled(self, trial: Harness, part: str, bad: Message) -> bool:
        """Publish a message between two others; return whether it was refused."""
        accepted = trial.audit().accepted
        try:
            before, outcome, after = trial.publish_many([self.payload(1), bad, self.payload(2)])
        except ReceiptTimeoutError:
            raise
        except RamblaError:
            assert trial.audit().accepted == accepted, f"{part}: the call raised, and accepted messages"
            return True
        assert (before.status, after.status) == ("ok", "ok"), f"{part}: {before!r}, {after!r}"
        if outcome.status == "ok":
            return False
        assert (outcome.status, outcome.attempts <= 1) == ("fatal", True), f"{part}: {outcome!r}"
        assert isinstance(outcome.error, RamblaError), (
            f"{part}: {outcome.error!r}; map it to an error of ours"
        )
        return True

    def _spoiled(self) -> Iterator[tuple[str, Message]]:
        """Yield messages with a lone surrogate in one part each, and the part's name."""
        good = self.payload(3)
        if self.serializes:
            yield "payload", Message(_with_surrogate(good))
            if self.takes("text"):
                yield "payload that is a string", Message(_BAD)
        yield "id", Message(good, id=_BAD)
        yield "key", Message(good, key=_BAD)
        yield "header", Message(good, headers={"X-A": _BAD})
        yield "list in a header", Message(good, headers={"X-A": [_BAD]})
        yield "name of a header", Message(good, headers={_BAD: "a"})
        for name, field in declared(self.handler_class()).items():
            if not field.per_channel:
                yield f"option {name}", Message(good, **{name: _BAD})


def _with_surrogate(payload: Any) -> Any:
    if isinstance(payload, dict):
        spoiled = {key: item + _BAD if isinstance(item, str) else item for key, item in payload.items()}
        return spoiled if spoiled != payload else {**payload, "bad": _BAD}
    return [*payload, _BAD] if isinstance(payload, list) else _BAD
