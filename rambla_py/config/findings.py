"""This module gathers what a check of the configuration finds: problems and secrets."""

from __future__ import annotations

from collections.abc import Iterable

from rambla_py.config.node import Node
from rambla_py.errors import ConfigError, Problem, nearest
from rambla_py.redaction import SHORTEST, Redactor

__all__ = ["Findings", "joined"]


def joined(path: str, key: str) -> str:
    """Return the dotted path of a key below a path.

    >>> joined("amqp.channels", "orders"), joined("", "amqp"), joined("amqp", "a.b")
    ('amqp.channels.orders', 'amqp', 'amqp."a.b"')
    """
    key = f'"{key}"' if "." in key else key
    return f"{path}.{key}" if path else key


class Findings:
    """Problems, each once and in the order they were found, and secrets.

    ``incomplete`` says that a file could not be read: what is missing may stand there, and is no problem.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.incomplete = False
        self._problems: dict[str, Problem] = {}

    @property
    def problems(self) -> list[Problem]:
        """The problems so far."""
        return list(self._problems.values())

    def problem(
        self, path: str, *, expected: str, got: str, file: str | None = None, hint: str | None = None
    ) -> None:
        """Note a problem."""
        problem = Problem(path, expected=expected, got=got, file=file, hint=hint)
        self._problems.setdefault(str(problem), problem)

    def missing(self, path: str, *, expected: str, file: str | None, hint: str | None = None) -> None:
        """Note that something required is not there."""
        if not self.incomplete:
            self.problem(path, expected=expected, got="nothing", file=file, hint=hint)

    def unknown(self, path: str, known: Iterable[str], *, what: str, node: Node, name: str) -> None:
        """Note a key or name that nobody declared, with the nearest one that somebody did."""
        names = list(known)
        close = nearest(name, names)
        if close:
            hint = f"did you mean {close!r}?"
        elif names:
            hint = f"known: {', '.join(names)}"
        else:
            hint = None
        self.problem(path, expected=what, got=repr(name), file=node.file, hint=hint)

    def secret(self, *texts: str) -> None:
        """Note texts that must not show."""
        self.secrets.update(text for text in texts if len(text) >= SHORTEST)

    def refuse(self) -> None:
        """Raise ``ConfigError`` with all problems, secrets masked, when there are any."""
        if self.problems:
            redactor = Redactor(self.secrets)
            raise ConfigError([_redacted(problem, redactor) for problem in self.problems])


def _redacted(problem: Problem, redactor: Redactor) -> Problem:
    return Problem(
        problem.path,
        expected=problem.expected,
        got=redactor.text(problem.got),
        file=problem.file,
        hint=redactor.text(problem.hint) if problem.hint else None,
    )
