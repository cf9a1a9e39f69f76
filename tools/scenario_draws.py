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
import random
from dataclasses import dataclass
from typing import Final

from scenario_bases import BASES, FEATURE_CHANCE
from scenario_keys import Data, set_any_key

__all__ = ["Drawn", "draw_scenario"]

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
