"""What the pages point at exists: files, headings, commands, targets of make."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_help import help_of
from pages import ROOT, all_pages, blocks_of, inline_code, links_of

IDS = [str(page.relative_to(ROOT)) for page in all_pages()]
SHELL = ("sh", "bash", "console")


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as links write them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def commands_of(page: Path) -> list[list[str]]:
    """The command lines of a page, from blocks of shell and from inline code."""
    text = page.read_text("utf-8")
    lines = [line for block in blocks_of(text) if block.language in SHELL for line in block.text.splitlines()]
    lines += [code for code in inline_code(text) if re.match(r"(rambla|make) ", code)]
    return [_words(line) for line in lines if re.match(r"(\$ )?(rambla|make)\b", line)]


def _words(line: str) -> list[str]:
    line = line.removeprefix("$ ").split("#")[0].split(" | ")[0]
    try:
        return shlex.split(line)
    except ValueError:  # a quote that ends on the next line
        return line.split()


def wrong(words: list[str]) -> str | None:
    """Say what does not exist of a command line, or None."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        missing = [word for word in words[1:] if "=" not in word and word not in targets]
        return f"no target {missing[0]!r}" if missing else None
    command: list[str] = []
    for word in words[1:]:
        if word.startswith("-") or "Commands:" not in help_of(*command):
            break
        command.append(word)
    text = help_of(*command)
    if not text:
        return f"no command {' '.join(command)!r}"
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    missing = [option for option in options if not re.search(rf"{option}\b", text)]
    return f"no option {missing[0]!r}" if missing else None


@pytest.mark.parametrize("page", all_pages(), ids=IDS)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Files that a page links to exist, and so do the headings."""
    broken = []
    for target in links_of(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", all_pages(), ids=IDS)
def test_every_command_exists(page: Path) -> None:
    """``rambla`` and ``make`` know every command and option that a page writes."""
    assert [(words, expected) for words in commands_of(page) if (expected := wrong(words))] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rambla publsh orders", "no command 'publsh'"),
        ("rambla plan --colour", "no option '--colour'"),
        ("rambla rabbit queue destroy q", "no command 'rabbit queue destroy'"),
        ("rambla rabbit queue purge q --all", "no option '--all'"),
        ("make tea", "no target 'tea'"),
        ("rambla plan --config config/rambla.toml", None),
        ("make demo BROKER=1", None),
    ],
)
def test_a_command_that_does_not_exist_is_found_out(line: str, expected: str | None) -> None:
    """The check itself sees a misspelt command, option or target."""
    assert wrong(shlex.split(line)) == expected


def test_every_command_of_the_program_has_its_place_in_the_docs() -> None:
    """``rambla --help`` lists no command that no page shows."""
    listed = set(re.findall(r"^  (\w+)   ", help_of(), flags=re.MULTILINE)) - {"help"}
    written = [words for page in all_pages() for words in commands_of(page)]
    shown = {words[1] for words in written if words[0] == "rambla" and words[1:]}
    assert listed
    assert listed <= shown


@pytest.mark.parametrize("words", commands_of(ROOT / "README.md"), ids=" ".join)
def test_the_commands_of_the_readme_work(words: list[str], tmp_path: Path) -> None:
    """In a checkout, each ``rambla`` command of the README succeeds as it stands there."""
    if words[0] != "rambla":
        assert wrong(words) is None  # what make does is a gate of its own
        return
    done = subprocess.run(
        [sys.executable, "-m", "rambla_py", *words[1:]],
        cwd=ROOT,
        env={**os.environ, "RAMBLA_DEMO_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_page_can_be_reached() -> None:
    """From the README one comes to every page."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in links_of(page.read_text("utf-8")))
        waiting += [(page.parent / link).resolve() for link in links]
    assert set(all_pages()) - reached == set()


def test_pages_know_nothing_of_a_machine() -> None:
    """No page holds a path of somebody's machine."""
    found = re.compile(r"/(?:work|home|root|Users)/\w+")
    assert [page.name for page in all_pages() if found.search(page.read_text("utf-8"))] == []
