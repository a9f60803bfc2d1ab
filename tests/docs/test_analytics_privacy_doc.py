"""The table of the privacy settings in the documentation is that of the settings."""

from __future__ import annotations

import json
import re

import msgspec
from pages import ROOT

from rambla_py.analytics.privacy import PrivacySettings


def test_the_privacy_table_is_complete() -> None:
    """Every setting with its default, in order."""
    page = (ROOT / "docs" / "analytics.md").read_text("utf-8")
    part = page.partition("## Privacy")[2].partition("### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", part, re.MULTILINE)
    defaults = msgspec.to_builtins(PrivacySettings())
    assert [(name, json.loads(default)) for name, default in rows] == [
        (name, list(value) if isinstance(value, tuple) else value) for name, value in defaults.items()
    ]
