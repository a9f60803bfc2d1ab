"""Encryption of the values of any state store."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rambla_py.serialization.json_numbers import read_json
from rambla_py.state.errors import StateDecryptError, StateError
from rambla_py.state.inner import InnerStore
from rambla_py.state.record import StateRecord, check_key, check_ttl, json_of
from rambla_py.state.store import StateStore

__all__ = ["EncryptedStore", "generate_key", "parse_keys"]

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = 1
_MARK = "rambla-aes256gcm"


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The value in the inner store."""

    v: int
    kind: str
    key_id: str
    nonce: bytes
    data: bytes


class EncryptedStore(StateStore):
    """Keeps values in ``store`` encrypted by AES-256-GCM; keys and times of records stay readable there.

    ``key`` is 32 bytes, or several of them by name: the first one encrypts, all of them decrypt, which is how
    keys rotate. Each value has its own nonce, and is bound to its record's key: one that was changed, or
    moved to another key, raises ``StateDecryptError``, as a wrong key does. Changed times, and an old value
    that was put back, are not detected. The keys are never shown. Needs the extra ``crypto``.

    >>> from rambla_py.state import MemoryStore
    >>> inner = MemoryStore()
    >>> with EncryptedStore(inner, key=bytes(range(32))) as store:
    ...     record = store.set("card", "4242")
    ...     store.get("card").value, "4242" in str(inner.get("card").value)
    ('4242', False)
    """

    store = InnerStore()

    def __init__(self, store: StateStore, key: bytes | Mapping[str, bytes]) -> None:
        super().__init__()
        self.store = store
        keys = key if isinstance(key, Mapping) else {_fingerprint(_checked("the key", key)): key}
        if not keys:
            raise ValueError("no key was given")
        ciphers = {name: _cipher(_checked(f"key {name!r}", each)) for name, each in keys.items()}
        self._current = next(iter(ciphers))
        # A value that was written by a key without a name is decrypted by that key under any name.
        self._ciphers = {_fingerprint(each): ciphers[name] for name, each in keys.items()} | ciphers

    def _name(self) -> str:
        return f"EncryptedStore({self.store._name()})"

    def _open(self) -> None:
        self.store.init()

    def _close(self) -> None:
        self.store.close()

    def get(self, key: str) -> StateRecord | None:
        """Return the record, decrypted; raises ``StateDecryptError`` too."""
        self._check_ready()
        found = self.store.get(key)
        return None if found is None else self._decrypted(found)

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys, decrypted."""
        self._check_ready()
        return {key: self._decrypted(found) for key, found in self.store.get_many(keys).items()}

    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record, decrypted; one that cannot be raises ``StateDecryptError``."""
        self._check_ready()
        return [self._decrypted(record) for record in self.store.get_all(prefix)]

    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Encrypt and set."""
        self._check_ready()
        plain = json_of(check_key(key), value)
        check_ttl(key, expires_s)
        record = self.store.set(
            key,
            self._encrypted(key, plain),
            expires_s=expires_s,
            if_absent=if_absent,
            if_version=if_version,
        )
        return msgspec.structs.replace(record, value=read_json(plain))

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Encrypt and set; each value with a new nonce."""
        self._check_ready()
        plain = {check_key(key): json_of(key, value) for key, value in values.items()}
        for key in plain:
            check_ttl(key, expires_s)
        encrypted = {key: self._encrypted(key, data) for key, data in plain.items()}
        records = self.store.set_many(encrypted, expires_s=expires_s)
        return [msgspec.structs.replace(record, value=read_json(plain[record.key])) for record in records]

    def put(self, record: StateRecord) -> None:
        """Encrypt a record, and store it as it is otherwise."""
        self._check_ready()
        key = check_key(record.key)
        encrypted = self._encrypted(key, json_of(key, record.value))
        self.store.put(msgspec.structs.replace(record, value=encrypted))

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record, by whatever key it was encrypted."""
        self._check_ready()
        return self.store.delete(key, if_version=if_version)

    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``, by whatever key it was encrypted."""
        self._check_ready()
        self.store.clear(prefix)

    def cleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records; return how many there were."""
        self._check_ready()
        return self.store.cleanup_expired(prefix)

    def reencrypt(self) -> int:
        """Encrypt the records of other keys with the first key; return how many there were.

        Afterwards the other keys are no longer needed. While it runs no other process may write to the store:
        its writes could be undone.
        """
        self._check_ready()
        old = [record for record in self.store.get_all() if self._envelope(record).key_id != self._current]
        for record in old:
            self.put(self._decrypted(record))
        return len(old)

    def _encrypted(self, key: str, plain: bytes) -> dict[str, Any]:
        nonce = os.urandom(_NONCE_BYTES)
        data = self._ciphers[self._current].encrypt(nonce, plain, _bound_to(key, self._current))
        envelope: dict[str, Any] = msgspec.to_builtins(_Envelope(_VERSION, _MARK, self._current, nonce, data))
        return envelope

    def _envelope(self, record: StateRecord) -> _Envelope:
        key = record.key
        try:
            envelope = msgspec.convert(record.value, _Envelope)
        except msgspec.ValidationError as error:
            raise StateDecryptError(key, f"it was not encrypted by rambla_py: {error}") from None
        if (envelope.v, envelope.kind) != (_VERSION, _MARK):
            raise StateDecryptError(
                key, f"its format is {envelope.kind!r} {envelope.v}, which is not supported"
            )
        return envelope

    def _decrypted(self, record: StateRecord) -> StateRecord:
        key, envelope = record.key, self._envelope(record)
        cipher = self._ciphers.get(envelope.key_id)
        if cipher is None:
            known = ", ".join(map(repr, self._ciphers))
            raise StateDecryptError(key, f"it needs the key {envelope.key_id!r}; given are {known}")
        try:
            plain = cipher.decrypt(envelope.nonce, envelope.data, _bound_to(key, envelope.key_id))
        except Exception as error:  # InvalidTag, or a nonce of a wrong length
            reason = f"the key {envelope.key_id!r} is another one, or the record was changed or moved"
            raise StateDecryptError(key, reason) from error
        return msgspec.structs.replace(record, value=read_json(plain))


def generate_key() -> str:
    """Return a new key as a string, for the environment; ``parse_keys`` reads it.

    >>> len(next(iter(parse_keys(generate_key()).values())))
    32
    """
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def parse_keys(text: str) -> dict[str, bytes]:
    """Return the keys in a string: one key, or several as ``name:key``, separated by spaces.

    A key is 32 bytes in base64 or in hexadecimal digits. Raises ``ValueError``, which quotes none of it.

    >>> list(parse_keys(f"2026:{generate_key()} 2025:{generate_key()}"))
    ['2026', '2025']
    """
    keys: dict[str, bytes] = {}
    for place, word in enumerate(text.split(), 1):
        name, _, digits = word.rpartition(":")
        key = _decoded(digits)
        if key is None:
            raise ValueError(
                f"key {place} of {len(text.split())} is not 32 bytes in base64 or hexadecimal digits"
            )
        keys[name or _fingerprint(key)] = key
    if not keys:
        raise ValueError("no key was given")
    return keys


def _decoded(digits: str) -> bytes | None:
    for decode in (bytes.fromhex, base64.b64decode, base64.urlsafe_b64decode):
        try:
            key = decode(digits)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    return None


def _checked(what: str, key: Any) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise ValueError(f"{what}: expected {KEY_BYTES} bytes, got {got}")
    return key


def _fingerprint(key: bytes) -> str:
    """Return a name for a key that has none; the key cannot be derived from it."""
    return hashlib.sha256(b"rambla state key id" + key).hexdigest()[:8]


def _bound_to(key: str, key_id: str) -> bytes:
    return b"\0".join((_MARK.encode(), key_id.encode(), key.encode()))


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra
    except ImportError as error:
        hint = "EncryptedStore needs the extra 'crypto'; install it with: pip install 'rambla-py[crypto]'"
        raise StateError(f"{hint} ({error})") from error
    return AESGCM(key)
