"""`claims:`, `alternatives:`, `rivals:` and `published:` of a scenario: what is judged, and against what."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, model_validator

from sim.errors import InvalidValueError
from sim.scenario.expectation import Expectation, parse_expectation
from sim.scenario.fields import AnyValue, Ident, Ratio, Section, Text

__all__ = ["ALTERABLE", "Alternative", "ClaimSpec", "PublishedSpec", "Rival"]

ALTERABLE: Final = ("cluster", "model", "parallel", "workload", "schedule", "routing", "placement", "network", "seed")
"""Sections an alternative may change."""

RIVAL_SECTIONS: Final = ("parallel", "schedule", "network", "placement")
"""Sections a rival may change: it runs the same work on the same cluster."""
RIVAL_KEYS: Final = ("workload.microbatches",)
"""Keys of other sections that a rival may change: how the work is cut, not what it is."""

_MAX_DEPTH: Final = 8
"""No key of a scenario lies deeper."""


class ClaimSpec(Section):
    """One claim of a document: a metric, and what the document says of it."""

    id: Ident
    """Its name, by which other claims and results speak of it."""
    says: Text
    """The document's words."""
    source: Text
    """Where they stand."""
    metric: Ident
    """The metric that decides it."""
    expect: Annotated[Expectation, BeforeValidator(parse_expectation, json_schema_input_type=str | bool)] | None = None
    """What the metric must be: `OP NUMBER[ UNIT][ +- TOL]`, such as `>= 26e6 tokens/s`."""
    superlative: Literal["least", "most"] | None = None
    """No rival may have less, or more, of the metric."""
    supports: Ident | None = None
    """The claim this one is offered as a reason for."""
    note: Text | None = None
    """A remark for readers."""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        """Check that the claim can be judged in one way."""
        if self.expect is None and self.superlative is None:
            hint = 'Write for example expect: ">= 26e6 tokens/s", or superlative: least.'
            raise InvalidValueError(("expect",), rule="be given, or superlative", value="nothing", hint=hint)
        if self.expect is not None and self.superlative is not None:
            hint = "Make two claims of it."
            raise InvalidValueError(
                ("superlative",), rule="be left out when expect is given", value=self.superlative, hint=hint
            )
        return self


def _changes(value: object) -> object:
    """Return a flat map of dotted keys of sections that can be altered."""
    example = "Write for example {model.top_k: 1}."
    if not isinstance(value, dict) or not value:
        raise InvalidValueError(rule="be a map of dotted keys to values", value=value, hint=example)
    for key in value:
        if not isinstance(key, str) or key.partition(".")[0] not in ALTERABLE:
            hint = f"Start the key with one of {', '.join(ALTERABLE)}."
            raise InvalidValueError(field=(key,), rule="be a key that can be altered", value=key, hint=hint)
    _refuse_overlaps(value)
    return value


def _refuse_overlaps(changes: dict[str, object]) -> None:
    """Refuse a key that lies inside another: the order in which they are set would decide."""
    for key in changes:
        parts = key.split(".")[:_MAX_DEPTH]
        around = next((o for n in range(1, len(parts)) if (o := ".".join(parts[:n])) in changes and o != key), None)
        if around is not None:
            hint = f"Remove one: {around} sets all that is in it."
            raise InvalidValueError(field=(key,), rule=f"not lie inside another key, {around}", value=key, hint=hint)


def _rival(value: object) -> object:
    """Return a strategy's name, or a flat map of dotted keys that leave cluster and work as they are."""
    if isinstance(value, str) and value and not any(c.isspace() for c in value):
        return value
    if isinstance(value, dict) and value:
        for key in value:
            if not isinstance(key, str) or not (key in RIVAL_KEYS or key.partition(".")[0] in RIVAL_SECTIONS):
                rule = f"be a key of {', '.join(RIVAL_SECTIONS)}, or {', '.join(RIVAL_KEYS)}"
                hint = "A rival is another strategy on the same cluster and work: declare it under alternatives."
                raise InvalidValueError(field=(key,), rule=rule, value=key, hint=hint)
        _refuse_overlaps(value)
        return value
    hint = "Write for example EP16_TP4_PP4_DP4 or {parallel.strategy: EP16_TP4_PP4_DP4}."
    raise InvalidValueError(rule="be the name of a strategy or a map of dotted keys to values", value=value, hint=hint)


Alternative = Annotated[dict[str, Any], BeforeValidator(_changes)]
"""Dotted keys and the values they take in one simulation more."""

Rival = Annotated[str | dict[str, Any], BeforeValidator(_rival)]
"""A strategy that superlatives are judged against."""


def _figure(value: object) -> object:
    """Return a published figure, which an error can be taken relative to."""
    if value == 0 and not isinstance(value, bool):
        hint = "An error is a share of the figure: choose a metric that is not 0, such as the time it is made of."
        raise InvalidValueError(rule="not be 0", value=value, hint=hint)
    return value


class PublishedSpec(Section):
    """One published figure, which makes the scenario a validation case."""

    metric: Ident
    """The metric it is compared with."""
    value: Annotated[AnyValue, BeforeValidator(_figure, json_schema_input_type=float | str)]
    """The figure: a bare number in SI, or a quantity with its unit; not 0."""
    source: Text
    """Paper and table, or address."""
    tolerance_pct: Ratio
    """How far the model may be from it [%]."""
    at_most: bool = False
    """Whether the figure is a limit: anything up to it is within, and it has no part in the errors of a summary."""
    set: Alternative | None = None
    """Dotted keys and the values they take for this figure, as in an alternative; each distinct map is a simulation."""
    system: Text | None = None
    """The group it is summarised in; default the cluster's preset, else the scenario's name."""
    apart: Text | None = None
    """Why it cannot be right: it is shown apart with its error, counted in no summary, and fails nothing."""
    note: Text | None = None
    """A remark for readers, such as what bytes the figure counts."""
