"""Edits of dead letters: paths, forms of payloads, what is kept and what begins again."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from dead_files import dead, row

from rambla_py.outbox.codec import dump_value, load_value
from rambla_py.outbox.editing import Edit, edited, parsed_path, with_value
from rambla_py.outbox.row_of import decoded
from rambla_py.outbox.rows import Progress

NOW = 5_000.0


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("id", ("id",)),
        ("customer.id", ("customer", "id")),
        ("lines[0].price", ("lines", 0, "price")),
        ("[1][2]", (1, 2)),
        ("a b.c-d", ("a b", "c-d")),
    ],
)
def test_paths(path: str, steps: tuple[str | int, ...]) -> None:
    """Dots lead to keys, brackets to elements."""
    assert parsed_path(path) == steps


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a[x]", "a[", "a]", "a."])
def test_what_is_no_path(path: str) -> None:
    """It is refused, and not understood as something else."""
    with pytest.raises(ValueError, match="path"):
        parsed_path(path)


def test_a_value_at_a_path() -> None:
    """The payload itself is not changed; a new last key is added, a missing one before it is an error."""
    payload = {"id": 7, "lines": [{"n": 1}, {"n": 2}]}
    assert with_value(payload, ("lines", 1, "n"), 3) == {"id": 7, "lines": [{"n": 1}, {"n": 3}]}
    assert with_value(payload, ("new",), None) == {**payload, "new": None}
    assert payload == {"id": 7, "lines": [{"n": 1}, {"n": 2}]}
    for path in [("lines", 2, "n"), ("other", "n"), ("id", "n"), ("lines", "n")]:
        with pytest.raises(ValueError, match="has no"):
            with_value(payload, path, 0)


def test_what_is_kept_and_what_begins_again() -> None:
    """Id, key, options and history stay; the retries, the wait and the age are those of a new message."""
    old = row("7", key="k", options=dump_value({"routing_key": "r"}), due=3_000.0, given_id=True)
    old.progress = Progress(attempts=5, failures=6, left=0, rounds=1, alone=True, replayed=1).dump()
    letter = dead(old)
    new = edited(letter, Edit(), NOW)
    assert (new.id, new.key, new.options, new.given_id) == ("7", "k", old.options, True)
    assert (new.accepted, new.due, new.seq, new.started) == (NOW, None, 0, False)
    progress = Progress.load(new.progress)
    assert (progress.attempts, progress.replayed, len(progress.history)) == (6, 2, 1)
    assert (progress.failures, progress.left, progress.rounds, progress.alone) == (0, -1, 0, False)
    assert new.sound
    assert new.payload == old.payload


@pytest.mark.parametrize(
    ("form", "payload", "value"),
    [
        ("json", b'{"n":1,"at":[1]}', {"n": 1, "at": [1]}),
        ("msgpack", b"\x81\xa1n\x01", {"n": 1}),
        ("value", dump_value({"n": datetime.date(2026, 1, 2)}), {"n": datetime.date(2026, 1, 2)}),
    ],
)
def test_a_value_is_set_in_each_form(form: Any, payload: bytes, value: Any) -> None:
    """The payload is decoded, changed, and encoded in the same way."""
    letter = dead(row("7", payload=0, form=form))
    letter.row.payload = payload
    letter.row.seal()
    assert decoded(letter.row) == value
    new = edited(letter, Edit(values=(("n", 2),)), NOW)
    assert new.form == form
    assert decoded(new) == {**value, "n": 2}
    assert new.sound


def test_digits_are_kept() -> None:
    """A number beside the one that is set keeps all its digits."""
    letter = dead(row("7", form="json"))
    letter.row.payload = b'{"n":1.000000000000000000001,"m":1}'
    letter.row.seal()
    new = edited(letter, Edit(values=(("m", "é"),)), NOW)
    assert new.payload == '{"n":1.000000000000000000001,"m":"é"}'.encode()


def test_another_target_gets_the_value() -> None:
    """A target that encodes in another way gets the decoded payload; a string stays one, bytes stay bytes."""
    for form, payload, value in [
        ("json", b'{"n":1}', {"n": 1}),
        ("text", "é".encode(), "é"),
        ("bytes", b"\xff", b"\xff"),
    ]:
        letter = dead(row("7", form=form))
        letter.row.payload = payload
        letter.row.seal()
        new = edited(letter, Edit(target="redis.other"), NOW)
        assert (new.target, new.form, load_value(new.payload)) == ("redis.other", "value", value)
        assert edited(letter, Edit(target="amqp.orders"), NOW).payload == payload


def test_a_whole_payload() -> None:
    """It replaces whatever there was, a damaged one too; its form is one that the channel can take."""
    letter = dead(row("7", form="text"))
    letter.row.payload = b"damaged"
    with pytest.raises(ValueError, match="checksum is wrong"):
        edited(letter, Edit(), NOW)
    for payload, form, stored in [("a", "text", b"a"), ({"n": 1}, "json", b'{"n":1}')]:
        new = edited(letter, Edit(payload=payload), NOW)
        assert (new.form, new.payload, new.sound) == (form, stored, True)


def test_what_cannot_be_edited() -> None:
    """Bytes of a serializer of the application are replayed as they are, or not at all."""
    letter = dead(row("7", form="custom"))
    letter.row.payload = b"\x00own"
    letter.row.seal()
    assert edited(letter, Edit(), NOW).payload == b"\x00own"
    for edit in [Edit(values=(("n", 1),)), Edit(payload=1), Edit(target="redis.other")]:
        with pytest.raises(ValueError, match="serializer of the application"):
            edited(letter, edit, NOW)
    json = dead(row("8", form="json"))
    json.row.payload = b"{"
    json.row.seal()
    with pytest.raises(ValueError, match="not a payload of the form 'json'"):
        edited(json, Edit(values=(("n", 1),)), NOW)
