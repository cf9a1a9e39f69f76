"""What a scenario judges and against what: `claims`, `alternatives`, `rivals`, `published`, `assumed` and `stress`."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.errors import InvalidValueError, did_you_mean, dotted
from sim.scenario.expectation import Expectation, parse_expectation
from sim.scenario.fields import AnyValue, Flag, Ident, Ratio, Section, SeedCount, Text, name_of
from sim.scenario.places import key_path
from sim.scenario.sections import keys_of, sections_at

__all__ = [
    "ALTERABLE",
    "PARTS",
    "Alternative",
    "Assumed",
    "ClaimSpec",
    "PublishedSpec",
    "PublishedTableSpec",
    "RemedySpec",
    "Rival",
    "StressSpec",
    "check_assumed",
    "is_rival_key",
]

ALTERABLE: Final = (
    "cluster",
    "model",
    "parallel",
    "workload",
    "schedule",
    "routing",
    "placement",
    "network",
    "runtime",
    "jitter",
    "seed",
)
"""Sections an alternative may change."""

RIVAL_SECTIONS: Final = ("parallel", "schedule", "network", "placement", "runtime")
"""Sections a rival may change: it runs the same work on the same cluster."""
RIVAL_KEYS: Final = ("workload.microbatches",)
"""Keys of other sections that a rival may change: how the work is cut, not what it is."""


def is_rival_key(key: str) -> bool:
    """Tell whether a dotted key is of the strategy: a rival may change it, for cluster and work stay as they are.

    >>> is_rival_key("parallel.tp"), is_rival_key("workload.microbatches"), is_rival_key("workload.sequences")
    (True, True, False)
    """
    return key in RIVAL_KEYS or key.partition(".")[0] in RIVAL_SECTIONS


_MAX_DEPTH: Final = 8
"""No key of a scenario lies deeper."""


PARTS: Final[dict[str, str]] = {
    "tp": "other sizes of TP; DP and microbatches follow",
    "all_reduce": "other algorithms of the all-reduce on the same groups, and sequence parallelism in its place",
    "pipeline": "other schedules and numbers of microbatches on as many stages, at no more memory",
}
"""Part of a strategy that a superlative may be about -> what is then changed, that part alone."""


class ClaimSpec(Section):
    """One claim of a document: a metric, and what the document says of it."""

    id: Ident
    """Name of the claim, by which other claims and results refer to it."""
    says: Text
    """The document's words."""
    paraphrase: Flag = False
    """Whether `says` gives the meaning in other words; otherwise the words must stand in `document`."""
    source: Text
    """Where the document says so."""
    metric: Ident
    """The metric that decides it."""
    expect: Annotated[Expectation, BeforeValidator(parse_expectation, json_schema_input_type=str | bool)] | None = None
    """What the metric must be: `OP NUMBER[ UNIT][ +- TOL]`, such as `>= 26e6 tokens/s`."""
    superlative: Literal["least", "most"] | None = None
    """No rival may have less, or more, of the metric."""
    part: Annotated[str, name_of(lambda: PARTS)] | None = None
    """Part of the strategy that a superlative is about: it is judged against changes of this part alone."""
    supports: Ident | None = None
    """The claim that this claim is offered as a reason for."""
    because_of: Ident | None = None
    """The claim that this claim follows from: both state one fact, which is counted once."""
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
        if self.part is not None and self.superlative is None:
            hint = "Only a superlative is judged against changes of a part."
            raise InvalidValueError(("part",), rule="be left out without superlative", value=self.part, hint=hint)
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
            if not isinstance(key, str) or not is_rival_key(key):
                rule = f"be a key of {', '.join(RIVAL_SECTIONS)}, or {', '.join(RIVAL_KEYS)}"
                hint = "A rival is another strategy on the same cluster and work: declare it under alternatives."
                raise InvalidValueError(field=(key,), rule=rule, value=key, hint=hint)
        _refuse_overlaps(value)
        return value
    hint = "Write for example EP16_TP4_PP4_DP4 or {parallel.strategy: EP16_TP4_PP4_DP4}."
    raise InvalidValueError(rule="be the name of a strategy or a map of dotted keys to values", value=value, hint=hint)


Alternative = Annotated[dict[str, Any], BeforeValidator(_changes)]
"""Dotted keys and the values that they have in a further simulation."""

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

    name: Text | None = None
    """What the figure is called in tables; default: the changes of `set`."""
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
    minus: Alternative | None = None
    """Dotted keys, on top of `set`, of a simulation whose value is taken off, so that a difference is compared."""
    divide_by: Annotated[float, Field(gt=0)] = 1.0
    """What the value, or the difference, is divided by, such as the number of layers it is of."""
    system: Text | None = None
    """The group it is summarised in; default the cluster's preset, else the scenario's name."""
    group: Text | None = None
    """Strategies that are ranked against each other; default: those whose `set` makes them one work on one cluster."""
    apart: Text | None = None
    """Why it cannot be right: it is shown apart with its error, counted in no summary, and fails nothing."""
    note: Text | None = None
    """A remark for readers, such as what bytes the figure counts."""


class PublishedTableSpec(Section):
    """A table of published figures in a file: what is common to its rows, where a column does not say it."""

    file: Text
    """A .csv file in the scenario's folder: a row for each figure, columns named as keys of `published` or dotted."""
    metric: Ident | None = None
    """The metric of rows without one."""
    source: Text | None = None
    """The source of rows without one."""
    tolerance_pct: Ratio | None = None
    """How far the model may be from rows without a tolerance [%]."""
    system: Text | None = None
    """The group that rows without one are summarised in."""
    note: Text | None = None
    """The remark of rows without one."""


_MAX_ASSUMED: Final = 100
"""No scenario assumes more."""


def _assumed(value: object) -> object:
    """Return a map of dotted keys to reasons of one line, of a limited length."""
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
"""Dotted key -> why the author of the scenario took its value."""


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


_MAX_STRESS: Final = 100
"""The longest axis of the grid of `stress:`."""


class RemedySpec(Section):
    """One thing that may be done against skew."""

    name: Text
    """What it is called in tables and pictures."""
    set: Alternative | None = None
    """Dotted keys and the values they take; null: nothing is done."""
    comparison: Flag = False
    """Whether the remedy is impossible, and for comparison alone: shown like the others, and never recommended."""


class StressSpec(Section):
    """A grid of simulations: every skew under every remedy, with the same seeds."""

    skew: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=_MAX_STRESS)]
    """Values of `routing.skew`; slowdowns are relative to the smallest."""
    remedies: Annotated[tuple[RemedySpec, ...], Field(min_length=1, max_length=_MAX_STRESS)] = (
        RemedySpec(name="nothing"),
    )
    """What may be done against skew; the first remedy is the one that the others are compared with."""
    seeds: SeedCount = 5
    """Seeds, from `seed` on, that intervals are taken over."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Check that remedies have different names, and that the first is no mere comparison."""
        if self.remedies[0].comparison:
            rule, hint = "be false for the first remedy, which the others are compared with", "Put another one first."
            raise InvalidValueError(("remedies", 0, "comparison"), rule=rule, value=True, hint=hint)
        names = [remedy.name for remedy in self.remedies]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise InvalidValueError(
                    ("remedies", i, "name"), rule="be unique", value=name, hint="Choose another name."
                )
        return self
