"""The table ``privacy`` of ``[rambla.analytics]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from rambla_py.config.conversion import convert_struct, convert_table
from rambla_py.config.problems import ProblemList
from rambla_py.config.raw_tree import wrap

__all__ = ["PrivacySettings", "privacy_settings"]

_Name = Annotated[str, Meta(min_length=1)]


class PrivacySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded of further fields, strings, statements and addresses.

    >>> PrivacySettings().ip, PrivacySettings().max_text
    ('cut', 8192)
    """

    mode: Annotated[
        Literal["deny", "allow"],
        Meta(description="deny: mask further fields with a secret name; allow: keep only keep_keys"),
    ] = "deny"
    secret_keys: Annotated[
        tuple[_Name, ...], Meta(description="further names whose values are masked, in any case and style")
    ] = ()
    keep_keys: Annotated[
        tuple[_Name, ...],
        Meta(description="deny: names that are never taken for secret; allow: the only names that are kept"),
    ] = ()
    ip: Annotated[
        Literal["cut", "hash", "keep", "drop"],
        Meta(description="IP addresses: cut to /24 and /48, hashed with a salt of the day, kept or dropped"),
    ] = "cut"
    email: Annotated[
        Literal["hash", "domain", "keep", "drop"],
        Meta(
            description="e-mail addresses: domain and HMAC, domain only, the same as hash but kept in other"
            " strings, or dropped"
        ),
    ] = "hash"
    query_text: Annotated[bool, Meta(description="false: record no SQL, only its type and hash")] = True
    max_text: Annotated[int, Meta(ge=16, description="longest string, in characters; the rest is cut")] = 8192
    max_event_bytes: Annotated[
        int, Meta(ge=1024, description="largest event as JSON; beyond it, the largest further fields are cut")
    ] = 65536


def privacy_settings(table: Mapping[str, Any], *, path: str = "rambla.analytics.privacy") -> PrivacySettings:
    """Return the settings of a table; raises ``ConfigError`` with every problem and its path.

    >>> privacy_settings({"ip": "hash", "max_text": 500}).ip
    'hash'
    """
    problems = ProblemList()
    node = wrap(table)
    if convert_table(node, path, problems) is not None:
        settings = convert_struct(node, PrivacySettings, path, problems)
    problems.refuse()
    return cast(PrivacySettings, settings)
