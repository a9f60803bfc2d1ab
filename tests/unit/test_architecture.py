"""The structure of the package: imports, layers, and public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import rambla_py
from rambla_py import errors

PACKAGE = Path(rambla_py.__file__).parent

# From the inside out; a module may import from its own layer and from those before it.
LAYERS = [
    {"errors"},
    {"_internal", "message", "outcome"},
    {"policy", "receipt", "delivery", "delivery_history", "described", "external_server", "status"},
    {"handler", "handler_levels"},
    {"telemetry"},
    {"serialization", "sql", "state"},
    {"registry"},
    {"config", "handlers"},
    {"runtime"},
    {"outbox"},
    {"app", "channel"},
    {"analytics", "web"},
    {"_default_app"},
    {"testing"},
    {"cli", "__init__", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)
        found[name] = ast.parse(path.read_text())
    return found


def imports_of(tree: ast.AST, *, typing_too: bool = False) -> Iterator[str]:
    """Yield our modules that a module imports when it is run; those for types only may point anywhere."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing_too:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rambla_py":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if is_module(whole) else node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "rambla_py")
        else:
            yield from imports_of(node, typing_too=typing_too)


@cache
def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_imports_point_inwards() -> None:
    """No module imports one of a layer further out."""
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules().items()
        for imported in imports_of(tree)
        if RANK[layer_of(imported)] > RANK[layer_of(name)]
    ]
    assert wrong == []


def test_the_runtime_has_an_order_too() -> None:
    """Targets and supervision know neither workers nor each other; workers know both, and the rest all."""
    order = {"target": 0, "supervision": 0, "delivery": 1}
    wrong = []
    for name, tree in modules().items():
        if name.startswith("rambla_py.runtime."):
            package = name.split(".")[2]
            for imported in imports_of(tree, typing_too=True):
                other = imported.split(".")[2] if imported.startswith("rambla_py.runtime.") else package
                if other in order and other != package and order[other] >= order.get(package, 2):
                    wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_there_are_no_cycles() -> None:
    """The import graph can be put in order, also with what is imported for types only."""
    trees = modules()
    graph = {name: set(imports_of(tree, typing_too=True)) & set(trees) for name, tree in trees.items()}
    ordered: set[str] = set()
    while graph:
        free = {name for name, needs in graph.items() if needs - {name} <= ordered}
        assert free, f"a cycle among {sorted(graph)}"
        ordered |= free
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_functions_do_not_import_us() -> None:
    """An import inside a function would hide from the graph."""
    hidden = [
        f"{name}:{function.lineno} {imported}"
        for name, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for imported in imports_of(function, typing_too=True)
    ]
    assert hidden == []


def test_only_the_actors_know_pykka() -> None:
    """No other module imports it."""
    knowing = {
        layer_of(name)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and "pykka" in ast.unparse(node)
    }
    assert knowing == {"runtime"}


def test_only_the_registry_imports_handler_files() -> None:
    """The registry finds them by name; a handler of several files imports its own, or what is shared."""
    for name, tree in modules().items():
        for imported in imports_of(tree):
            if imported.startswith("rambla_py.handlers."):
                mine, its = name.split(".")[1:3], imported.split(".")[1:3]
                shared = its[1].startswith("_") and mine[0] == "handlers"
                assert mine == its or shared, f"{name} imports {imported}"


def test_middleware_imports_no_framework() -> None:
    """Applications bring theirs; only the module for Django imports it."""
    frameworks = {"django", "asgiref", "fastapi", "flask", "starlette", "werkzeug"}
    importing = {
        name
        for name, tree in modules().items()
        if name.startswith("rambla_py.analytics")
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for imported in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if (imported or "").split(".")[0] in frameworks
    }
    assert importing <= {"rambla_py.analytics.django"}


def test_every_public_name_exists() -> None:
    """Everything in ``__all__`` is there, once, and every error of ours is in it."""
    assert len(set(rambla_py.__all__)) == len(rambla_py.__all__)
    for name in rambla_py.__all__:
        assert hasattr(rambla_py, name), name
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert ours <= set(rambla_py.__all__)


def test_every_error_is_in_the_drawn_tree() -> None:
    """The drawing at the top of the package is complete."""
    for name in errors.__all__:
        if name.endswith("Error"):
            assert name in (errors.__doc__ or ""), name


def test_every_module_has_a_docstring() -> None:
    """Its first line is a sentence or a noun phrase that ends in a full stop."""
    for name, tree in modules().items():
        doc = ast.get_docstring(tree) or ""
        assert doc.split("\n\n")[0].endswith("."), name


def test_no_module_is_longer_than_400_lines() -> None:
    """A longer one has more than one job."""
    lengths = {path.relative_to(PACKAGE): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_test_file_is_longer_than_500_lines() -> None:
    """A longer one holds more than one subject."""
    tests = Path(__file__).parents[1]
    lengths = {path.relative_to(tests): path.read_text().count("\n") for path in tests.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 500} == {}
