"""Scenarios that are drawn from the schema: small, over all its keys, some coherent and some not.

Model
-----
    scenario = coherent base (strategy, cluster and shape that go together)
             + features, each a group of keys that need one another (MLA, a hybrid model, replicas, a degraded link)
             + single keys of the JSON Schema with values of their types, whatever they mean to the rest

The base and the features let most scenarios run. The single keys are read from the JSON Schema, so that a new key of a
scenario is drawn without a change here.
"""

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scenario_bases import BASES, FEATURE_CHANCE
from scenario_keys import Data, set_any_key

from sim.errors import InvalidValueError, MoesimError
from sim.run.simulate import build_run
from sim.scenario.load import load_scenario_text
from sim.scenario.scenario import Scenario

__all__ = ["MOST_ATTEMPTS", "Drawn", "accepted_scenario", "draw_scenario", "value_at", "without_key"]

MOST_ATTEMPTS: Final = 10
"""So often a scenario is tried, each time without the key that was refused before."""
_SERVING_EVERY: Final = 10
"""Each so-many-th scenario is of kind serving."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn scenario."""

    data: Data
    """Raw data."""
    base: Data
    """The data before single keys were set, of which most are valid."""
    files: dict[str, str]
    """Text of each file that the scenario names."""


def draw_scenario(seed: int, number: int) -> Drawn:
    """Return the scenario with a number; every call returns the same one."""
    draw = random.Random(f"{seed}-{number}")
    files: dict[str, str] = {}
    if number % _SERVING_EVERY == _SERVING_EVERY - 1:
        kind = "serving"
    else:
        kind = draw.choices(["forward", "training", "collective", "passes"], [40, 40, 12, 8])[0]
    base = BASES[kind](draw, files)
    data = copy.deepcopy(base)
    if kind in {"forward", "training"} and draw.random() < FEATURE_CHANCE:
        data.setdefault(draw.choice(["runtime", "factors"]), {})
    for _ in range(draw.choice([0, 0, 0, 1, 1, 2, 3, 5])):
        set_any_key(draw, data)
    return Drawn(data=data, base=base, files=files)


def accepted_scenario(data: Data, drawn: Drawn, folder: Path) -> Scenario | None:
    """Return the scenario of some data of a draw, without the keys that are refused; None where all of it is.

    The files of the draw are written into the folder.
    """
    for name, text in drawn.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for _ in range(MOST_ATTEMPTS):
        try:
            scenario = load_scenario_text(json.dumps(data), file=str(folder / "drawn.yaml"))
            build_run(scenario)
        except MoesimError as error:
            smaller = without_key(data, error.field, drawn.base) if isinstance(error, InvalidValueError) else None
            if smaller is None:
                return None
            data = smaller
        else:
            return scenario
    return None


def without_key(data: Mapping[str, Any], field: str, base: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the data with a refused key as it is in the base, or without the key; None: there is no such key."""
    smaller = copy.deepcopy(dict(data))
    keys = [int(part) if part.isdecimal() else part for part in field.partition(" ")[0].split(".")]
    for length in range(len(keys), 0, -1):
        node, last = value_at(smaller, keys[: length - 1]), keys[length - 1]
        before = value_at(base, keys[:length])
        if isinstance(node, dict) and isinstance(last, str) and before is not None and before != node.get(last):
            node[last] = copy.deepcopy(before)
            return smaller
        if isinstance(node, dict) and last in node:
            del node[last]
            return smaller if length > 1 or last not in {"cluster", "model", "parallel", "workload"} else None
        if isinstance(node, list) and isinstance(last, int) and last < len(node):
            del node[last]
            return smaller
    return None


def value_at(node: object, keys: Sequence[str | int]) -> Any:  # noqa: ANN401  # any value of a scenario
    """Return the value at a place of the data of a scenario; None where there is none."""
    for key in keys:
        if isinstance(node, dict):
            node = node.get(key)
        else:
            node = node[key] if isinstance(node, list) and isinstance(key, int) and key < len(node) else None
    return node
