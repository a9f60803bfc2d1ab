"""Drafts: checked options of one target, from which deliveries are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rambla_py._internal.message_ids import SharedId
from rambla_py.config.options import checked_id, checked_key, merge_headers, merge_message
from rambla_py.delivery import LiveDelivery
from rambla_py.serialization.capture import ATOMS, captured
from rambla_py.serialization.cloudevents import EVENTS
from rambla_py.serialization.wire_format import ENCODED, encoder_for

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.handler import Takes
    from rambla_py.policy import Policy
    from rambla_py.receipt import Receipt

__all__ = [
    "CACHEABLE",
    "CACHE_SIZE",
    "UNCACHED",
    "Draft",
    "Drafts",
    "CheckedOptions",
    "SharedPayload",
    "is_called",
    "lone_delivery",
    "payload_needs",
]

CACHE_SIZE = 256
CACHEABLE = frozenset({str, int, float, bool, type(None)})
UNCACHED = frozenset({"key", "id", "headers"})
"""Options that are specific to one message, so that caching them would be useless."""


class CheckedOptions(NamedTuple):
    """The checked options of one message: a draft, which messages share, and what is the message's own."""

    draft: Draft
    key: str | None
    id: str | None
    headers: dict[str, Any]


MakeAccept = Callable[["Draft"], "Callable[..., Receipt | None]"]


class _Target(Protocol):
    service: str
    channel: str
    config: ChannelConfig

    @property
    def error_text(self) -> Callable[[BaseException | None], str]: ...

    def encode(self, delivery: LiveDelivery) -> bytes: ...

    def expect_ids(self) -> None: ...


class Draft:
    """What options determine for the deliveries of one target; shared by all messages with these options.

    ``takes`` is what the handler uses of a payload. ``copies``: the payload itself is captured. ``encode``
    makes its body (None: not encoded in ``publish``), ``raw`` is the type of payloads that are their own
    body, ``whole`` means that encoding needs the whole delivery. An ``ordinary`` draft has the channel's own
    expiry and priority and no delay. ``build`` makes a delivery; ``accept`` is the fast path.
    """

    __slots__ = (
        "accept",
        "build",
        "copies",
        "encode",
        "headers",
        "options",
        "ordinary",
        "policy",
        "raw",
        "takes",
        "validate",
        "whole",
    )

    def __init__(
        self,
        target: _Target,
        options: Any,
        policy: Policy,
        fallback_needs: Sequence[PayloadNeeds],
        accept: MakeAccept,
    ) -> None:
        config = target.config
        headers = config.headers or {}
        self.options, self.policy, self.headers = options, policy, headers
        self.takes: Takes = config.handler.takes_for(options)
        self.validate = config.validate
        captures = config.snapshot
        self.encode = encoder_for(self.takes, policy) if captures else None
        self.raw = bytes if self.takes == "bytes" and policy.format != "object" else None
        self.whole = captures and self.takes in ENCODED and policy.serializer in EVENTS
        self.copies = captures and (
            self.takes == "object" or any(not one.shares(self.encode) for one in fallback_needs)
        )
        own = config.policy
        self.ordinary = (
            policy.expires_s == own.expires_s and not policy.delay_s and policy.priority == own.priority
        )
        self.build = _builder(target, options, policy, headers)
        self.accept = accept(self)


def _builder(
    target: _Target, options: Any, policy: Policy, channel_headers: dict[str, Any]
) -> Callable[..., LiveDelivery]:
    def build(
        payload: Any,
        receipt: Receipt | None,
        seq: int = -1,
        accepted_at: float = 0.0,
        key: str | None = None,
        given_id: str | SharedId | None = None,
        headers: dict[str, Any] = channel_headers,
        slot: int = 0,
        calls: bool = False,
        encoded: bytes | None = None,
    ) -> LiveDelivery:
        return LiveDelivery(
            payload,
            options,
            policy,
            headers,
            key,
            accepted_at,
            0,
            target,
            receipt,
            seq,
            given_id,
            slot,
            calls,
            encoded,
        )

    return build


class PayloadNeeds(NamedTuple):
    """What a target needs of a payload: the object, or the body from ``encode``."""

    takes: Takes
    encode: Callable[[Any], bytes] | None

    def shares(self, encode: Callable[[Any], bytes] | None) -> bool:
        """Return whether a body made with ``encode`` is sufficient."""
        return self.takes == "nothing" or (self.encode is not None and self.encode is encode)


def payload_needs(config: ChannelConfig) -> PayloadNeeds:
    """Return what a target needs of payloads without options of their own."""
    takes = config.handler.takes_for(config.options)
    return PayloadNeeds(takes, encoder_for(takes, config.policy))


class Drafts:
    """The drafts of one target; those of recurring options are cached."""

    def __init__(
        self, target: _Target, accept: MakeAccept, fallback_needs: Sequence[PayloadNeeds] = ()
    ) -> None:
        config = self._config = target.config
        self._target, self._fallback_needs, self._accept = target, fallback_needs, accept
        self.base = Draft(target, config.options, config.policy, fallback_needs, accept)
        self._plain = CheckedOptions(self.base, None, None, self.base.headers)
        self._cache: dict[Any, Draft] = {}
        self._by_single_option: dict[tuple[str, Any, type], Draft] = {}

    def check(self, options: Mapping[str, Any]) -> CheckedOptions:
        """Return the checked options of one message; raises ``OptionError``."""
        if not options:
            return self._plain
        config, base = self._config, self.base
        key = own_id = None
        headers = base.headers
        rest: dict[str, Any] = {}
        for name, value in options.items():
            if name == "key":
                key = checked_key(config, value)
            elif name == "id":
                own_id = checked_id(config, value)
            elif name == "headers":
                headers = merge_headers(config, value)
            else:
                rest[name] = value
        return CheckedOptions(self._draft(rest) if rest else base, key, own_id, headers)

    def find(self, name: str, value: Any) -> Draft | None:
        """Return the draft of a message's only option; None if it cannot be cached."""
        kind = type(value)
        if kind not in CACHEABLE:
            return None
        draft = self._by_single_option.get((name, value, kind))
        if draft is None:
            draft = self._merged({name: value})
            if len(self._by_single_option) >= CACHE_SIZE:
                self._by_single_option.clear()
            self._by_single_option[name, value, kind] = draft
        return draft

    def _draft(self, options: dict[str, Any]) -> Draft:
        kinds = tuple(map(type, options.values()))
        if not CACHEABLE.issuperset(kinds):
            return self._merged(options)
        # With the types: 1, 1.0 and True are equal, but an option may accept only one of them.
        cache_key = (*options.items(), kinds)
        draft = self._cache.get(cache_key)
        if draft is None:
            draft = self._merged(options)
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[cache_key] = draft
        return draft

    def _merged(self, options: dict[str, Any]) -> Draft:
        merged = merge_message(self._config, options)
        return Draft(self._target, merged.options, merged.policy, self._fallback_needs, self._accept)

    def for_fallback(self, origin: LiveDelivery, receipt: Receipt, slot: int) -> LiveDelivery:
        """Return a delivery of the same message to this target, as the fallback of ``origin``."""
        base = self.base
        made_by = encoder_for(origin.target.config.handler.takes_for(origin.options), origin.policy)
        delivery = base.build(
            origin.payload,
            receipt,
            key=origin.key,
            given_id=origin.id,
            headers={**base.headers, **origin.headers},
            slot=slot,
            calls=origin.calls,
            encoded=origin.encoded if base.encode is not None and base.encode is made_by else None,
        )
        delivery.came_from(origin)
        return delivery


def is_called(payload: Any) -> bool:
    """Return whether a payload is a callable, which the worker calls."""
    kind = type(payload)
    return kind not in ATOMS and kind is not dict and kind is not list and callable(payload)


class SharedPayload:
    """The payload of one message, shared by its targets: one copy, and one body for each encoding."""

    __slots__ = ("_bodies", "_copied", "calls", "given", "payload")

    def __init__(self, payload: Any) -> None:
        self.given = self.payload = payload
        self.calls = is_called(payload)
        self._copied = False
        self._bodies: dict[Callable[[Any], bytes], bytes] = {}

    def body(self, draft: Draft) -> bytes | None:
        """Return the body for a target if it can be encoded now; raises ``SerializationError``."""
        encode = draft.encode
        if encode is None or self.calls:
            return None
        if encode not in self._bodies:
            self._bodies[encode] = encode(self.payload)
        return self._bodies[encode]

    def capture(self, draft: Draft) -> Any:
        """Return the payload for a target, captured if necessary; raises ``SerializationError``."""
        if draft.copies and not self._copied and not self.calls:
            self.payload = captured(self.payload)
            self._copied = True
        return self.payload

    def delivery(
        self, given: CheckedOptions, receipt: Receipt, shared_id: SharedId | None, slot: int
    ) -> LiveDelivery:
        """Return a delivery of this message to one target, not accepted yet; raises ``PayloadError``."""
        draft = given.draft
        if draft.validate is not None and not self.calls:
            draft.validate(self.given)
        encoded, payload = self.body(draft), self.capture(draft)
        delivery = draft.build(
            payload,
            receipt,
            -1,
            0.0,
            given.key,
            shared_id if given.id is None else given.id,
            given.headers,
            slot,
            self.calls,
            encoded,
        )
        if draft.whole and not self.calls:
            delivery.body()
        return delivery


def lone_delivery(payload: Any, given: CheckedOptions, receipt: Receipt, slot: int) -> LiveDelivery:
    """Return the delivery of a message to one target: as ``SharedPayload`` does, at half the cost.

    Raises ``PayloadError``.
    """
    draft = given.draft
    if is_called(payload):
        return draft.build(payload, receipt, -1, 0.0, given.key, given.id, given.headers, slot, True)
    if draft.validate is not None:
        draft.validate(payload)
    encoded = None if draft.encode is None else draft.encode(payload)
    if draft.copies:
        payload = captured(payload)
    delivery = draft.build(
        payload, receipt, -1, 0.0, given.key, given.id, given.headers, slot, False, encoded
    )
    if draft.whole:
        delivery.body()
    return delivery
