"""The README as a package index shows it: a build hook of hatchling.

A package index has none of the files that relative links lead to: the text of such a link stays without the
link, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["PackageReadme", "without_relative_links"]

_PICTURE: Final = re.compile(r"^!\[[^\]]*\]\((?![a-z]+:)[^)\s]+\)\n+", re.MULTILINE)
_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?![a-z]+:)[^)\s]+\)")
_BLOCK: Final = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)


def without_relative_links(page: str) -> str:
    """Return a page of Markdown without relative links and pictures; fenced blocks stay as they are.

    >>> without_relative_links("see [the outbox](docs/outbox.md) and [MIT](https://example.org/mit)")
    'see the outbox and [MIT](https://example.org/mit)'
    """
    parts = _BLOCK.split(page)  # every second one is a block
    parts[::2] = [_LINK.sub(r"\g<text>", _PICTURE.sub("", text)) for text in parts[::2]]
    return "".join(parts)


class PackageReadme(MetadataHookInterface):
    """Sets ``project.readme``, which pyproject.toml lists under ``dynamic``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the page to the table ``[project]``."""
        page = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(page)}
