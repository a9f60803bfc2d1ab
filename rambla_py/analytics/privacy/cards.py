"""Card numbers in strings, found by their check digit."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

from rambla_py._internal.redaction import MASK

__all__ = ["is_card_number", "mask_cards"]

SHORTEST: Final = 13
LONGEST: Final = 19
_SEPARATOR = "[ \\t\\u00a0\\u2007\\u202f\\-\\u2010-\\u2015\\u2212]"
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_RUN = re.compile(rf"(?P<uuid>\b{_UUID}\b)|\d(?:{_SEPARATOR}{{0,3}}+\d){{12,}}+")
_GROUP = re.compile(r"\d+")
_FIRST_DIGITS = "23456"
"""First digits of card numbers; times in milliseconds start with 1."""


def mask_cards(text: str) -> str:
    """Return a string in which numbers of 13 to 19 digits that pass the Luhn check are masked.

    Blanks and hyphens may separate the digits. Other numbers, and UUIDs, stay.

    >>> mask_cards("paid with 4111 1111 1111 1111, order 4111111111111112")
    'paid with ***, order 4111111111111112'
    """
    return _RUN.sub(_masked_run, text)


def is_card_number(number: int) -> bool:
    """Return whether an integer is a card number.

    >>> is_card_number(4111111111111111), is_card_number(4111111111111112), is_card_number(1705314600003)
    (True, False, False)
    """
    digits = str(number)
    return digits[0] in _FIRST_DIGITS and SHORTEST <= len(digits) <= LONGEST and _Luhn(digits).passes(0, None)


def _masked_run(found: re.Match[str]) -> str:
    run = found[0]
    if found["uuid"] is not None:
        return run
    spans = [group.span() for group in _GROUP.finditer(run)]
    starts = [0, *accumulate(end - start for start, end in spans)]  # in digits, of each group
    luhn = _Luhn("".join(run[start:end] for start, end in spans))
    parts: list[str] = []
    done = first = 0
    while first < len(spans):
        last = _end_of_card(luhn, starts, first)
        if last is None:
            first += 1
            continue
        parts += run[done : spans[first][0]], MASK
        done = spans[last][1]
        first = last + 1
    return "".join([*parts, run[done:]])


def _end_of_card(luhn: _Luhn, starts: list[int], first: int) -> int | None:
    """Return the last group of the longest card number that begins with a group; None if there is none."""
    found = None
    for last in range(first, len(starts) - 1):
        length = starts[last + 1] - starts[first]
        if length > LONGEST:
            break
        if length >= SHORTEST and luhn.passes(starts[first], starts[last + 1]):
            found = last
    return found


class _Luhn:
    """Luhn checks of parts of a string of digits, each in constant time."""

    __slots__ = ("_sums",)

    def __init__(self, digits: str) -> None:
        values = [int(digit) for digit in digits]
        doubled = [value * 2 - 9 if value > 4 else value * 2 for value in values]
        even = [d if at % 2 == 0 else v for at, (v, d) in enumerate(zip(values, doubled, strict=True))]
        odd = [d if at % 2 == 1 else v for at, (v, d) in enumerate(zip(values, doubled, strict=True))]
        self._sums = [0, *accumulate(even)], [0, *accumulate(odd)]

    def passes(self, start: int, end: int | None) -> bool:
        """Return whether the digits of a part pass; their second-last, fourth-last ... are doubled."""
        sums = self._sums[0]
        end = len(sums) - 1 if end is None else end
        sums = self._sums[end % 2]
        return (sums[end] - sums[start]) % 10 == 0
