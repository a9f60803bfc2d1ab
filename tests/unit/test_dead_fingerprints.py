"""Fingerprints of errors: what is replaced, and what makes a difference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.outbox.fingerprints import error_types, fingerprint
from rambla_py.telemetry.normalizing import normalized


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 17 was refused", "row 4,018 was refused"),
        ("no queue for 'paid'", "no queue for 'it is \"sent\"'"),
        ('value "a" is too long', 'value "b\\"c" is too long'),
        ("cannot reach 10.0.0.7:5672", "cannot reach 192.168.1.250:5671"),
        ("cannot reach [2001:db8::1]:443", "cannot reach [fe80::7:1]:443"),
        ("<Lock at 0x7f3c2a> is taken", "<Lock at 0x7f3c2bdd10> is taken"),
        ("mail to ann@example.com bounced", "mail to bob.b+x@mail.example.org bounced"),
        ("id 01a2280c03d173b09010f605a261a980 exists", "id 6cbf0f02849196fad3662c8349fe2204 exists"),
        ("no 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "no 7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ("timed out after 0.5 s", "timed out after 30 s"),
    ],
)
def test_values_make_no_difference(one: str, other: str) -> None:
    """Numbers, addresses and quoted values are replaced."""
    assert normalized(one) == normalized(other)
    assert fingerprint("H", ["E"], one) == fingerprint("H", ["E"], other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no queue", "no exchange"),
        ("it can't be read, and isn't written", "it can't be sent, and isn't written"),
        ("facade deadbeef", "facade beefdead"),
    ],
)
def test_words_make_a_difference(one: str, other: str) -> None:
    """Apostrophes quote nothing, and a word of the letters a to f is no number."""
    assert normalized(one) != normalized(other)


def test_handler_and_types_make_a_difference() -> None:
    """The same text of another handler, another type or another cause is another kind of error."""
    names = {
        fingerprint("A", ["E"], "no"),
        fingerprint("B", ["E"], "no"),
        fingerprint("A", ["F"], "no"),
        fingerprint("A", ["E", "F"], "no"),
        fingerprint("AE", [], "no"),
    }
    assert len(names) == 5


@given(st.text(), st.integers(min_value=0), st.integers(min_value=0))
def test_any_number_in_any_text(text: str, one: int, other: int) -> None:
    """A number beside words makes no difference, whatever the words are; every text has a fingerprint."""
    quiet = normalized(text)
    assert normalized(f"{quiet} {one} rows") == normalized(f"{quiet} {other} rows")
    assert len(fingerprint("H", ["E"], text)) == 12


def test_types_of_a_chain() -> None:
    """Causes and contexts count, unless they were suppressed; a cycle ends."""
    error, cause, context = ValueError("v"), KeyError("k"), OSError("o")
    error.__cause__, cause.__context__ = cause, context
    assert error_types(error) == ("ValueError", "KeyError", "OSError")
    cause.__suppress_context__ = True
    assert error_types(error) == ("ValueError", "KeyError")
    cause.__cause__ = error
    assert len(error_types(error)) == 10
    assert error_types(None) == ()
