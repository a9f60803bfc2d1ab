"""Values that follow the name of a secret in a string."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rambla_py._internal.redaction import MASK

__all__ = ["mask_key_values"]

_LONGEST_NAME: Final = 96
_SEPARATOR = re.compile(r"[:=\uff1a\uff1d]|%3[ADad]")
_RARER_SEPARATOR = re.compile(
    r"[:=\uff1a\uff1d]|%3[ADad]|(?<=[\"']),(?=\s*[bBuU]?[\"'])|(?<=>)|(?<=\w) (?=[^\s\-])"
)
_RARER: Final = ("',", '",', "</", "--", " -")
# The last words before a separator: "API Key" is one of three words at most.
_NAME = re.compile(r"[\w.\-$\[]+(?: [\w.\-$\[]+){0,2}\Z")
_AFTER_SEPARATOR = re.compile(r"[:=>]*\s*(?:[bBuUrRfF]{1,2}(?=\\*[\"']))?")
_NEXT_PAIR = re.compile(
    r"[\r\n]|[,;|][ \t]*[\"'{\[(]*[\w.\-$]{1,64}[\"'\])]*[ \t]*[:=]|[}\])]+(?=\s*(?:[,;\r\n]|\Z))"
)
_BLOCK_SCALAR = re.compile(r"[|>][+\-]?\d?[ \t]*\r?\n")
_END_OF_LINE = re.compile(r"[\r\n]")
_END_OF_WORD = re.compile(r"[\s&]")
_REST_OF_PHRASE = re.compile(r"(?: +[^\s=;,&\"']+){1,8}+(?=;)")
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_BRACKETS = {"{": "}", "[": "]", "(": ")"}
_WHOLE_LINE = re.compile(r"authori[sz]ation|cookie|credential", re.IGNORECASE)
_NAMING = frozenset(("name", "key", "header", "field", "param", "parameter", "variable", "env"))
_NAMED = frozenset(("value", "val", "content", "data"))
_FLAG = re.compile(r"(?<!\S)--?([\w\-]+)\Z")
_LOGIN = re.compile(r"[\"']?[^\s:]+:\S")  # curl -u user:password
_MASKED = re.compile(rf"{re.escape(MASK)}(?!\w)")
_WORD = re.compile(r"\s*\\*[\"']?([\w.\-]{1,64})")


def mask_key_values(text: str, is_secret: Callable[[str], bool]) -> str:
    r"""Return a string in which the values that follow a secret name are masked.

    ``key=value``, ``"key": "value"`` (escaped quotes too), headers, ``--key value``, ``('key', 'value')``,
    ``<key>value</key>`` and ``name="key" value="..."``. In doubt too much is masked.

    >>> from rambla_py._internal.redaction import looks_secret
    >>> mask_key_values('user=bob password=hunter2 {"token": "a b", "n": 1}', looks_secret)
    'user=bob password=*** {"token": "***", "n": 1}'
    """
    parts: list[str] = []
    done = 0
    named = False  # the last name="..." was that of a secret
    separators = _RARER_SEPARATOR if any(sign in text for sign in _RARER) else _SEPARATOR
    for found in separators.finditer(text):
        at = found.start()
        if at < done:
            continue
        name = _name_before(text, done, found)
        if name is None:
            continue
        last = name.rpartition(" ")[2].lower()
        if last in _NAMING:
            word = _WORD.match(text, found.end())
            named = word is not None and is_secret(word[1])
        hit = named and last in _NAMED
        if not hit and not _any_secret(name, is_secret):
            continue
        if hit:
            named = False
        start, end = _value_span(text, found, name)
        if start < end:
            parts += text[done:start], MASK
            done = end
    parts.append(text[done:])
    return "".join(parts)


def _name_before(text: str, done: int, separator: re.Match[str]) -> str | None:
    """Return the words directly before a separator; None if there are none, or they name nothing."""
    at = separator.start()
    before = text[max(done, at - _LONGEST_NAME) : at]
    kind = separator[0]
    if kind == " ":  # --key value
        flag = _FLAG.search(before)
        if flag and flag[1] in ("u", "user") and _LOGIN.match(text, at + 1):
            return "credentials"
        return flag[1] if flag else None
    if kind == "":  # <key>value</key>
        opening = before.rfind("<")
        words = before[opening + 1 : -1].split()
        if opening < 0 or not words or words[0].startswith(("/", "!", "?")):
            return None
        return words[0].rpartition(":")[2] if text.find("</", at) >= 0 else None
    if kind == ",":  # ('key', 'value')
        opening = before.rfind(before[-1], 0, -1)
        opened = before[:opening].rstrip("bBuU")[-1:] if opening >= 0 else ""
        return before[opening + 1 : -1] if opened in ("(", "[") and opened else None
    found = _NAME.search(before.rstrip().rstrip("\\\"'`]").rstrip())
    return found[0] if found else None


def _any_secret(name: str, is_secret: Callable[[str], bool]) -> bool:
    words = name.split(" ")
    return any(is_secret(" ".join(words[first:])) for first in range(len(words)))


def _value_span(text: str, separator: re.Match[str], name: str) -> tuple[int, int]:
    """Return where the value after a separator starts and ends, without its quotes."""
    kind = separator[0]
    if kind == "":
        return separator.end(), text.find("</", separator.end())
    lead = _AFTER_SEPARATOR.match(text, separator.end())
    start = lead.end() if lead else separator.end()
    if _MASKED.match(text, start):
        return start, start
    block = _BLOCK_SCALAR.match(text, start)
    if block:
        return block.end(), len(text)
    slashes = start
    while text[slashes : slashes + 1] == "\\":
        slashes += 1
    opening = text[slashes : slashes + 1]
    if opening in _QUOTES and opening:
        close = _closing_quote(text, slashes + 1, _QUOTES[opening], slashes - start)
        after = text[close + 1 + (slashes - start) :][:1]
        if not after or after.isspace() or after in ",;)}]>&\\/?":
            return slashes + 1, close
        return start, _end_of_word(text, close + 1)
    if opening in _BRACKETS and opening:
        return start, _closing_bracket(text, slashes, opening)
    if _WHOLE_LINE.search(name) and kind != " ":
        return start, _end(_END_OF_LINE, text, start)
    spaced = text[separator.start() - 1 : separator.start()] in (" ", "\t")
    if kind in (":", "\uff1a") or spaced:
        return start, max(_end(_NEXT_PAIR, text, start), _end_of_word(text, start, r"\s&,;}\])"))
    return start, _end_of_word(text, start)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.search(text, start)
    return found.start() if found else len(text)


def _end_of_word(text: str, start: int, stops: str = "") -> int:
    end = _end(re.compile(f"[{stops}]") if stops else _END_OF_WORD, text, start)
    phrase = None if stops else _REST_OF_PHRASE.match(text, end)
    return phrase.end() if phrase else end


def _closing_quote(text: str, start: int, quote: str, slashes: int) -> int:
    """Return where a quoted value ends; without a closing quote, the end of the string.

    ``slashes`` backslashes stand before the opening quote, and before the closing one too.
    """
    at = text.find(quote, start)
    while at >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        if at - before <= slashes:
            if slashes or text[at + 1 : at + 2] != quote:
                return before if slashes else at
            at += 1  # doubled: one quote of the value
        at = text.find(quote, at + 1)
    return len(text)


def _closing_bracket(text: str, start: int, opening: str) -> int:
    """Return the end of a bracketed value; without a closing bracket, the end of the string."""
    closing, depth = _BRACKETS[opening], 0
    for found in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start):
        depth += 1 if found[0] == opening else -1
        if depth == 0:
            return found.end()
    return len(text)
