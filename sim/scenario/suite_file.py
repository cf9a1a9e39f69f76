"""`suite.yaml` in a folder of validation cases: what the suite is, and how much of it was fitted.

A folder without one is a suite of no fitted constants, named as the folder is.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from sim.errors import InvalidValueError, KeyPath, did_you_mean
from sim.scenario.fields import Flag, Ratio, Section, Text, Whole
from sim.scenario.places import Places
from sim.scenario.problems import refusals_of
from sim.scenario.scenario_files import SUITE_FILE
from sim.scenario.sections import keys_of, sections_at
from sim.scenario.yaml_file import read_yaml_file

__all__ = ["LeftOutSpec", "SuiteSpec", "load_suite"]

_MAX_TABLES = 1000


class LeftOutSpec(Section):
    """The errors of one table when the constants are fitted without it."""

    median_pct: Ratio
    """Median of the absolute error [%]."""
    p90_pct: Ratio
    """90th percentile of the absolute error [%]."""
    cases: Annotated[tuple[Text, ...], Field(max_length=_MAX_TABLES)] = ()
    """Cases that the table's figures stand in, where its name is no system's and no case's."""


def _mapping(value: object) -> object:
    """Return a map, or refuse what is none."""
    if not isinstance(value, dict):
        hint = "Write for example {deepep: {median_pct: 5, p90_pct: 12}}."
        raise InvalidValueError(rule="be a map of tables to their errors", value=value, hint=hint)
    return value


Selector = dict[str, Any]
"""Field `name` or dotted key of a figure -> the value, or the list of values, that chosen figures have."""


class SuiteSpec(Section):
    """What a suite is."""

    title: Text | None = None
    """One line."""
    num_fitted_constants: Whole = 0
    """Constants of the model that were fitted to any of the suite's figures."""
    by_name: Annotated[tuple[Text, ...], Field(max_length=_MAX_TABLES)] = ()
    """Cases of many or long simulations, which run where the suite or the case is named, and not with all suites."""
    include: Annotated[tuple[Text, ...], Field(max_length=_MAX_TABLES)] = ()
    """Cases of other suites that belong to this one as well, as paths from the suite's folder."""
    ranking: Flag = False
    """Whether the order of strategies for one work on one cluster is compared with the measured order as well."""
    fitted: Annotated[
        dict[str, Annotated[tuple[Selector, ...], Field(min_length=1, max_length=_MAX_TABLES)]],
        Field(max_length=_MAX_TABLES),
    ] = Field(default_factory=dict)
    """Case -> configurations that constants may be fitted to: figures that have all values of one of the maps. All
    other figures are scored."""
    left_out: Annotated[dict[str, LeftOutSpec], Field(max_length=_MAX_TABLES), BeforeValidator(_mapping)] = Field(
        default_factory=dict
    )
    """Table, system or case -> the errors of its figures when the constants are fitted without them."""


def load_suite(folder: Path, names: frozenset[str] | None) -> SuiteSpec:
    """Return what a folder's `suite.yaml` says; defaults where it has none.

    Parameters
    ----------
    folder
        The folder of the suite.
    names
        Its systems and cases, one of which each table that is left out must be or list; None: not checked.

    Raises
    ------
    InvalidValueError
        A value in the file is refused.
    """
    path = folder / SUITE_FILE
    if not os.path.lexists(path):
        return SuiteSpec()
    document = read_yaml_file(path)
    places = Places(file=str(path), lines=document.lines)
    try:
        spec = SuiteSpec.model_validate(document.data)
    except ValidationError as error:
        raise places.first(refusals_of(error, document.data, lambda path: keys_of(_sections(path)))) from None
    for table, figures in spec.left_out.items():
        for name in figures.cases or (table,):
            if names is not None and name not in names:
                rule, hint = "be a system or a case of the suite", did_you_mean(name, sorted(names))
                path_of_name = ("left_out", table, "cases") if figures.cases else ("left_out", table)
                raise places.located(InvalidValueError(path_of_name, rule=rule, value=name, hint=hint))
    for key, listed in (("by_name", spec.by_name), ("fitted", tuple(spec.fitted))):
        for i, name in enumerate(listed):
            if names is not None and name not in names:
                where: KeyPath = (key, i) if key == "by_name" else (key, name)
                hint = did_you_mean(name, sorted(names))
                raise places.located(InvalidValueError(where, rule="be a case of the suite", value=name, hint=hint))
    return spec


def _sections(path: KeyPath) -> list[type[Section]]:
    """Return the models that may stand at a path; the tables below `left_out` have names of their own."""
    return sections_at(SuiteSpec, path[:1]) if path else [SuiteSpec]
