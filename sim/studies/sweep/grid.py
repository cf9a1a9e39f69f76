"""Every combination of the values of some keys.

The combinations are counted and not listed: the last axis changes fastest, and the i-th one is computed from i.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sim.errors import InvalidValueError, KeyPath, shown
from sim.scenario.overrides import apply_overrides
from sim.scenario.places import key_path, path_of
from sim.scenario.scenario import Scenario
from sim.scenario.yaml_file import parse_yaml_value

__all__ = ["MAX_POINTS", "Axis", "Grid", "build_grid", "label_of", "parse_axis"]

MAX_POINTS: Final = 10_000_000
"""The largest sweep: its keys alone take a gigabyte of memory."""
_EXAMPLE: Final = "For example: --grid parallel.tp=1,2,4,8"
_MAX_TRIES: Final = 32
"""Combinations of the other axes under which a value is tried before it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A key and its values."""

    key: str
    """Dotted key of the scenario."""
    values: tuple[object, ...]
    """Its values in their YAML form, in the order in which they were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All combinations of the values of the axes."""

    axes: tuple[Axis, ...]
    """The axes; the last one changes fastest."""

    @property
    def num_points(self) -> int:
        """Number of combinations."""
        return math.prod(len(axis.values) for axis in self.axes)

    def changes(self, number: int) -> dict[str, object]:
        """Return the keys and values of a combination.

        Examples
        --------
        >>> grid = Grid(axes=(Axis(key="a", values=(1, 2)), Axis(key="b", values=("x", "y", "z"))))
        >>> grid.changes(0), grid.changes(4)
        ({'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'})
        """
        found: dict[str, object] = {}
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.values))
            found[axis.key] = axis.values[place]
        return dict(reversed(found.items()))


def parse_axis(argument: str) -> Axis:
    """Return the axis of one `--grid KEY=A,B,...`, each value in its YAML form.

    Raises
    ------
    InvalidValueError
        There is no `=`, no key or no value, a value stands twice, or the values are no YAML.

    Examples
    --------
    >>> parse_axis("parallel.tp=1, 2"), parse_axis("parallel.stage_layers=[4, 4], [3, 5]").values
    (Axis(key='parallel.tp', values=(1, 2)), ([4, 4], [3, 5]))
    """
    key, equals, text = argument.partition("=")
    key = key.strip()
    if not equals or not text.strip() or not all(key.split(".")):
        rule = "be KEY=A,B,... with a dotted key and its values"
        raise InvalidValueError("--grid", rule, shown(argument), _EXAMPLE)
    try:
        values = parse_yaml_value(f"[{text}]")
    except InvalidValueError as error:
        hint = "Put texts with special characters in double quotes inside single ones."
        raise InvalidValueError("--grid", error.rule, shown(argument), hint) from None
    if not isinstance(values, list) or not values:
        raise InvalidValueError("--grid", "have values with commas between", shown(argument), _EXAMPLE)
    for i, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:i]):
            hint = "A value that stands twice would be simulated once: write it once."
            raise InvalidValueError("--grid", f"name different values of {key}", label_of(value), hint)
    return Axis(key=key, values=tuple(values))


def build_grid(scenario: Scenario, axes: Sequence[Axis], *, num_seeds: int | None = None) -> Grid:
    """Return the grid of some axes over a scenario; seeds are one more axis, from the scenario's seed on.

    Raises
    ------
    InvalidValueError
        A key is unknown or stands twice, a value can never stand there, or there are too many combinations.
    """
    if num_seeds is not None:
        first = scenario.spec.seed
        axes = [*axes, Axis(key="seed", values=tuple(range(first, first + num_seeds)))]
    if not axes:
        raise InvalidValueError("--grid", "be given at least once", "nothing", _EXAMPLE)
    first_of: dict[KeyPath, str] = {}
    for axis in axes:
        path = key_path(axis.key)
        for other, key in first_of.items():
            if path[: len(other)] == other[: len(path)]:
                both = "--seeds or the axis seed" if axis.key == key == "seed" else f"{key} or {axis.key}"
                raise InvalidValueError("--grid", "set each key once", axis.key, f"Remove {both}.")
        first_of[path] = axis.key
    grid = Grid(axes=tuple(axes))
    if grid.num_points > MAX_POINTS:
        hint = "Leave values out, or sweep a part at a time into one --store."
        raise InvalidValueError("--grid", f"have at most {MAX_POINTS:,} combinations", f"{grid.num_points:,}", hint)
    for axis in grid.axes:
        for value in axis.values:
            _check_value(scenario, grid, axis, value)
    return grid


def label_of(value: object) -> str:
    """Return a value as tables show it.

    >>> label_of(0.5), label_of([4, 4]), label_of(True), label_of({"F": "1 ms"})
    ('0.5', '[4, 4]', 'true', '{F: 1 ms}')
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {label_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(label_of(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(shown(value))


# ---- private -----------------------------------------------------------------------------------------------------


def _check_value(scenario: Scenario, grid: Grid, axis: Axis, value: object) -> None:
    """Refuse a value that the key can never have: alone, and under some combinations of the other axes.

    A value that is refused for another key, or only when the scenario is built, is a point that cannot be run, and the
    table says why.
    """
    try:
        apply_overrides(scenario.raw, {axis.key: value})  # an unknown key
    except InvalidValueError as error:
        raise InvalidValueError("--grid", error.rule, axis.key, error.hint) from None
    first: InvalidValueError | None = None
    for changes in _tries(grid, axis, value):
        try:
            scenario.variant(changes)
        except InvalidValueError as error:
            path, own = path_of(error), key_path(axis.key)
            if path[: len(own)] != own[: len(path)]:
                return
            first = first or error
        else:
            return
    if first is not None:
        raise InvalidValueError(f"--grid {axis.key}", first.rule, label_of(value), first.hint)


def _tries(grid: Grid, axis: Axis, value: object) -> list[Mapping[str, object]]:
    """Return changes under which a value is tried: alone, and with some combinations of the other axes."""
    others = Grid(axes=tuple(other for other in grid.axes if other is not axis))
    step = max(1, others.num_points // _MAX_TRIES)
    numbers = range(0, others.num_points, step) if others.axes else ()
    return [{axis.key: value}, *({**others.changes(i), axis.key: value} for i in numbers)]
