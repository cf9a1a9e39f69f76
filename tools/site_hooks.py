"""Hooks of mkdocs: decision notes enter the navigation by themselves, and a page may show a section of the README.

A line `<!-- README: TITLE -->` of a page is replaced by the README's section of that title, so that it is said once.
"""

import re
from pathlib import Path
from typing import Any, Final

__all__ = ["on_config", "on_page_markdown"]

_README: Final = Path(__file__).parents[1] / "README.md"


def on_config(config: Any, **_: object) -> Any:  # noqa: ANN401 - mkdocs is not installed where types are checked
    """Add the decision notes at the end of the navigation, by number."""
    notes = sorted(Path(config["docs_dir"], "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{note.name}" for note in notes]})
    return config


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the README's sections where the page asks for them."""
    return re.sub(r"^<!-- README: (.*) -->$", lambda found: _section(found[1]), markdown, flags=re.MULTILINE)


def _section(title: str) -> str:
    """Return a section of the README, with links as seen from docs."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", _README.read_text(encoding="utf-8"), re.M | re.S)
    if found is None:
        raise ValueError(f"README: section must exist, got {title!r}. Name it as its heading does.")
    return found[0].rstrip().replace("](docs/", "](")
