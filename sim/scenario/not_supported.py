"""What the contract names and the simulator does not do yet: refused by name, never ignored.

`NOT_YET` is the whole list. Who builds a thing deletes its name (or row) here; nothing else has to change.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sim.errors import InvalidValueError, shown

__all__ = ["NOT_YET", "NotYet", "find_not_supported"]


class NotYet(NamedTuple):
    """One key with values that are not supported yet."""

    key: str
    """The key: `section.key`, or a top-level key."""
    names: tuple[str | int, ...] | None = None
    """The values that are refused; None: all but `allowed`."""
    allowed: tuple[object, ...] = (None,)
    """The values that are not refused when `names` is None."""
    hint: str = "Leave it out."
    """What to write instead."""

    def refuses(self, value: object) -> bool:
        """Return whether the key must not have this value yet."""
        if self.names is None:
            return not any(value == allowed for allowed in self.allowed)
        return isinstance(value, (str, int)) and not isinstance(value, bool) and value in self.names


NOT_YET: Final[tuple[NotYet, ...]] = (
    NotYet("model.hf_config", hint="Name a model with model.preset, or give its fields."),
)
"""Every value that is refused as not supported yet."""


def find_not_supported(data: Mapping[str, Any]) -> list[InvalidValueError]:
    """Return a refusal for every value of a scenario that is not supported yet.

    Examples
    --------
    >>> print(find_not_supported({"model": {"hf_config": "config.json"}})[0])
    model.hf_config must be supported, got config.json. model.hf_config is not supported yet. Name a model with \
model.preset, or give its fields.
    """
    return [_refusal(row, value) for row in NOT_YET for value in _written(data, row.key) if row.refuses(value)]


def _written(data: Mapping[str, Any], dotted_key: str) -> list[object]:
    """Return the value of a key, in a list that is empty if it is not written."""
    section, _, key = dotted_key.rpartition(".")
    values = data.get(section) if section else data
    return [values[key]] if isinstance(values, Mapping) and key in values else []


def _refusal(row: NotYet, value: object) -> InvalidValueError:
    """Return the refusal of one value."""
    subject = row.key if row.names is None else shown(value)
    hint = f"{subject} is not supported yet. {row.hint}"
    return InvalidValueError(field=tuple(row.key.split(".")), rule="be supported", value=value, hint=hint)
