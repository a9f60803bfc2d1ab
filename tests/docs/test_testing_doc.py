"""The examples of docs/testing.md, run in their own folder with pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rambla_py.testing as kit
from rambla_py.testing.contract_case import HandlerCase

pytestmark = pytest.mark.timeout(900)

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all examples of the page, put together in one file."""
    folder = tmp_path_factory.mktemp("third_party")
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (folder / "test_examples.py").write_text("\n\n".join(examples))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    # Each of its tests has a limit; all together take as long as the machine needs.
    options = ["-v", "-p", "no:cacheprovider", "--timeout=60"]
    argv = [sys.executable, "-m", "pytest", *options, "test_examples.py"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_pass(report: str) -> None:
    """The handler of the page passes the contract suite, and the other examples pass too; none is skipped."""
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None
    assert int(passed[1]) > 30
    assert not re.search(r"skipped|warning", report)


@pytest.mark.parametrize(
    "name",
    [
        "test_a_purchase_is_published",
        "test_a_broker_that_fails_twice_is_asked_again",
        "test_a_quota_is_waited_for",
        "test_a_rate_limit_refills",
    ],
)
def test_each_example_is_run(report: str, name: str) -> None:
    """No example of the page is left out."""
    assert f"::{name} PASSED" in report


def test_the_page_names_every_flag_and_step() -> None:
    """A flag of the contract, or a step of a script, that the page does not know makes it wrong."""
    text = PAGE.read_text()
    flags = [
        name
        for name, value in vars(HandlerCase).items()
        if (value is None or isinstance(value, bool)) and name[0] != "_"
    ]
    steps = [f"Step.{name}(" for name, made in vars(kit.Step).items() if isinstance(made, classmethod)]
    assert len(flags) == 14
    assert len(steps) == 10
    assert [name for name in [*flags, *steps] if name not in text] == []


def test_the_page_names_what_the_plugin_adds() -> None:
    """The page has each fixture, mark and ini key."""
    source = (Path(kit.__file__).parent / "plugin.py").read_text()
    names = set(re.findall(r"def (rambla\w*)\(|[\"(](rambla_\w+)[\"(]", source))
    added = {one or other for one, other in names}
    assert {"rambla", "rambla_faults", "rambla_real", "rambla_backoff"} <= added
    text = PAGE.read_text()
    assert [name for name in sorted(added) if f"`{name}`" not in text and f"mark.{name}(" not in text] == []


def test_the_kit_needs_pytest_for_the_contract_only() -> None:
    """The doubles can be imported where there is no pytest."""
    program = "import sys, rambla_py.testing as kit; assert 'pytest' not in sys.modules; kit.HandlerContract"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
