"""`search:` of a scenario: which strategies are looked through, and how closely."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from sim.errors import InvalidValueError
from sim.scenario.fields import Count, Section, Variation

__all__ = ["SearchSpec"]

_SEARCHABLE: Final = ("parallel", "schedule", "placement", "network", "runtime")
"""Sections whose keys a search may set; of the workload, the microbatches."""
_MICROBATCHES: Final = "workload.microbatches"
_MOST_VALUES: Final = 1000


def _axes(value: object) -> object:
    """Return a map of dotted keys that a search may set."""
    if not isinstance(value, dict):
        hint = "Write for example {parallel.pp: 4}."
        raise InvalidValueError(rule="be a map of dotted keys to values", value=value, hint=hint)
    for key in value:
        if key != _MICROBATCHES and str(key).partition(".")[0] not in _SEARCHABLE:
            rule = f"have keys of {', '.join(_SEARCHABLE)}, or {_MICROBATCHES}"
            hint = "A search changes how the work is run, and neither the work nor the machines: use --set for those."
            raise InvalidValueError(rule=rule, value=str(key), hint=hint)
    return value


def _lists(value: object) -> object:
    """Return a map of dotted keys to lists."""
    axes = _axes(value)
    for key, values in axes.items() if isinstance(axes, dict) else ():
        if not isinstance(values, list) or not 0 < len(values) <= _MOST_VALUES:
            hint = f"Write for example {{{key}: [1, 2, 4]}}."
            raise InvalidValueError(rule=f"have lists of 1 to {_MOST_VALUES:,} values", value=values, hint=hint)
    return axes


class SearchSpec(Section):
    """A search over strategies."""

    fix: Annotated[dict[str, Any], BeforeValidator(_axes)] = Field(default_factory=dict)
    """Dotted keys that have one value in all strategies."""
    over: Annotated[dict[str, list[Any]], BeforeValidator(_lists)] = Field(default_factory=dict)
    """Dotted keys and the values that are tried, in place of the usual ones of an axis or in addition to the axes."""
    limit: Count | None = None
    """Most simulations; null: as many as it takes."""
    gap: Variation = 0.01
    """How far above the best possible the result may be."""
