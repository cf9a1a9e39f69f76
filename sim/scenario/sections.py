"""The keys that a scenario's sections have, read off the schema."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from sim.scenario.fields import Section

__all__ = ["keys_of", "sections_at"]


def sections_at(root: type[Section], path: Sequence[str | int]) -> list[type[Section]]:
    """Return the models that may stand at a path below `root`; positions in lists do not matter."""
    sections = [root]
    for part in path:
        if isinstance(part, str):
            sections = [child for section in sections for child in _sections_below(section, part)]
    return sections


def keys_of(sections: Sequence[type[Section]]) -> list[str]:
    """Return the keys that any of some models has, each once."""
    fields = [item for section in sections for item in section.model_fields.items()]
    return list(dict.fromkeys([field.alias or key for key, field in fields]))


def _sections_below(section: type[Section], key: str) -> Iterator[type[Section]]:
    """Yield the models that a key of a section can hold."""
    field = section.model_fields.get(key)
    pending: list[Any] = [] if field is None else [field.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        pending.extend(get_args(annotation))
