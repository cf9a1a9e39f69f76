"""The keys that a scenario's sections have, read off the schema, and the nearest one to a word that is none."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

from sim.scenario.fields import Section

__all__ = ["keys_of", "nearest", "sections_at"]


_MIN_START: Final = 3
"""A word of so many letters is taken as the start or a part of a name, before names that are spelt alike."""


def sections_at(root: type[Section], path: Sequence[str | int]) -> list[type[Section]]:
    """Return the models that may stand at a path below `root`; positions in lists do not matter."""
    sections = [root]
    for part in path:
        if isinstance(part, str):
            sections = [child for section in sections for child in _sections_below(section, part)]
    return sections


def keys_of(sections: Sequence[type[Section]]) -> list[str]:
    """Return the keys that any of some models has, each once."""
    fields = (item for section in sections for item in section.model_fields.items())
    return list(dict.fromkeys(field.alias or key for key, field in fields))


def nearest(word: object, known: Sequence[str]) -> str:
    """Return the cure of a word that is not known: the nearest one that is, or all of them.

    Neither case nor punctuation counts; before names that are spelt alike come those that start with the word.

    Examples
    --------
    >>> nearest("hiden", ["layers", "hidden"]), nearest("Top-K", ["top_k"]), nearest("x", ["layers", "hidden"])
    ('Did you mean `hidden`?', 'Did you mean `top_k`?', 'Known are layers, hidden.')
    """
    letters = _letters(str(word)[:100])
    sure = [name for name in known if _letters(name) == letters]
    if len(letters) >= _MIN_START:
        sure += [name for name in known if _letters(name).startswith(letters)]
        sure += [name for name in known if letters in _letters(name)]
    close = sure or difflib.get_close_matches(str(word)[:100], known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known are {', '.join(known)}."


def _letters(name: str) -> str:
    """Return a name without case and punctuation."""
    return "".join(c for c in name.lower() if c.isalnum())


def _sections_below(section: type[Section], key: str) -> Iterator[type[Section]]:
    """Yield the models that a key of a section can hold."""
    field = section.model_fields.get(key)
    pending: list[Any] = [] if field is None else [field.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        pending.extend(get_args(annotation))
