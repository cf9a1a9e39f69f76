"""`assumed:` of a scenario: which of its values the author had to choose, because no document gives them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from sim.errors import InvalidValueError, did_you_mean, dotted
from sim.scenario.claims_section import ALTERABLE
from sim.scenario.fields import Section, Text
from sim.scenario.keys import keys_of, sections_at
from sim.scenario.places import key_path

__all__ = ["Assumed", "check_assumed"]

_MAX_ASSUMED: Final = 100
"""No scenario assumes more."""


def _assumed(value: object) -> object:
    """Return a map of at most so many keys, with one line for each."""
    if not isinstance(value, dict):
        hint = "Write for example {model.top_k: the document does not say how many}."
        raise InvalidValueError(rule="be a map of dotted keys to reasons", value=value, hint=hint)
    if len(value) > _MAX_ASSUMED:
        rule = f"have at most {_MAX_ASSUMED} keys"
        raise InvalidValueError(rule=rule, value=len(value), hint="Name a section where all of it is assumed.")
    for key, why in value.items():
        if isinstance(why, str) and len(why.strip().splitlines()) > 1:
            raise InvalidValueError(field=(key,), rule="be one line", value=why, hint="Write the reason in one line.")
    return value


Assumed = Annotated[
    dict[str, Text],
    Field(max_length=_MAX_ASSUMED),
    BeforeValidator(_assumed, json_schema_input_type=Annotated[dict[str, Text], Field(max_length=_MAX_ASSUMED)]),
]
"""Dotted key -> why its value was chosen."""


def check_assumed(assumed: Mapping[str, Any], root: type[Section]) -> None:
    """Refuse a key that the schema below `root` does not have, or that is no fact."""
    for key in assumed:
        *around, last = key_path(key)
        known = keys_of(sections_at(root, around)) if around else list(ALTERABLE)
        if (around or [last])[0] not in ALTERABLE:
            hint = f"Start the key with one of {', '.join(ALTERABLE)}."
            raise InvalidValueError(("assumed", key), rule="be a key that can be assumed", value=key, hint=hint)
        if last not in known:
            hint = did_you_mean(last, known) if known else f"{dotted(tuple(around))} has no keys."
            raise InvalidValueError(("assumed", key), rule="be a known key", value=key, hint=hint)
