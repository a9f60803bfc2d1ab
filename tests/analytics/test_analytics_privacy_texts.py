"""Masking of secrets in strings and URLs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_cases import LEAKING_TEXTS, SECRET

from rambla_py.analytics.privacy import PrivacySettings, Scrubber

SCRUBBER = Scrubber(PrivacySettings(), salt=b"key")

HARMLESS = r"""
Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36
list index out of range
'NoneType' object has no attribute 'id'
KeyError: 'password'
HTTPSConnectionPool(host='api.example.com', port=443): Max retries exceeded with url: /v1/items
could not connect to server: is it running on host "127.0.0.1" and port 5432?
order 4711 of user 17 failed: status=declined code=51
2024-01-15T10:30:00.123Z
req-550e8400-e29b-41d4-a716-446655440000
+49 30 901820 or 1705314600002
text/html; charset=utf-8
Unexpected token < in JSON at position 0
password must have at least 8 characters
session expired
pin code
Basic authentication failed
C:\Users\x\file.txt
redis://localhost:6379/0
http://[::1]:8000/items/7
foo@1.2.3 and @scope/pkg@1.0
a ? b : c
order 4111111111111112 of 12345678901234567890
""".strip().split("\n")


@pytest.mark.parametrize("text", LEAKING_TEXTS)
def test_secrets_are_masked(text: str) -> None:
    """Nothing of a secret is left, and what is masked stays as it is when it is masked again."""
    for frame in ["§", "error: § (see the log)", "§\nnext line", "a=b, §"]:
        masked = SCRUBBER.text(frame.replace("§", text))
        assert SECRET not in masked
        assert "***" in masked
        assert SCRUBBER.text(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_other_strings_stay(text: str) -> None:
    """User agents, messages of errors, times and numbers are recorded as they are."""
    assert SCRUBBER.text(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/items/7?page=2&q=x#top", "/items/7?page=***&q=***#***"),
        ("https://u:p@api.example/v1?key", "https://***@api.example/v1?***"),
        ("https://api.example:8443/v1/charges", "https://api.example:8443/v1/charges"),
        ("u:p@h/x y", "***@h/x y"),
        ("charges.create", "charges.create"),
        ("?a=&b=1", "?a=&b=***"),
        ("data:text/plain,x", "data:***"),
        ("/reset/eyJhbGciOiJIUzI1NiJ9.abc", "/reset/***"),
        ("/a\x00b", "/a\ufffdb"),
        ("https://u:p@h/?" + "a=b&" * 5_000, None),
    ],
)
def test_urls_lose_user_info_values_and_fragment(url: str, shown: str | None) -> None:
    """The names of a query stay."""
    masked = SCRUBBER.url(url)
    assert "b&" not in masked
    assert shown is None or masked == shown
    assert SCRUBBER.url(None) == "None"


def luhn(digits: str) -> str:
    """Return the digits with a check digit."""
    total = sum(sum(divmod(int(digit) * (2 - at % 2), 10)) for at, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


@given(
    st.text("0123456789", min_size=12, max_size=18).map(luhn),
    st.sampled_from(["", " ", "-", "\u00a0", "\u2013"]),
    st.integers(1, 6),
    st.sampled_from(["§", "card §.", "x§y", '{"n": "§"}', "12 § 7", "a=§"]),
)
def test_card_numbers_are_masked(number: str, separator: str, group: int, frame: str) -> None:
    """Of 13 to 19 digits, in groups of any size, within other text."""
    written = separator.join(number[at : at + group] for at in range(0, len(number), group))
    assert written not in SCRUBBER.text(frame.replace("§", written))


@given(st.text("0123456789", min_size=12, max_size=18), st.integers(1, 9))
def test_other_numbers_stay(digits: str, wrong: int) -> None:
    """A number whose check digit is wrong is an order number."""
    number = luhn(digits)
    number = number[:-1] + str((int(number[-1]) + wrong) % 10)
    assert SCRUBBER.text(f"order {number}") == f"order {number}"


@given(st.text(), st.booleans())
def test_any_string_is_storable(text: str, twice: bool) -> None:
    """No NUL, no lone surrogate, nothing raises; a string of letters and digits stays."""
    scrubbed = SCRUBBER.text(text * (300 if twice else 1))
    assert "\x00" not in scrubbed
    scrubbed.encode()
    assert SCRUBBER.text(scrubbed) is not None


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
KEYS = st.sampled_from(["password", "apiKey", "X-Auth-Token", "client_secret", "SESSION_ID", "card-pin"])


@given(KEYS, st.sampled_from(["=", '="', "='", ": ", '": "', "':'", " => "]), WORDS, WORDS)
def test_values_after_a_secret_key_are_masked(key: str, separator: str, before: str, after: str) -> None:
    """Whatever is around them."""
    assert SECRET not in SCRUBBER.text(f"{before} {key}{separator}{SECRET} {after}")


@given(WORDS, WORDS)
def test_user_info_of_urls_is_masked(before: str, after: str) -> None:
    """Whatever a password consists of, if it is on one line."""
    before, after = (part.replace("\n", "") for part in (before, after))
    text = f"GET https://user:{before.split(' ')[0]}{SECRET}{after.split(' ')[0]}@host.example/ failed"
    assert SECRET not in SCRUBBER.text(text)


@pytest.mark.parametrize(
    "noise", ["a=", "password='", "://", "a:b@", "?a=", "1 ", "<a>", "%3D", "Key (", "\\"]
)
def test_long_strings_take_no_long_time(noise: str) -> None:
    """A megabyte of what starts a pattern, again and again, is cut and done."""
    assert len(SCRUBBER.text(noise * 1_000_000)) <= 8192 + len("…[cut]")


@pytest.mark.parametrize(
    ("start", "noise"),
    [("@ ", "a:"), ("", "Key ()=("), ("' at line ", "near '"), ("' for key ", "Duplicate entry '")],
)
def test_a_pattern_that_never_ends_is_tried_once(start: str, noise: str) -> None:
    """Clients choose such strings: trying the rest of one from each start takes hours."""
    patient = Scrubber(PrivacySettings(max_text=50_000), salt=b"key")
    assert patient.text(start + noise * (50_000 // len(noise)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("DETAIL: Key (email)=(k4n4r1-v0g3l", "DETAIL: Key (email)=(***"),
        ("Failing row contains (1, k4n4r1-v0g3l, nu", "Failing row contains (***"),
        ("dial user:k4n4r1-v0g3l:x@db.example refused", "dial ***@db.example refused"),
        ("dial (a/user:k4n4r1-v0g3l@db.example)", "dial (a/user:***@db.example)"),
        ("thin:scott/k4n4r1-v0g3l@db.example", "thin:***@db.example"),
    ],
)
def test_values_are_masked_up_to_their_end(text: str, shown: str) -> None:
    """An error that was cut has no end of the value, and what is before a login stays."""
    assert SCRUBBER.text(text) == shown


def test_each_short_string_is_scrubbed_once() -> None:
    """Strings of events repeat: paths, user agents, plans."""
    scrubber: Any = Scrubber(PrivacySettings(), salt=b"key")
    for _ in range(5):
        scrubber.fields({"agent": "Mozilla/5.0 (X11)", "plan": "pro-1"})
    assert scrubber._short.cache_info().misses == 2
    assert scrubber._short.cache_info().hits == 8


def test_emails_may_be_kept() -> None:
    """With ``email = "keep"``."""
    assert SCRUBBER.text("mail bob@example.com") == "mail ***@example.com"
    keep = Scrubber(PrivacySettings(email="keep"), salt=b"key")
    assert keep.text("mail bob@example.com") == "mail bob@example.com"
