"""Calls of a tracker with a secret in any of their places, from a seed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

from secret_cases import DIALECTS, LEAKING_STATEMENTS, LEAKING_TEXTS, SECRET

CARD = "4111 1111 1111 1111"
_SHOWN = (SECRET, CARD, CARD.replace(" ", ""))
_KEYS = str.split("password apiKey X-Auth-Token client_secret SESSION_ID card-pin csrfToken cvv IBAN ssn")
_HEADERS = ["Authorization", "Cookie", "X-Api-Key", b"proxy-authorization"]
_FIELDS = ["note", "order", "items", "\ud800", "a b", "user_agent", "error_message", "timestamp"]
_NOISE = "abcXYZ019 _-.:;=?&/\\'\"`<>()[]{}#%@$\n\t\x00\ud800\u00e4\u2019\U0001f600"


def shows_secret(text: str) -> bool:
    """Return whether a secret is in a string."""
    return any(secret in text for secret in _SHOWN)


class SecretCalls:
    """Draws calls: the name of a method, its arguments, its named arguments, and the fields of a context."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def __iter__(self) -> Iterator[tuple[str, list[Any], dict[str, Any], dict[str, Any]]]:
        while True:
            name, args, named = self._random.choice([
                ("track_api_request", [self.text(), self.text(), 200, 1.5], {"user_agent": self.text(), "ip_address": self.text()}),
                ("track_api_error", [RuntimeError(self.text())], {"method": self.text(), "path": self.url()}),
                ("track_api_error", [self.text()], {}),
                ("track_db_query", [self._random.choice(LEAKING_STATEMENTS), 1, True], {"dialect": self._random.choice(DIALECTS)}),
                ("track_db_connection", [self.text(), 1, True], {}),
                ("track_user_auth", [self.text(), self.text(), True], {}),
                ("track_payment", [self.text(), "9.99", "EUR", True], {}),
                ("track_payment", [self.text(), 5, self.text(), True], {}),
                ("track_email_send", [self.email(), self.text(), True], {}),
                ("track_file_operation", [self.text(), self.text(), 10, True], {}),
                ("track_external_api_call", [self.text(), self.url(), 2.5, False], {}),
                ("track_system_performance", [], {}),
                ("track", [self.text()], {"event_category": self.text(), "event_action": self.text()}),
            ])  # fmt: skip
            for key in self._random.sample(_FIELDS, self._random.randrange(4)):
                named.setdefault(key, self.value())
            context = {"request_id": self.text(), "user_id": self.text(), "plan": self.value()}
            yield name, args, named, {key: context[key] for key in context if self._random.random() < 0.3}

    def noise(self) -> str:
        """Return any characters."""
        return "".join(self._random.choices(_NOISE, k=self._random.randrange(8)))

    def text(self) -> str:
        """Return a string with a secret, alone or on a line between others."""
        leak = self._random.choice([*LEAKING_TEXTS, f"card {CARD}", f"card={CARD}"])
        return self._random.choice([leak, f"{self.noise()}\n{leak}\n{self.noise()}"])

    def url(self) -> str:
        """Return a URL with a secret."""
        return (
            "https://"
            + self._random.choice(["h.example/", f"u:{SECRET}@h.example/"])
            + self._random.choice(["items/7", "a%20b", "\u00e4/x;y", ""])
            + self._random.choice([f"?q={SECRET}", f"?{SECRET}", f"#{SECRET}", f";s={SECRET}?a={SECRET}#x"])
        )

    def email(self) -> str:
        """Return the address of a recipient that is a secret."""
        return self._random.choice([f"{SECRET}@shop.example", f"Bob <{SECRET}@shop.example>", SECRET])

    def value(self, depth: int = 0) -> Any:
        """Return a value of a further field, with secrets in it, or odd."""
        kind = self._random.randrange(7 if depth < 3 else 4)
        if kind == 0:
            return self.text()
        if kind == 1:
            return self.url()
        if kind == 2:
            return {
                self._random.choice(_KEYS): self._random.choice(
                    [SECRET, [SECRET], {"a": SECRET}, SECRET.encode()]
                )
            }
        if kind == 3:
            return self._random.choice(self._odd())
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self._random.randrange(4))]
        if kind == 5:
            return [(self._random.choice(_HEADERS), SECRET) for _ in range(self._random.randrange(3))]
        return {
            self._random.choice([self.noise(), self.url(), self.text()]): self.value(depth + 1)
            for _ in range(3)
        }

    def _odd(self) -> list[Any]:
        return [
            Decimal("NaN"), float("inf"), dt.date(2024, 1, 15), {1, 2}, b"\xff\x00", "\ud800", "\x00", object(), 2**80,
            int(CARD.replace(" ", "")), ValueError(f"token={SECRET}"), f"password={SECRET}".encode(), None, 5, True,
        ]  # fmt: skip
