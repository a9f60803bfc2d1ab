"""The table ``[rambla.outbox]``: where durable messages are kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from rambla_py._internal.redaction import redact_url
from rambla_py.config.problems import ProblemList
from rambla_py.config.schema import ChannelConfig, OutboxSettings

__all__ = ["DEFAULT_NAME", "checked_outbox"]

DEFAULT_NAME = "rambla-outbox.db"
"""The file of an outbox without a url, beside the first file of the configuration."""

_PATH = "rambla.outbox.url"
_EXPECTED = "sqlite:///FILE, sqlite:////FROM/THE/ROOT or postgresql://HOST/DATABASE"


def checked_outbox(
    settings: OutboxSettings | None,
    channels: Iterable[ChannelConfig],
    files: tuple[str, ...],
    problems: ProblemList,
) -> OutboxSettings | None:
    """Return the settings with the url of the journal; None if there is no outbox.

    A configuration without a file must name the url as soon as a channel is durable, or keeps dead letters.
    A relative file is beside the first file of the configuration.
    """
    users = [
        f"channel {channel.name} {'is durable' if channel.durable else 'keeps dead letters'}"
        for channel in channels
        if channel.durable or channel.dead_letters
    ]
    if settings is None and not users:
        return None
    settings = settings or OutboxSettings()
    folder = Path(files[0]).parent if files else None
    if settings.url is None:
        if folder is None:
            if users:
                hint = f"{users[0]}, and there is no file beside which the outbox could be"
                problems.missing(_PATH, expected=_EXPECTED, file=None, hint=hint)
            return settings
        return msgspec.structs.replace(settings, url=f"sqlite:///{(folder / DEFAULT_NAME).absolute()}")
    scheme, found, rest = settings.url.strip().partition("://")
    scheme = scheme.lower()
    if scheme == "sqlite" and found and len(rest) > 1 and rest.startswith("/"):
        file = Path(rest[1:])
        if folder is not None and not file.is_absolute():
            file = folder / file
        return msgspec.structs.replace(settings, url=f"sqlite:///{file.absolute()}")
    if scheme in ("postgresql", "postgres") and found and rest:
        return settings
    problems.add(_PATH, expected=_EXPECTED, got=repr(redact_url(settings.url)), file=None)
    return settings
