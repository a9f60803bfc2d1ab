"""The pages that lead into the code name files and functions that exist, and are short."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from pages import ROOT, all_pages

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
NAMED = re.compile(r"`(?P<file>[\w/]+\.py):(?P<name>[\w.]+)`")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def names_in(file: str) -> frozenset[str]:
    """The functions, classes and methods of a file, as ``Class.method``."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, FUNCTIONS)}
    return frozenset(found)


def missing(text: str) -> list[str]:
    return [found[0] for found in NAMED.finditer(text) if found["name"] not in names_in(found["file"])]


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_functions_exist(page: Path) -> None:
    """Every ``file.py:function`` of a page is there."""
    assert missing(page.read_text("utf-8")) == []


def test_a_function_that_is_gone_is_found_out() -> None:
    """The check sees a wrong file, a wrong function and a wrong method."""
    named = ["gone.py:x", "app.py:gone", "app.py:Rambla.gone", "app.py:Rambla.stop"]
    text = " ".join(f"`rambla_py/{name}`" for name in named)
    assert missing(text) == [f"`rambla_py/{name}`" for name in named[:3]]


def test_the_main_path_is_named_hop_by_hop() -> None:
    """Reading leads from ``publish`` to the receipt, in at most forty lines."""
    text = (ROOT / "docs" / "reading.md").read_text("utf-8")
    hops = [found["name"] for found in NAMED.finditer(text)]
    path = [
        "Rambla.publish",
        "plan",
        "SharedPayload.delivery",
        "Admission.accept_with",
        "Worker._run",
        "Dispatcher.attempt",
        "ResultProcessor.process",
    ]
    assert [hop for hop in hops if hop in [*path, "Receipt._settle"]] == [*path, "Receipt._settle"]
    assert len(text.partition("Beside the main path")[0].splitlines()) <= 40


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_short_and_says_why(page: Path) -> None:
    """Context, decision, consequence, in at most forty lines."""
    text = page.read_text("utf-8")
    assert re.findall(r"^## (\w+)", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequence"]
    assert len(text.splitlines()) <= 40


def test_decisions_are_numbered_without_gaps() -> None:
    """The first is 0001, and none is missing."""
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_index_has_every_decision_and_the_template_its_headings() -> None:
    """The table of docs/decisions/README.md names each page by its title; new pages copy the template."""
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(r"^\| (\d{4}) \| \[(.*)\]\((.*)\) \|$", (folder / "README.md").read_text("utf-8"), re.M)
    titles = [page.read_text("utf-8").splitlines()[0].partition(". ")[2] for page in DECISIONS]
    assert rows == [(page.name[:4], title, page.name) for page, title in zip(DECISIONS, titles, strict=True)]
    template = (folder / "template.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)", template, re.M) == ["Context", "Decision", "Consequence"]
