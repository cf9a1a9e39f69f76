"""Whether what claims expect, and what was published, is written in the unit of its metric.

What a metric measures stands in the catalogue of metrics, which scenarios do not know: it is an argument here.
"""

from collections.abc import Mapping
from typing import Protocol

from sim.errors import InvalidValueError
from sim.scenario.expectation import Expectation
from sim.scenario.scenario import Scenario
from sim.scenario.units import Dimension, parse_any_quantity

__all__ = ["Measured", "check_claim_units", "check_published_units"]


class Measured(Protocol):
    """The part of a row of the catalogue that is needed here."""

    @property
    def unit(self) -> str | None:
        """`flag`, `ratio`, `ratio1` (a ratio around 1), None for counts, or an SI unit such as `s`."""


def check_claim_units(scenario: Scenario, catalog: Mapping[str, Measured]) -> None:
    """Refuse an expectation that its metric can never be compared with.

    A metric that the catalogue does not have is passed over: it is refused where metrics are resolved.

    Parameters
    ----------
    scenario
        The scenario whose claims are checked.
    catalog
        Name of a metric, without the group it stands in -> what it measures.

    Raises
    ------
    InvalidValueError
        The first claim whose `expect` does not suit its metric, with its place in the file.
    """
    for i, claim in enumerate(scenario.spec.claims):
        row = catalog.get(claim.metric.rpartition(".")[2])
        if row is None or claim.expect is None or _suits(claim.expect, row.unit):
            continue
        rule, hint = _wanted(claim.metric, row.unit)
        raise scenario.located(
            InvalidValueError(("claims", i, "expect"), rule=rule, value=claim.expect.text, hint=hint)
        )


def check_published_units(scenario: Scenario, catalog: Mapping[str, Measured]) -> None:
    """Refuse a published figure that its metric can never be compared with; a bare number is taken as SI.

    A metric that the catalogue does not have is passed over: it is refused where metrics are resolved.

    Raises
    ------
    InvalidValueError
        The first figure whose `value` does not suit its metric, with its place in the file.
    """
    for i, figure in enumerate(scenario.spec.published):
        row = catalog.get(figure.metric.rpartition(".")[2])
        written = scenario.raw["published"][i]["value"]
        if row is None or (row.unit != "flag" and _is_of(row.unit, _dimension(written))):
            continue
        rule, hint = _wanted(figure.metric, row.unit)[0], "Check the number, its unit and the metric."
        if row.unit == "flag":
            rule, hint = f"be of another metric, for {figure.metric} is a yes or no", "Make a claim of it."
        raise scenario.located(InvalidValueError(("published", i, "value"), rule=rule, value=written, hint=hint))


def _dimension(written: object) -> Dimension | None:
    """Return the unit of a figure as it is written; None for a bare number."""
    return parse_any_quantity(written, example="18.5 ms")[1] if isinstance(written, str) else None


def _is_of(unit: str | None, dimension: Dimension | None) -> bool:
    """Return whether a figure of a dimension can be a value of a metric's unit."""
    return dimension in {None, "ratio"} if unit in {"ratio", "ratio1"} else dimension in {None, unit}


def _suits(expect: Expectation, unit: str | None) -> bool:
    """Return whether an expectation is written as values of a unit are."""
    if isinstance(expect.value, bool) or unit == "flag":
        return isinstance(expect.value, bool) and unit == "flag"
    if unit in {"ratio", "ratio1"}:
        return expect.unit in {None, "ratio"}
    return expect.unit == unit


def _wanted(metric: str, unit: str | None) -> tuple[str, str]:
    """Return the rule and the hint for values of a unit."""
    if unit == "flag":
        return f"be true or false, for {metric} is a yes or no", 'Write "== true" or "== false".'
    if unit is None:
        return f"be a bare number, for {metric} is a count", 'Write for example "== 64".'
    if unit in {"ratio", "ratio1"}:
        return f"be a bare number or a percentage, for {metric} is a ratio", 'Write for example "<= 5 %".'
    return f"be in {unit}, as {metric} is", "Write the value with such a unit."
