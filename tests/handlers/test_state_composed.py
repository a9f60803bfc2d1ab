"""Stores made of stores: what the hybrid one keeps in front, and what the encrypted one lets out."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Sequence
from typing import Any

import pytest

from rambla_py.errors import RamblaError
from rambla_py.state import (
    EncryptedStore,
    FileStore,
    HybridStore,
    MemoryStore,
    Row,
    StateDecryptError,
    StateError,
    StateInUseError,
    StateRecord,
    StateUnavailableError,
    WriteRule,
    errors,
    generate_key,
    parse_keys,
    store_from_url,
)
from rambla_py.testing import FakeClock

OLD, NEW = bytes(range(32)), bytes(range(100, 132))


class Failing(MemoryStore):
    """A back store whose writes fail before or after they are applied, and that counts its reads."""

    fails: str = ""
    asked: int = 0

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        if self.fails == "before":
            raise StateUnavailableError("Failing", "no answer")
        kept = super()._write(rows, rule)
        if self.fails == "after":
            raise StateUnavailableError("Failing", "no answer", applied="unknown")
        return kept

    def get(self, key: str) -> StateRecord | None:
        self.asked += 1
        return super().get(key)

    def clear(self, prefix: str = "") -> None:
        super().clear(prefix)
        if self.fails:
            raise StateUnavailableError("Failing", "no answer", applied="unknown")


# -- hybrid ---------------------------------------------------------------------------------------------


def test_the_front_is_filled_at_init_and_asked_alone() -> None:
    """What the back holds is read from the front, with its times; the back is not asked again."""
    clock = FakeClock()
    back = Failing(clock=clock)
    with back:
        record = back.set("a", 1, expires_s=10)
    clock.advance(4)
    with HybridStore(MemoryStore(clock=clock), back) as store:
        assert (store.get("a"), store.get("missing"), store.get_all()) == (record, None, [record])
        assert back.asked == 0


def test_a_record_expires_in_both_at_the_same_moment() -> None:
    """The front has the very record of the back."""
    clock = FakeClock()
    front, back = MemoryStore(clock=clock), MemoryStore(clock=clock)
    with HybridStore(front, back) as store:
        store.set("a", 1, expires_s=10)
        clock.advance(3)
        store.set("a", 2, expires_s=10)
        assert front.get("a") == back.get("a")
        clock.advance(10)
        assert (front.get("a"), back.get("a"), store.get("a")) == (None, None, None)


@pytest.mark.parametrize(("fails", "then"), [("before", 1), ("after", 2)])
def test_after_a_write_that_failed_the_back_is_asked(fails: str, then: int) -> None:
    """The front does not show what may not be so: neither the new value, nor the old one."""
    front, back = MemoryStore(), Failing()
    with HybridStore(front, back) as store:
        store.set_many({"a": 1, "b": 1})
        back.fails = fails
        with pytest.raises(StateUnavailableError):
            store.set("a", 2)
        assert front.get("a") is None
        assert store.get("a").value == then
        assert [record.value for record in store.get_all()] == [then, 1]


def test_after_a_clear_that_failed_the_back_is_asked() -> None:
    """Records that the back may have lost are not shown."""
    back = Failing()
    with HybridStore(MemoryStore(), back) as store:
        store.set("a", 1)
        back.fails = "after"
        with pytest.raises(StateUnavailableError):
            store.clear()
        assert (store.get("a"), store.get_all()) == (None, [])


def test_a_value_that_the_front_has_no_room_for_replaces_the_one_it_had() -> None:
    """The old value is not shown any more: the new one is read from the back, and small ones from the front."""
    back = Failing()
    with HybridStore(MemoryStore(max_bytes=50), back) as store:
        store.set_many({"a": "old", "b": "small"})
        record = store.set("a", "x" * 100)
        assert store.get("a") == record
        assert back.asked == 1
        assert store.get("b").value == "small"
        assert back.asked == 1
        assert [each.key for each in store.get_all()] == ["a", "b"]


def test_what_others_write_to_the_back_is_seen_after_a_refresh() -> None:
    """New records, changed ones and removed ones."""
    back = MemoryStore()
    with HybridStore(MemoryStore(), back) as store:
        store.set_many({"a": 1, "b": 1})
        back.set_many({"a": 2, "c": 2})
        back.delete("b")
        assert store.get("a").value == 1
        store.refresh()
        assert [(record.key, record.value) for record in store.get_all()] == [("a", 2), ("c", 2)]


def test_a_back_that_cannot_be_opened_leaves_nothing_open(tmp_path: Any) -> None:
    """The error is the back's, and neither store is ready."""
    (tmp_path / "taken").touch()
    front, back = MemoryStore(), FileStore(tmp_path / "taken" / "folder")
    store = HybridStore(front, back)
    with pytest.raises(StateError):
        store.init()
    assert (store.ready, front.ready, back.ready) == (False, False, False)


def test_a_store_set_after_the_start_is_a_clear_error() -> None:
    """Inner stores may be replaced until ``init()``, and after ``close()``."""
    hybrid = HybridStore(MemoryStore(), MemoryStore())
    hybrid.back = back = MemoryStore()
    encrypted = EncryptedStore(hybrid, OLD)
    with encrypted:
        encrypted.set("a", 1)
        assert len(back.get_all()) == 1
        for whole, part in ((hybrid, "front"), (hybrid, "back"), (encrypted, "store")):
            with pytest.raises(StateInUseError, match=rf"{part} cannot be set after init\(\)"):
                setattr(whole, part, MemoryStore())
    encrypted.store = MemoryStore()
    with encrypted:
        assert encrypted.get_all() == []


def test_what_is_no_store_is_refused() -> None:
    """At once, not at the first verb."""
    with pytest.raises(TypeError, match=r"HybridStore\.back: expected a StateStore, got 7"):
        HybridStore(MemoryStore(), 7)


# -- encrypted ------------------------------------------------------------------------------------------


def test_nothing_of_a_value_stands_in_the_inner_store() -> None:
    """And the same value twice looks different each time: the nonce is fresh."""
    inner = MemoryStore()
    with EncryptedStore(inner, OLD) as store:
        store.set("a", {"card": "4242 4242"})
        first = inner.get("a").value
        store.set("a", {"card": "4242 4242"})
        second = inner.get("a").value
    assert "4242" not in str(first)
    assert base64.b64decode(first["data"]).find(b"4242") == -1
    assert first["nonce"] != second["nonce"]
    assert first["data"] != second["data"]
    assert len(base64.b64decode(first["nonce"])) == 12


def test_keys_rotate() -> None:
    """A new key goes first: it encrypts from then on, and the old one still opens what it encrypted."""
    inner = MemoryStore()
    with EncryptedStore(inner, {"2025": OLD}) as store:
        store.set_many({"a": 1, "b": 2})
    with EncryptedStore(inner, {"2026": NEW, "2025": OLD}) as store:
        store.set("b", 3)
        assert [record.value for record in store.get_all()] == [1, 3]
        assert (inner.get("a").value["key_id"], inner.get("b").value["key_id"]) == ("2025", "2026")
    with EncryptedStore(inner, {"2026": NEW}) as store:
        assert store.get("b").value == 3
        with pytest.raises(StateDecryptError, match="it needs the key '2025'"):
            store.get("a")


def test_a_key_without_a_name_is_found_by_any() -> None:
    """Who began with bytes alone can give the same bytes a name later."""
    inner = MemoryStore()
    with EncryptedStore(inner, OLD) as store:
        store.set("a", 1)
    with EncryptedStore(inner, {"2026": NEW, "2025": OLD}) as store:
        assert store.get("a").value == 1


def test_reencrypting_moves_every_record_to_the_first_key() -> None:
    """So that the old one can be let go; values and times stay as they were."""
    clock = FakeClock()
    inner = MemoryStore(clock=clock)
    with EncryptedStore(inner, {"2025": OLD}) as store:
        store.set_many({"a": 1, "b": 2}, expires_s=60)
        before = store.get_all()
    clock.advance(5)
    with EncryptedStore(inner, {"2026": NEW, "2025": OLD}) as store:
        store.set("c", 3)
        assert [store.reencrypt(), store.reencrypt()] == [2, 0]
    with EncryptedStore(inner, {"2026": NEW}) as store:
        assert store.get_all()[:2] == before


def test_a_wrong_key_is_one_clear_error() -> None:
    """Under the same name, or under another: the record is named, and no key shows."""
    inner = MemoryStore()
    with EncryptedStore(inner, {"2025": OLD}) as store:
        store.set("a", "plain text")
    for keys in ({"2025": NEW}, {"2026": NEW}):
        with EncryptedStore(inner, keys) as store:
            for ask in (lambda: store.get("a"), store.get_all):
                with pytest.raises(StateDecryptError, match="'a' cannot be decrypted") as caught:
                    ask()
                said = "".join(traceback.format_exception(caught.value)) + repr(store) + repr(vars(store))
                for key in (OLD, NEW):
                    forms = [repr(key), key.hex(), base64.b64encode(key).decode()]
                    assert not [form for form in forms if form in said]


def test_records_cannot_be_changed_or_swapped() -> None:
    """A record moved to another key, a bit turned, another key's name: none is taken."""
    inner = MemoryStore()
    with EncryptedStore(inner, {"one": OLD, "two": OLD[::-1]}) as store:
        store.set_many({"mine": 1, "theirs": 1_000_000})
        sealed = inner.get("theirs").value
        data = bytearray(base64.b64decode(sealed["data"]))
        data[0] ^= 1
        forged: list[Any] = [
            sealed,
            inner.get("mine").value | {"data": base64.b64encode(data).decode()},
            inner.get("mine").value | {"key_id": "two"},
            inner.get("mine").value | {"nonce": ""},
            inner.get("mine").value | {"v": 2},
            {"plain": "text"},
            "text",
        ]
        for value in forged:
            inner.set("mine", value)
            with pytest.raises(StateDecryptError):
                store.get("mine")


@pytest.mark.parametrize("key", [b"short", OLD + b"x", "text", {}, {"a": b""}])
def test_what_is_no_key_is_refused(key: Any) -> None:
    """At once, and without showing it."""
    with pytest.raises(ValueError, match="key") as caught:
        EncryptedStore(MemoryStore(), key)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "  ", "canary-canary", f"2026:{generate_key()} old:canary-canary"], ids=range(4)
)
def test_a_text_that_holds_no_keys_is_refused(text: str) -> None:
    """Nothing of it shows."""
    with pytest.raises(ValueError, match="key") as caught:
        parse_keys(text)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_keys_are_read_in_base64_and_hexadecimal() -> None:
    """With names or without; the first one encrypts."""
    encoded = base64.b64encode(OLD).decode()
    assert list(parse_keys(f"2026:{NEW.hex()} {encoded}").values()) == [NEW, OLD]
    assert parse_keys(base64.urlsafe_b64encode(b"\xff" * 32).decode()) == parse_keys("ff" * 32)


# -- what all share --------------------------------------------------------------------------------------


def test_every_error_stands_in_the_tree() -> None:
    """The drawing at the top of the module is complete, and hangs in ours."""
    for name in errors.__all__:
        if name.endswith("Error"):
            assert name in (errors.__doc__ or "")
            assert issubclass(getattr(errors, name), RamblaError)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "postgres://u:canary@h/db",
        "file://host/folder",
        "sqlite://",
        "sqlite:///",
        "sqlite://file",
        "http://u:canary@host",
        "http://:80",
        "http://host:port",
        "https://host?token=canary",
        "redis://u:can/ary@host:x",
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    """The error says what is expected, and quotes no password."""
    with pytest.raises(ValueError, match=r"url") as caught:
        store_from_url(url)
    said = "".join(traceback.format_exception(caught.value))
    assert "canary" not in said
    assert "can/ary" not in said
