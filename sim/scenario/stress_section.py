"""`stress:` of a scenario: skews of the routing, what may be done against them, and how many seeds."""

from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError
from sim.scenario.claims_section import Alternative
from sim.scenario.fields import Flag, Ratio, Section, Text

__all__ = ["MAX_STRESS", "RemedySpec", "StressSpec"]

MAX_STRESS: Final = 100
"""No axis of the grid is longer, and there are no more seeds."""


def _seeds(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_STRESS:
        return value
    rule, hint = f"be an integer from 1 to {MAX_STRESS}", "Write how many seeds to simulate, such as 5."
    raise InvalidValueError(rule=rule, value=value, hint=hint)


class RemedySpec(Section):
    """One thing that may be done against skew."""

    name: Text
    """What it is called in tables and pictures."""
    set: Alternative | None = None
    """Dotted keys and the values they take; null: nothing is done."""
    comparison: Flag = False
    """Whether it is for comparison alone, as what cannot be had: shown as the others, and never recommended."""


class StressSpec(Section):
    """A grid of simulations: every skew under every remedy, with the same seeds."""

    skew: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=MAX_STRESS)]
    """Values of `routing.skew`, the smallest being what slowdowns are told against."""
    remedies: Annotated[tuple[RemedySpec, ...], Field(min_length=1, max_length=MAX_STRESS)] = (
        RemedySpec(name="nothing"),
    )
    """What may be done against skew; the first is what the others are told against."""
    seeds: Annotated[int, Field(ge=1, le=MAX_STRESS), BeforeValidator(_seeds)] = 5
    """Seeds, from `seed` on, that intervals are taken over."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Check that names tell remedies apart, and that the first can be had."""
        if self.remedies[0].comparison:
            rule, hint = "be false for the first remedy, which others are told against", "Put another one first."
            raise InvalidValueError(("remedies", 0, "comparison"), rule=rule, value=True, hint=hint)
        names = [remedy.name for remedy in self.remedies]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise InvalidValueError(
                    ("remedies", i, "name"), rule="be unique", value=name, hint="Choose another name."
                )
        return self
