"""A hook of mkdocs: every note in docs/decisions stands in the site's navigation, also those that nobody listed."""

from pathlib import Path
from typing import Any

__all__ = ["on_config"]


def on_config(config: Any, **_: object) -> Any:  # noqa: ANN401 - mkdocs is not installed where types are checked
    """Add the decision notes at the end of the navigation, by number."""
    notes = sorted(Path(config["docs_dir"], "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{note.name}" for note in notes]})
    return config
