"""Privacy of analytics: what is masked, cut or left out before an event is published."""

from __future__ import annotations

from rambla_py.analytics.privacy.marks import CUT, CYCLE, UNREADABLE
from rambla_py.analytics.privacy.scrubber import EmailParts, QueryText, Scrubber
from rambla_py.analytics.privacy.settings import PrivacySettings, privacy_settings

__all__ = [
    "CUT",
    "CYCLE",
    "UNREADABLE",
    "EmailParts",
    "PrivacySettings",
    "QueryText",
    "Scrubber",
    "privacy_settings",
]
