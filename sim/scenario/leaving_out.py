"""Alternatives and rivals that an argument of `--set` makes impossible: left out, with a warning that names them.

An argument applies to the scenario and to all of its alternatives and rivals. One that the file allows and the argument
does not (`schedule.kind: gpipe` under `--set parallel.vpp=2`) is no mistake of the user's, who wants the scenario
changed. What is wrong in the file itself, or in an argument that sets the alternative, is refused as ever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sim.errors import InvalidValueError, KeyPath, shown
from sim.scenario.places import Places
from sim.scenario.scenario import Scenario

__all__ = ["leave_out_impossible"]

_Variant = Callable[[Scenario, int], object]
_KINDS: dict[str, _Variant] = {
    "alternatives": lambda scenario, position: scenario.alternative(position),
    "rivals": lambda scenario, position: scenario.rival(position),
    "published": lambda scenario, position: scenario.case(position),
}


def leave_out_impossible(scenario: Scenario, file_data: Mapping[str, Any]) -> Scenario:
    """Return a scenario with arguments applied, without the variants that these alone make impossible.

    Parameters
    ----------
    scenario
        The scenario as it is with the arguments.
    file_data
        The plain data of its file, without them.

    Raises
    ------
    InvalidValueError
        A variant is refused that the file does not allow either, or that an argument sets.
    """
    bare = scenario.without_judgement()
    raw, lines, told = dict(scenario.raw), scenario.places.lines, list[str]()
    for kind, variant in _KINDS.items():
        listed = raw.get(kind) or []
        refused = {i: error for i in range(len(listed)) if (error := _refusal(bare, variant, i)) is not None}
        for position, error in refused.items():
            is_set = any(path[:1] == (kind,) for path, _ in scenario.places.overrides)
            if is_set or not _allows(file_data, variant, position):
                raise error
            told += [] if kind == "published" else [_said(kind, position, listed[position], error)]
        raw[kind] = [one for i, one in enumerate(listed) if i not in refused]
        lines = _renumbered(lines, kind, sorted(refused))
    if all(raw[kind] == (scenario.raw.get(kind) or []) for kind in _KINDS):
        return scenario
    places = replace(scenario.places, lines=lines)
    return replace(Scenario.validated(raw, places), left_out=tuple(told))


# ---- private -----------------------------------------------------------------------------------------------------


def _refusal(scenario: Scenario, variant: _Variant, position: int) -> InvalidValueError | None:
    try:
        variant(scenario, position)
    except InvalidValueError as error:
        return error
    return None


def _allows(data: Mapping[str, Any], variant: _Variant, position: int) -> bool:
    """Tell whether a file's own data allows a variant."""
    try:
        return _refusal(Scenario.validated(data, Places()).without_judgement(), variant, position) is None
    except InvalidValueError:
        return False


def _said(kind: str, position: int, given: object, error: InvalidValueError) -> str:
    """Return the warning."""
    name = ", ".join(f"{key}: {shown(value)}" for key, value in given.items()) if isinstance(given, dict) else given
    key = error.field.partition("(")[2].rstrip(")") or error.field
    place = f" (line {error.line})" if error.line else ""
    return (
        f"{kind}.{position} {{{name}}}{place} is left out, for it cannot be under what the arguments give: {key} must "
        f"{error.rule}, got {error.value}. {error.hint}"
    )


def _renumbered(lines: Mapping[KeyPath, int], kind: str, gone: Sequence[int]) -> Mapping[KeyPath, int]:
    """Return the lines without those of items that are gone, the others' positions moved up."""
    if not gone:
        return lines
    moved: dict[KeyPath, int] = {}
    for path, line in lines.items():
        position = path[1] if len(path) > 1 and path[0] == kind else None
        if not isinstance(position, int):
            moved[path] = line
        elif position not in gone:
            moved[(kind, position - sum(one < position for one in gone), *path[2:])] = line
    return moved
