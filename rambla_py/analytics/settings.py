"""The table ``[rambla.analytics]``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py.analytics.columns import converter
from rambla_py.analytics.privacy import PrivacySettings

__all__ = ["AnalyticsSettings", "Rule"]

_Name = Annotated[str, Meta(min_length=1)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where events of a category and an action go; ``*`` and ``?`` match any characters, or one.

    >>> Rule(action="order_*", tables=["order_events"]).category
    '*'
    """

    category: Annotated[_Name, Meta(description="event_category of the events; * and ? are wildcards")] = "*"
    action: Annotated[_Name, Meta(description="event_action of the events; * and ? are wildcards")] = "*"
    tables: Annotated[
        list[_Name], Meta(description="tables of the events; default: those that they go to without a rule")
    ] = []
    columns: Annotated[
        dict[str, str],
        Meta(
            description='columns of these tables beside the common ones: total = "numeric(38, 9)" takes the '
            "further field total"
        ),
    ] = {}
    channel: Annotated[_Name | None, Meta(description="channel of the events; default: the tracker's")] = None
    options: Annotated[
        dict[str, Any],
        Meta(description="options that the channel declares; {table} in a string is the name of the table"),
    ] = {}

    def __post_init__(self) -> None:
        for name, sql in self.columns.items():
            try:
                converter(sql)
            except ValueError as error:
                raise ValueError(f"columns.{name}: {error}") from None
        if self.columns and not self.tables:
            raise ValueError("columns without tables")


class AnalyticsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of trackers; all of them may be left out.

    >>> AnalyticsSettings(sample={"api_request": 0.1}).share_of("api_request")
    0.1
    """

    service: Annotated[_Name | None, Meta(description="name of the service, in context")] = None
    environment: Annotated[_Name | None, Meta(description="environment, such as production, in context")] = (
        None
    )
    release: Annotated[_Name | None, Meta(description="release, in context")] = None
    retention_days: Annotated[
        float | None, Meta(gt=0, description="age at which rambla analytics purge deletes events")
    ] = None
    sample: Annotated[
        _Share | dict[str, _Share],
        Meta(
            description="share of the events to keep, for all or by event_action; those with status_code >= "
            "500 or success = false are always kept"
        ),
    ] = 1.0
    exclude_paths: Annotated[
        list[_Name], Meta(description="paths that middleware does not track; * and ? are wildcards")
    ] = []
    trusted_proxies: Annotated[
        list[_Name],
        Meta(
            description="addresses, networks, or unix for socket files, whose X-Forwarded-For middleware "
            "trusts"
        ),
    ] = []
    rules: Annotated[list[Rule], Meta(description="where events go, tried in order")] = []
    privacy: Annotated[PrivacySettings, Meta(description="what is masked, cut and left out")] = (
        PrivacySettings()
    )

    def __post_init__(self) -> None:
        for proxy in self.trusted_proxies:
            if proxy == "unix":  # the peer of a socket file, which has no address
                continue
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"trusted_proxies has {proxy!r}, which is no address or network such as 10.0.0.0/8"
                ) from None
        _check_reachable(self.rules)

    def share_of(self, action: str) -> float:
        """Return the share of the events of an action to keep."""
        sample = self.sample
        return sample.get(action, 1.0) if isinstance(sample, Mapping) else sample


def _check_reachable(rules: list[Rule]) -> None:
    for at, rule in enumerate(rules):
        for earlier, other in enumerate(rules[:at]):
            if _covers(other.category, rule.category) and _covers(other.action, rule.action):
                lost = f", nor its tables {', '.join(rule.tables)}" if rule.tables else ""
                raise ValueError(
                    f"no event reaches rules[{at}]{lost}: rules[{earlier}] comes first and takes all of them"
                )


def _covers(pattern: str, other: str) -> bool:
    return pattern in ("*", other)
