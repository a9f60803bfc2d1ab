"""How often code of the runtime assigns to attributes of other objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

RUNTIME = Path(__file__).parents[2] / "rambla_py" / "runtime"
PER_THOUSAND_LINES = 5


def foreign_assignments(source: str) -> Iterator[str]:
    """Yield each assignment to an attribute of anything but ``self`` and ``cls``, nested targets included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_objects_change_through_their_own_methods() -> None:
    """Fewer than five foreign assignments per thousand lines: a state has one owner."""
    sources = {path: path.read_text("utf-8") for path in sorted(RUNTIME.rglob("*.py"))}
    found = [f"{path.name}:{one}" for path, source in sources.items() for one in foreign_assignments(source)]
    lines = sum(len(source.splitlines()) for source in sources.values())
    assert len(found) < PER_THOUSAND_LINES * lines / 1000, "\n".join(found)


def test_every_form_of_assignment_is_counted() -> None:
    """Plain, chained, augmented, annotated, unpacked, deleted, in a loop and in ``with``; not one's own."""
    source = """
a.x = b.y = 1
a.x += 1
a.x: int = 1
a.x, (b.y, self.own) = 1, (2, 3)
del a.x
for a.x in (): pass
with open() as a.x: pass
self.own = cls.own = 1
self.part.x = 1
"""
    assert len(list(foreign_assignments(source))) == 10
