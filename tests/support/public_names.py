"""The check that a test module uses public names of rambla_py only."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

_PACKAGES = ("", ".handlers", ".testing", ".telemetry", ".state", ".sql", ".web")
PUBLIC = frozenset(f"rambla_py{name}" for name in _PACKAGES)


def hidden_names(file: str) -> list[str]:
    """Return what a module uses that is not public: imports, and attributes that begin with ``_``."""
    tree = ast.parse(Path(file).read_text("utf-8"))
    return [name for node in ast.walk(tree) for name in _hidden(node)]


def _hidden(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names if _is_ours(alias.name) and alias.name not in PUBLIC]
        case ast.ImportFrom() if node.module in PUBLIC:
            given = import_module(node.module).__all__
            return [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in given]
        case ast.ImportFrom() if _is_ours(node.module or "."):
            return [node.module or "."]
        case ast.Attribute() if node.attr.startswith("_"):
            return [node.attr]
    return []


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("rambla_py", "")
