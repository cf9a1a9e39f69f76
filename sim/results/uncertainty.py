"""How sure figures and claims are: intervals over joint draws of constants and seeds, and what each constant moves.

Model
-----
    interval       5th to 95th percentile of a figure over the draws
    share met      part of the draws in which a claim is met; a superlative is met where no rival of the draw is better
    straddles      more than 5 % of the draws meet the claim, and more than 5 % do not
    effect         (figure at the upper end - figure at the lower end) / figure, of one constant alone; of a superlative
                   the difference to the best rival in place of the figure in the numerator

Scenario, alternatives and rivals are compared draw by draw: what slows all of them alike changes no order.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sim.results.catalog import CATALOG

__all__ = [
    "ClaimInterval",
    "Constant",
    "Effect",
    "Uncertainty",
    "effects_on",
    "in_time",
    "interval_of",
    "share_met",
    "share_of_best",
]

Value = float | int | bool
Values = Mapping[str, Value]
"""The figures of one simulation, by name; empty where it could not be run."""

LEVELS: Final = (0.05, 0.95)
"""Percentiles of an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant that is known to an interval."""

    name: str
    """Key below `factors` in a scenario."""
    ends: tuple[float, float]
    """5th and 95th percentile of its factor."""
    num_groups: int
    """Groups of measurements that the interval is from."""
    source: str
    """Where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a constant alone does to a figure."""

    constant: Constant
    values: tuple[float, float]
    """The figure with the constant at the lower and at the upper end of its interval."""
    relative: float
    """Their difference over the figure of the model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimInterval:
    """How sure a claim is."""

    interval: tuple[float, float] | None
    """Of its metric; None where that is no number."""
    share_met: float | None
    """Part of the draws in which it is met; None where that cannot be said."""
    moved_most_by: Effect | None
    """The constant that moves its metric most; None where none does."""
    alternatives: Sequence[tuple[float, float] | None] = ()
    """Of its metric under each alternative."""

    @property
    def straddles(self) -> bool:
        """Whether the interval reaches over what the claim expects."""
        return self.share_met is not None and bool(LEVELS[0] < self.share_met < LEVELS[1])

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON of a claim has more."""
        most = self.moved_most_by
        return {
            "interval": None if self.interval is None else list(self.interval),
            "share_met": self.share_met,
            "straddles": self.straddles,
            "moved_most_by": None if most is None else most.constant.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How sure a run is."""

    num_samples: int
    """Joint draws."""
    num_failed: int
    """Simulations of the scenario itself that could not be run."""
    figures: Mapping[str, tuple[float, float]]
    """Metric -> interval."""
    headline: str
    """The metric whose effects are listed."""
    effects: Sequence[Effect]
    """Of each constant on the headline, the largest first."""
    claims: Sequence[ClaimInterval]
    """In the order of the scenario's claims."""
    num_runs: int
    """Simulations that this took."""
    unexplained: Mapping[str, Any] | None = None
    """What published steps of the same software leave unexplained; None where none is published."""

    @property
    def moves_most(self) -> Effect | None:
        """The constant that moves the headline most; None where none does."""
        return next((effect for effect in self.effects if effect.relative), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the section of the JSON."""
        most = self.moves_most
        return {
            "samples": self.num_samples,
            "failed": self.num_failed,
            "runs": self.num_runs,
            "levels": list(LEVELS),
            "figures": {name: list(interval) for name, interval in self.figures.items()},
            "unexplained": None if self.unexplained is None else dict(self.unexplained),
            "headline": self.headline,
            "moves_most": None if most is None else most.constant.name,
            "constants": [
                {
                    "name": effect.constant.name,
                    "interval": list(effect.constant.ends),
                    "values": list(effect.values),
                    "effect": effect.relative,
                    "num_groups": effect.constant.num_groups,
                    "source": effect.constant.source,
                }
                for effect in self.effects
            ],
        }


def in_time(values: Values, factor: float) -> dict[str, Value]:
    """Return the figures of a run whose every time is `factor` times as long.

    >>> in_time({"step_time_s": 2.0, "tokens_per_s": 8.0, "mfu": 0.5, "bubble_fraction": 0.1}, 2.0)
    {'step_time_s': 4.0, 'tokens_per_s': 4.0, 'mfu': 0.25, 'bubble_fraction': 0.1}
    """
    powers = {name: _time_power(name) for name in values}
    return {
        name: value if not powers[name] or isinstance(value, bool) else float(value) * factor ** powers[name]
        for name, value in values.items()
    }


def _time_power(name: str) -> int:
    """Return the power of time in a figure."""
    unit = CATALOG[name].unit if name in CATALOG else None
    if name in {"mfu", "mfu_causal", "hfu"} or (unit is not None and unit.endswith("/s")):
        return -1
    return int(unit == "s" and CATALOG[name].group == "metrics")


def interval_of(draws: Sequence[Values], metric: str) -> tuple[float, float] | None:
    """Return the interval of a metric over draws; None where it is no number in any of them.

    >>> interval_of([{"a": float(i)} for i in range(101)], "a")
    (5.0, 95.0)
    """
    known = [float(values[metric]) for values in draws if metric in values and not isinstance(values[metric], bool)]
    known = [value for value in known if math.isfinite(value)]
    if not known:
        return None
    low, high = np.quantile(known, LEVELS)
    return float(low), float(high)


def share_met(draws: Sequence[Values], metric: str, is_met: Callable[[Value], bool]) -> float | None:
    """Return the part of the draws that meets an expectation.

    >>> share_met([{"a": 1.0}, {"a": 3.0}], "a", lambda value: value > 2)
    0.5
    """
    met = [bool(is_met(values[metric])) for values in draws if metric in values]
    return sum(met) / len(met) if met else None


def share_of_best(
    draws: Sequence[Values], rivals: Sequence[Sequence[Values]], metric: str, superlative: str
) -> float | None:
    """Return the part of the draws in which no rival that fits into memory is better.

    >>> share_of_best([{"a": 2.0}, {"a": 3.0}], [[{"a": 2.5}, {"a": 2.5}]], "a", "least")
    0.5
    """
    sign = 1.0 if superlative == "least" else -1.0
    wins = []
    for i, own in enumerate(draws):
        others = [rival[i][metric] for rival in rivals if metric in rival[i] and rival[i].get("fits") is not False]
        if metric in own and others:
            wins.append(sign * float(own[metric]) <= min(sign * float(other) for other in others))
    return sum(wins) / len(wins) if wins else None


def effects_on(
    metric: str,
    value: Value | None,
    constants: Sequence[Constant],
    ends: Sequence[tuple[Values, Values]],
    rival: Sequence[tuple[Values, Values]] | None = None,
) -> list[Effect]:
    """Return what each constant does to a metric, the largest effect first; nothing where it is no number.

    Parameters
    ----------
    metric, value
        The metric, and its value in the model itself.
    constants, ends
        Constants, and the figures with each of them at the ends of its interval.
    rival
        The figures of a rival at these ends, from which the metric differs; None: the metric itself counts.

    Examples
    --------
    >>> bytes_ = Constant(name="byte_time_in_node", ends=(0.5, 2.0), num_groups=1, source="")
    >>> effects_on("a", 4.0, [bytes_], [({"a": 3.0}, {"a": 6.0})])[0].relative
    0.75
    """
    if value is None or isinstance(value, bool) or not value:
        return []
    found = []
    for i, constant in enumerate(constants):
        (low, high), (rival_low, rival_high) = ends[i], ({metric: 0.0},) * 2 if rival is None else rival[i]
        if all(metric in values for values in (low, high, rival_low, rival_high)):
            values = float(low[metric] - rival_low[metric]), float(high[metric] - rival_high[metric])
            found.append(Effect(constant=constant, values=values, relative=(values[1] - values[0]) / float(value)))
    return sorted(found, key=lambda effect: -abs(effect.relative))
