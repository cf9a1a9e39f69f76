"""The keys that give a scenario's stages another number of chunks, for those who try schedules on one work."""

import re
from typing import Final

from sim.scenario.parallel_section import AXES
from sim.scenario.scenario import Scenario
from sim.studies.layout import divide_over_chunks

__all__ = ["own_chunks", "with_chunks"]

_VPP: Final = re.compile(r"_?VPP(\d+)", re.IGNORECASE)


def own_chunks(scenario: Scenario) -> int:
    """Return the chunks of each stage that a scenario asks for, by key or in the strategy's name; 1 by default.

    >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
    >>> own_chunks(scenario), with_chunks(scenario, 2)
    (1, {'parallel.vpp': 2})
    """
    return scenario.spec.parallel.vpp or (_named_chunks(scenario) or 1)


def with_chunks(scenario: Scenario, num_chunks: int) -> dict[str, object]:
    """Return the keys that give every stage so many chunks, with the layers that are given by hand divided over them.

    A strategy whose name has chunks loses them there, and keeps the axes that stand beside the name.
    """
    parallel = scenario.spec.parallel
    changes: dict[str, object] = {"parallel.vpp": num_chunks}
    if _named_chunks(scenario) is not None:
        axes = {axis: getattr(parallel, axis) for axis in AXES if axis != "vpp"}
        given = {f"parallel.{axis}": size for axis, size in axes.items() if size is not None}
        changes = {"parallel.strategy": _VPP.sub("", parallel.strategy or "").strip("_")} | given | changes
    if parallel.stage_layers is not None:
        layers, num_stages = list(parallel.stage_layers), len(parallel.stage_layers) // own_chunks(scenario)
        if num_stages and len(layers) % num_stages == 0:
            layers = divide_over_chunks(layers, num_stages=num_stages, num_chunks=num_chunks)
        changes["parallel.stage_layers"] = layers
    return changes


def _named_chunks(scenario: Scenario) -> int | None:
    found = _VPP.search(scenario.spec.parallel.strategy or "")
    return int(found[1]) if found else None
