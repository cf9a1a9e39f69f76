"""The keys that put a scenario under another schedule, for those who try schedules on one work."""

import re
from typing import Final

from sim.build.layout import spread_over, strategy_of
from sim.scenario.parallel_section import AXES
from sim.scenario.scenario import Scenario
from workloads.pipeline_layout import parse_layout
from workloads.schedules import CUSTOM, DEFAULT_CHUNK_ORDER, schedule_kind_of

__all__ = ["own_chunks", "under_schedule"]

_VPP: Final = re.compile(r"_?VPP(\d+)", re.IGNORECASE)


def own_chunks(scenario: Scenario) -> int:
    """Return the chunks of each stage that a scenario asks for: by key, name or layout; 1 by default.

    >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
    >>> own_chunks(scenario)
    1
    """
    return strategy_of(scenario).vpp


def under_schedule(scenario: Scenario, kind: str, num_chunks: int | None = None) -> dict[str, object]:
    """Return the keys that put a scenario under a schedule of the table, with the chunks that it needs.

    Layers that are given by hand are spread over the new parts of the model; where a layout has another number of
    parts, embedding and loss then stand with the first and the last part. A strategy whose name has chunks loses
    them there where others are needed, and keeps the axes that stand next to the name.

    Parameters
    ----------
    scenario, kind
        What is to be run, and under which schedule.
    num_chunks
        Chunks of each stage, for schedules of any number; None: the scenario's, or 2 where it has none.

    Examples
    --------
    >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
    >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
    >>> under_schedule(scenario, "zb_v"), under_schedule(scenario, "interleaved")
    ({'schedule.kind': 'zb_v'}, {'schedule.kind': 'interleaved', 'parallel.vpp': 2})
    """
    changes: dict[str, object] = {"schedule.kind": kind}
    entry, own_schedule = schedule_kind_of(kind), scenario.spec.schedule
    own_entry = schedule_kind_of(own_schedule.kind, own_schedule.chunk_order)
    if entry.reads_file:
        return changes
    if own_entry.reads_file:
        changes |= {"schedule.file": None, "schedule.chunk_order": DEFAULT_CHUNK_ORDER}
    own = own_chunks(scenario)
    wanted = entry.num_chunks or num_chunks or (own if own > 1 else 2)
    if own != wanted and not (own == 1 and entry.num_chunks):
        changes |= _with_chunks(scenario, wanted)
    layout = scenario.spec.parallel.layout
    layers = scenario.spec.parallel.stage_layers if layout is None else parse_layout(layout).layers
    if layers is not None:
        num_stages = strategy_of(scenario).pp
        if own > 1 and own_entry.num_chunks == 1:  # chunks that its schedule does not have: in the usual order
            own_entry = schedule_kind_of(CUSTOM)
        before, after = own_entry.layout_on(num_stages, own), entry.layout_on(num_stages, wanted)
        is_spread = before != after and len(layers) == before.num_model_chunks
        spread = spread_over(layers, before, after) if is_spread else list(layers)
        if spread != list(layers):
            changes |= {"parallel.stage_layers": spread} | ({} if layout is None else {"parallel.layout": None})
    return changes


# ---- private -----------------------------------------------------------------------------------------------------


def _with_chunks(scenario: Scenario, num_chunks: int) -> dict[str, object]:
    parallel = scenario.spec.parallel
    if _named_chunks(scenario) is None:
        return {"parallel.vpp": num_chunks}
    axes = {axis: getattr(parallel, axis) for axis in AXES if axis != "vpp"}
    given = {f"parallel.{axis}": size for axis, size in axes.items() if size is not None}
    name = _VPP.sub("", parallel.strategy or "").strip("_")
    return {"parallel.strategy": name} | given | {"parallel.vpp": num_chunks}


def _named_chunks(scenario: Scenario) -> int | None:
    found = _VPP.search(scenario.spec.parallel.strategy or "")
    return int(found[1]) if found else None
