"""Builds the sdist and the wheel into dist/, and checks what an installer gets from them.

Usage: python scripts/dist.py INTERPRETER ...

The second build starts from the sdist of the first one, in another folder: the archives must be the same to
the byte. With each interpreter, the wheel is then installed into a clean virtual environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

IMPORTS: Final = """
import sys
import rambla_py
for name in rambla_py.__all__:
    getattr(rambla_py, name)
extras = {"pyreqwest", "zstandard", "obstore", "sqlalchemy", "confluent_kafka", "nats", "paho", "starlette",
    "sqlglot", "jsonschema_rs", "prometheus_client", "opentelemetry", "cryptography"}
assert not extras & set(sys.modules), extras & set(sys.modules)
print(rambla_py.__version__)
"""


def main() -> None:
    """Build, compare, check, install; exit with the first failure."""
    version = _version()
    _check_tag(version)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        built = _build(ROOT, work / "first")
        source = _unpack(built[0], work / "source")
        _compare(built, _build(source, work / "second"))
        _run(sys.executable, "-m", "twine", "check", "--strict", *built)
        _check_wheel(built[1])
        for interpreter in sys.argv[1:]:
            _check_installed(interpreter, built[1], source, version, work)
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        shutil.copytree(work / "first", ROOT / "dist")
    print(f"dist/: rambla-py {version}, tested with {len(sys.argv) - 1} interpreters")


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    print("+", *command, flush=True)
    done = subprocess.run(
        command, cwd=cwd, env=_environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{command[0]} failed with {done.returncode}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return ours, with the time of the last commit as that of the archives."""
    left_out = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {"SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct"), **left_out}


def _git(*command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "rambla_py/__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _check_tag(version: str) -> None:
    tags = [tag for tag in _git("tag", "--points-at", "HEAD").splitlines() if re.match(r"v\d", tag)]
    if tags and tags != [f"v{version}"]:
        sys.exit(f"the tag of this commit must be v{version}, as __version__ is; got {', '.join(tags)}")


def _build(source: Path, folder: Path) -> tuple[Path, Path]:
    """Return the sdist and the wheel of a source tree."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", folder, cwd=source)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def _unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


def _compare(first: tuple[Path, Path], second: tuple[Path, Path]) -> None:
    for one, other in zip(first, second, strict=True):
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)]
        if hashes[0] != hashes[1]:
            sys.exit(f"{one.name}: two builds differ: sha256 {hashes[0]} and {hashes[1]}")
        print(f"{one.name}: sha256 {hashes[0]}, twice")


def _check_wheel(wheel: Path) -> None:
    """Refuse a wheel with more, or less, than the files of the package under version control."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = set(_git("ls-files", "rambla_py").splitlines())
    if "rambla_py/py.typed" not in names or names != wanted:
        sys.exit(f"{wheel.name}: expected the package's files; differing: {sorted(names ^ wanted)}")


def _check_installed(interpreter: str, wheel: Path, source: Path, version: str, work: Path) -> None:
    """Install the wheel alone, use it; then run the unit tests of the sdist on it."""
    folder = work / f"venv-{Path(interpreter).name}-{len(list(work.iterdir()))}"
    _run(interpreter, "-m", "venv", folder)
    python, install = folder / "bin/python", ("-m", "pip", "install", "-q", "--disable-pip-version-check")
    pins = ("-c", ROOT / "constraints.txt")
    _run(python, *install, *pins, wheel, cwd=folder)
    shown = _run(python, "-I", "-W", "error", "-c", IMPORTS, cwd=folder).strip()
    if shown != version:
        sys.exit(f"{wheel.name}: expected the version {version} once it is installed, got {shown}")
    _run(folder / "bin/rambla", "check", "--config", source / "examples/quickstart/rambla.toml", cwd=folder)
    _run(python, *install, *pins, f"{wheel}[unit]", cwd=folder)
    tests = _run(folder / "bin/pytest", "-q", "-p", "no:cacheprovider", "tests/unit", cwd=source)
    print(f"{interpreter}: {tests.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
