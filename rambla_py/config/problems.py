"""Problems and secrets found while a configuration is checked."""

from __future__ import annotations

from collections.abc import Iterable

from rambla_py._internal.redaction import SHORTEST, Redactor
from rambla_py.config.guesses import guess
from rambla_py.config.raw_tree import Node
from rambla_py.config.toml_lines import line_of, lines_of
from rambla_py.errors import ConfigError, Problem

__all__ = ["ProblemList", "joined"]


def joined(path: str, key: str) -> str:
    """Return the dotted path of a key below a path.

    >>> joined("amqp.channels", "orders"), joined("", "amqp"), joined("amqp", "a.b")
    ('amqp.channels.orders', 'amqp', 'amqp."a.b"')
    """
    key = f'"{key}"' if "." in key else key
    return f"{path}.{key}" if path else key


class ProblemList:
    """Problems, each once and in the order they were found, and secrets.

    ``incomplete``: a file could not be read, so that a missing key or name is not reported as a problem.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.incomplete = False
        self._problems: dict[str, Problem] = {}
        self._sources: dict[str, tuple[str, tuple[str, ...]]] = {}

    @property
    def listed(self) -> list[Problem]:
        """The problems so far."""
        return list(self._problems.values())

    def add(
        self, path: str, *, expected: str, got: str, file: str | None = None, hint: str | None = None
    ) -> None:
        """Record a problem."""
        problem = Problem(path, expected=expected, got=got, file=file, hint=hint)
        self._problems.setdefault(str(problem), problem)

    def missing(self, path: str, *, expected: str, file: str | None, hint: str | None = None) -> None:
        """Record that something required is missing."""
        if not self.incomplete:
            self.add(path, expected=expected, got="nothing", file=file, hint=hint)

    def unknown(
        self,
        path: str,
        known: Iterable[str],
        *,
        what: str,
        node: Node,
        name: str,
        hint: str | None = None,
    ) -> None:
        """Record an unknown key or name, with a hint, or else with the known name that may be meant."""
        names = list(known)
        close = guess(name, names)
        if hint is not None:
            pass
        elif close:
            hint = f"did you mean {close!r}?"
        elif names:
            hint = f"known: {', '.join(names)}"
        else:
            hint = None
        self.add(path, expected=what, got=repr(name), file=node.file, hint=hint)

    def source(self, file: str, text: str, *, below: tuple[str, ...] = ()) -> None:
        """Record the text of a file, in which the lines of problems are found; ``below`` is its root."""
        self._sources[file] = text, below

    def secret(self, *texts: str) -> None:
        """Record strings that must be masked in errors and logs."""
        self.secrets.update(text for text in texts if len(text) >= SHORTEST)

    def refuse(self) -> None:
        """Raise ``ConfigError`` with all problems, secrets masked, if there are any."""
        if self.listed:
            redactor = Redactor(self.secrets)
            lines = {file: (lines_of(text), below) for file, (text, below) in self._sources.items()}
            raise ConfigError([_finished(problem, redactor, lines) for problem in self.listed])


def _finished(
    problem: Problem, redactor: Redactor, lines: dict[str, tuple[dict[tuple[str, ...], int], tuple[str, ...]]]
) -> Problem:
    found, below = lines.get(problem.file or "", ({}, ()))
    return Problem(
        problem.path,
        expected=problem.expected,
        got=redactor.text(problem.got),
        file=problem.file,
        hint=redactor.text(problem.hint) if problem.hint else None,
        line=line_of(problem.path, found, below=below),
    )
