"""Batches of messages as objects of JSON lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rambla_py.handlers._record import json_line
from rambla_py.handlers.objects.settings import ObjectsOptions
from rambla_py.handlers.objects.template import accepted_at, template_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Bundle", "bundled"]

_ID = "ID"


class Bundle(NamedTuple):
    """Messages that share one object, and their lines."""

    messages: list[Delivery]
    lines: list[bytes]

    @property
    def options(self) -> ObjectsOptions:
        """The options that the messages share."""
        options: ObjectsOptions = self.messages[0].options
        return options

    @property
    def body(self) -> bytes:
        """The lines, each with a line break."""
        return b"\n".join([*self.lines, b""])

    def only(self, kept: Sequence[Delivery]) -> Bundle:
        """Return these of its messages with their lines."""
        if len(kept) == len(self.messages):
            return self
        chosen = set(kept)
        which = [message in chosen for message in self.messages]
        return Bundle([*kept], [*compress(self.lines, which)])  # an object of one message has no lines

    def halves(self) -> tuple[Bundle, Bundle]:
        """Return the two halves."""
        at = len(self.messages) // 2
        return Bundle(self.messages[:at], self.lines[:at]), Bundle(self.messages[at:], self.lines[at:])

    @property
    def name(self) -> str:
        """The id of the object: that of the first message, their number, and a digest of them all.

        A different batch that begins with the same message has another name, so it never replaces an object
        whose messages count as delivered; the same batch, sent again, has the same name.
        """
        digest = hashlib.blake2b(digest_size=8)
        for message, line in zip(self.messages, self.lines, strict=True):
            digest.update(
                b"%d %b %d " % (len(message.id), message.id.encode(errors="replace"), len(line)) + line
            )
        return f"{self.messages[0].id}-{len(self.messages)}-{digest.hexdigest()}"


def bundled(
    messages: Sequence[Delivery], channel_options: ObjectsOptions, channel: str
) -> Iterable[tuple[Bundle, None] | tuple[Delivery, Exception]]:
    """Yield the bundles of a batch, and each message that cannot be in one with its error.

    Messages share an object if their paths differ in their ids only, their options are equal, and no earlier
    put that they shared was left without an answer.
    """
    bundles: dict[tuple[str, bytes, str], Bundle] = {}
    for message in messages:
        options: ObjectsOptions = message.options
        try:
            path = template_of(options.path).render(message, name=_ID)
            line = json_line(
                message,
                shape=options.record,
                channel=channel,
                at=accepted_at(message).timestamp(),
                takes="object" if options.reads_payload else "json",
            )
        except Exception as error:  # a payload's own code may raise anything; only its message fails
            yield message, error
            continue
        own = b"" if options is channel_options else msgspec.json.encode(options)
        apart = message.id if message.alone else ""
        bundle = bundles.setdefault((path, own, apart), Bundle([], []))
        bundle.messages.append(message)
        bundle.lines.append(line)
    for bundle in bundles.values():
        yield bundle, None
