"""The alerts that the documentation ships use metrics that exist."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("yaml")

import yaml

DOCS = Path(__file__).parents[2] / "docs"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DOCS / "operate" / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_of_an_alert_is_documented() -> None:
    """The table of names is compared with the collector by its own test."""
    page = (DOCS / "operate.md").read_text("utf-8")
    used = {name for rule in rules() for name in re.findall(r"rambla_\w+", rule["expr"])}
    assert len(used) >= 5
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_every_alert_says_where_and_how_bad() -> None:
    """With the target, and names that differ."""
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "{{ $labels.service }}.{{ $labels.channel }}" in rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())
