"""`runtime:` of a scenario, what the software does; `factors:` of the times of all parts; `jitter:` of its passes."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Annotated, Any

from pydantic import BeforeValidator

from sim.errors import InvalidValueError
from sim.scenario.fields import Efficiency, Factor, Seconds, Variation, name_of
from sim.scenario.sections import DerivedSection, keys_from
from topology.uncertainty import Factors
from workloads.formats import DISPATCH_DTYPES, FP8_RECIPES, GATHER_DTYPES
from workloads.fusions import UNFUSED_OPS
from workloads.jitter import Jitter
from workloads.runtime import (
    ATTENTIONS,
    DISPATCHERS,
    GRAPH_SCOPES,
    LAUNCHES,
    RUNTIMES,
    HostFactors,
    Runtime,
)

__all__ = ["FactorsSection", "JitterSection", "RuntimeSection"]


_SECONDS = {key: f"{key}_s" for key in ("kernel_launch", "collective_launch", "pass_host", "counts_host")}
"""Keys with a unit, and the fields that they fill."""

Scope = Annotated[str, name_of(lambda: GRAPH_SCOPES)]
"""A part of a layer that a CUDA graph can cover."""


Op = Annotated[str, name_of(lambda: UNFUSED_OPS)]
"""Elementwise work that a kernel of its own can do."""


def _each_once(what: str, names: Iterable[str]) -> Callable[[object], object]:
    """Return the check of a list of `names`, each of them once."""

    def checked(value: object) -> object:
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value) and len(set(value)) == len(value):
            return value
        hint = f"Choose among {', '.join(names)}."
        raise InvalidValueError(rule=f"be a list of {what}, each once", value=value, hint=hint)

    return checked


@keys_from(
    Runtime,
    section="runtime",
    all_optional=True,
    leave_out=tuple(_SECONDS.values()),
    attention=name_of(lambda: ATTENTIONS),
    kernel_rate=Efficiency,
    launch=name_of(lambda: LAUNCHES),
    graph_scope=Annotated[
        tuple[Scope, ...], BeforeValidator(_each_once("scopes", GRAPH_SCOPES), json_schema_input_type=list[Scope])
    ],
    unfused_ops=Annotated[
        tuple[Op, ...], BeforeValidator(_each_once("ops", UNFUSED_OPS), json_schema_input_type=list[Op])
    ],
    fp8_recipe=name_of(lambda: FP8_RECIPES),
    gather_dtype=name_of(lambda: GATHER_DTYPES),
    dispatch_dtype=name_of(lambda: DISPATCH_DTYPES),
    dispatcher=name_of(lambda: DISPATCHERS),
)
class RuntimeSection(DerivedSection):
    """What the software does: a preset, and whatever differs from it."""

    preset: Annotated[str, name_of(lambda: RUNTIMES)] | None = None
    """Framework and version that fill the keys which are not given. Default: megatron-core-2025 in training,
    megatron-2022 if attention is unfused there; ideal for a forward pass."""
    kernel_launch: Seconds | None = None
    """Time of the host for each kernel that is modelled, with the Python around it. Default: 0."""
    collective_launch: Seconds | None = None
    """Time of the host for each collective. Default: 0."""
    pass_host: Seconds | None = None
    """Time of the host for each pass, forward or backward, of a microbatch. Default: 0."""
    counts_host: Seconds | None = None
    """Time of the host between the counts of tokens that a forward pass waits for and their exchange. Default: 0."""

    def given(self) -> dict[str, Any]:
        """Return the keys that are given, without `preset`.

        Examples
        --------
        >>> RuntimeSection(attention="unfused").given()
        {'attention': 'unfused'}
        """
        values = self.values_of(Runtime) | {field: getattr(self, key) for key, field in _SECONDS.items()}
        return {key: value for key, value in values.items() if value is not None}


def _checks(source: type[Any]) -> dict[str, Any]:
    """Return the check of each key that is a factor."""
    return {field.name: Factor for field in fields(source)}


@keys_from(HostFactors, section="factors", **_checks(HostFactors))
@keys_from(Factors, section="factors", **_checks(Factors))
class FactorsSection(DerivedSection):
    """What times that the model makes are multiplied by; 1 is the model's own figure."""

    @property
    def of_kernels_and_links(self) -> Factors:
        """The factors of kernels and transfers."""
        return Factors(**self.values_of(Factors))

    @property
    def of_host(self) -> HostFactors:
        """The factors of the host's times."""
        return HostFactors(**self.values_of(HostFactors))


@keys_from(Jitter, section="jitter", pass_cv=Variation, rank_spread=Variation)
class JitterSection(DerivedSection):
    """How much the times of passes vary (docs/jitter.md); absent: not at all."""

    @property
    def as_given(self) -> Jitter:
        """The domain's value."""
        return Jitter(**self.values_of(Jitter))
