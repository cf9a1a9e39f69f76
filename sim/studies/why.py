"""Why a step takes as long as it does: its critical path in parts, and what each part being free would gain.

Model
-----
The path is that of `sim.results.path`: back from the last event through what released what; its parts sum to the step
time, to the nanosecond. It says what was on the way, not what would be gained: where a part goes, another path takes
its place. So each what-if is a simulation of its own, of the same scenario without one thing:

    balanced           routing.kind balanced: every expert gets as many tokens
    free_tp, ...       names of `workloads.what_if.WHAT_IFS`, as far as the run has such transfers or stages
    no_host            the host issues kernels and collectives in no time
    mended_gpu_5, ...  one degraded GPU, NIC or link is as it should be
    no_jitter          passes take what they are modelled to take
    even_stages, ...   stages compute as long as the mean stage (`sim.plan.even_stages`)
    even_lengths       documents give all microbatches attention that takes equally long (`workloads.documents`)
    no_stragglers      all of the last four
    next device, NIC   the preset that is next in arithmetic and memory, slower in neither; the next rate of NICs

    slowdown of a cause    time as it is / time without the cause
    share of a cause       gain without the cause / gain of no_stragglers        can be above 1 (`measured.stragglers`)

A server runs as long as requests come: what-ifs of it are measured by the mean latency of its requests.
Gains do not add up: two waits for the same thing are gained once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.cluster import cluster_of
from sim.build.runtime import runtime_of
from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.results.quantities import format_quantity
from sim.results.stretches import Stretch, path_stretches
from sim.run.parallel_runs import Observation, run_many
from sim.run.resources import NO_LIMITS, Limits
from sim.run.saved import SavedRun
from sim.run.scenario_run import Simulated
from sim.run.simulate import simulate_scenario
from sim.scenario.cluster_section import DegradedSpec
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, PassesWorkload, ServingWorkload, TrainingWorkload
from topology.cluster import Cluster
from topology.device import Device
from topology.presets.devices import DEVICES
from workloads.routing import ROUTINGS
from workloads.what_if import CAUSES, EVEN_LAST_STAGE, EVEN_LENGTHS, EVEN_STAGES, NO_BUBBLE, WHAT_IFS

__all__ = ["WhatIfRun", "Why", "explain_step", "stragglers_of_measured", "why_of_saved"]

_NIC_BYTES_PER_S: Final = (12.5e9, 25e9, 50e9, 100e9, 200e9)
"""Rates of InfiniBand and Ethernet NICs, 100 Gb/s to 1.6 Tb/s."""
_HOST_KEYS: Final = ("kernel_launch", "collective_launch", "pass_host", "counts_host")
_MOST_STRETCHES: Final = 6
"""Stretches of the path that are listed."""
_MOST_PARTS: Final = 12
"""Degraded parts that are mended alone."""
_UNEVEN: Final = 0.001
"""Stages whose kernels differ by less of their mean compute equally long."""
_NO_STRAGGLERS: Final = "no_stragglers"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfRun:
    """The run without one thing."""

    name: str
    """Short name, such as `free_tp`."""
    meaning: str
    """What is changed, as it follows `if`."""
    changes: dict[str, object]
    """Keys of the scenario that say it, for `--set`."""
    is_cause: bool = False
    """Whether it takes away one cause of straggling."""
    step_time_s: float | None = None
    """Step time; None where it could not be run."""
    time_s: float | None = None
    """What it is measured by: the step time, or the mean latency of a server's requests."""
    gain_s: float | None = None
    """The same of the scenario as it is less that; negative where it becomes longer."""
    problem: str | None = None
    """Why it could not be run."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        keys = ("name", "meaning", "step_time_s", "time_s", "gain_s", "problem")
        return {key: getattr(self, key) for key in keys} | {"set": self.changes}


@dataclass(frozen=True, kw_only=True)
class Why:
    """Why a step takes as long as it does."""

    scenario: Scenario
    simulated: Simulated
    what_ifs: list[WhatIfRun]
    """Largest gain first; those that could not be run last."""
    num_left_out: int = 0
    """Degraded parts that were not mended alone, for there are too many."""

    @property
    def time_s(self) -> float:
        """What the what-ifs are measured by, as it is."""
        return _measure(self.simulated)[1]

    def stragglers(self) -> dict[str, Any] | None:
        """Return what stragglers cost, cause by cause; None where there are none, or no run without them."""
        without = next((one for one in self.what_ifs if one.name == _NO_STRAGGLERS), None)
        if without is None or not without.time_s or without.gain_s is None:
            return None
        causes = [one for one in self.what_ifs if one.is_cause and one.time_s and one.gain_s is not None]
        return {
            "basis": "each by a simulation without it",
            "as_it_is_s": self.time_s,
            "time_s": without.time_s,
            "slowdown": self.time_s / without.time_s,
            "causes": [
                {
                    "name": one.name,
                    "meaning": one.meaning,
                    "time_s": one.time_s,
                    "gain_s": one.gain_s,
                    "slowdown": self.time_s / (one.time_s or self.time_s),
                    "share": (one.gain_s or 0.0) / without.gain_s if without.gain_s > 0 else None,
                }
                for one in causes
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: `path` sums to `step_time_s`, `path_ns` to the same in whole nanoseconds."""
        metric, time_s = _measure(self.simulated)
        return {
            "name": self.scenario.spec.name,
            **_path(self.simulated.path_ns, self.simulated.run.trace),
            "metric": metric,
            "time_s": time_s,
            "what_ifs": [one.to_dict() for one in self.what_ifs],
            "stragglers": self.stragglers(),
            "warnings": [*self.simulated.warnings, *self._left_out()],
        }

    def _left_out(self) -> list[str]:
        texts = []
        if self.num_left_out:
            texts.append(f"of the degraded parts the first {_MOST_PARTS} are mended alone, {self.num_left_out} are not")
        if isinstance(self.scenario.spec.workload, ServingWorkload):
            texts.append("what-ifs of a server are balanced routing and better hardware; exchanges stay what they are")
        return texts


def explain_step(
    scenario: Scenario,
    *,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Why:
    """Simulate a scenario, and under each what-if that says something of it; its claims are left aside.

    Raises
    ------
    InvalidValueError
        The scenario cannot be built.
    SimulationError
        It cannot be run.
    """
    bare = scenario.without_judgement()
    simulated = simulate_scenario(bare, link_timeline=False, limits=limits)
    what_ifs = list(_what_ifs_of(bare, simulated))
    metric, time_s = _measure(simulated)
    scenarios, runs = [], []
    for one in what_ifs:
        try:
            scenarios.append(bare.variant(one.changes))
            runs.append(one)
        except InvalidValueError as error:
            runs.append(replace(one, problem=error.problem))
    total = len(scenarios)
    with run_many(scenarios, jobs=jobs, limits=limits, on_done=lambda done: on_progress(done, total)) as observe:
        seen = iter(observe())
    done = [one if one.problem else _measured(one, next(seen), metric, time_s) for one in runs]
    done.sort(key=lambda one: (one.gain_s is None, -(one.gain_s or 0.0), one.name))
    return Why(
        scenario=bare,
        simulated=simulated,
        what_ifs=done,
        num_left_out=max(0, len(_degraded(bare)) - _MOST_PARTS),
    )


def why_of_saved(run: SavedRun) -> dict[str, Any]:
    """Return what `Why.to_dict` returns, of a run that was saved or measured: its path, and what was replayed of it.

    Raises
    ------
    InvalidValueError
        The arrays of its trace are damaged.
    """
    data = run.data
    path = {str(part): int(ns) for part, ns in (data.get("path_ns") or {}).items()}
    found = _path(path, run.trace)
    is_measured = "measured" in data["scenario"]
    warning = (
        "a measured run cannot be simulated: compare it with a scenario, and ask that for what-ifs"
        if is_measured
        else "a saved run is not simulated again: name its scenario for what-ifs"
    )
    return {
        "name": data["scenario"].get("name"),
        **found,
        "metric": "step_time_s",
        "time_s": found["step_time_s"],
        "what_ifs": [],
        "stragglers": stragglers_of_measured(data),
        "warnings": [*(data.get("warnings") or ()), warning],
    }


def stragglers_of_measured(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what `Why.stragglers` returns, of the JSON of a job that was replayed; None of other runs."""
    found = data.get("stragglers")
    if not found:
        return None
    as_it_is_s = found["step_time_s"]
    steps = f"{found['num_steps']} steps take" if found["num_steps"] != 1 else "1 step takes"
    replayed = f"without the host's delays {steps} {format_quantity(as_it_is_s, 's')} in the mean"
    return {
        "basis": f"each by a replay without it; {replayed}",
        "as_it_is_s": as_it_is_s,
        "time_s": found["ideal_step_time_s"],
        "slowdown": found["slowdown"],
        "causes": [
            {
                "name": cause["name"],
                "meaning": cause["meaning"],
                "time_s": cause["step_time_s"],
                "gain_s": cause["gain_s"],
                "slowdown": as_it_is_s / cause["step_time_s"],
                "share": cause["share"],
            }
            for cause in found["causes"]
        ],
    }


# ---- private -----------------------------------------------------------------------------------------------------


def _path(path_ns: Mapping[str, int], trace: Trace | None) -> dict[str, Any]:
    """Return the path for JSON: its parts, and in words where there is a trace."""
    step_ns = sum(path_ns.values())
    stretches: list[Stretch] = [] if trace is None else path_stretches(trace)
    longest = sorted(stretches, key=lambda one: one.from_ns - one.to_ns)[:_MOST_STRETCHES]
    return {
        "step_time_s": step_ns * 1e-9,
        "step_ns": step_ns,
        "path": _parts(path_ns, step_ns),
        "path_ns": dict(path_ns),
        "path_rows": sum(one.num_rows for one in stretches),
        "path_hops": sum(a.stage != b.stage for a, b in pairwise(stretches)),
        "stretches": [one.to_dict() for one in sorted(longest, key=lambda one: one.from_ns)],
    }


def _parts(path: Mapping[str, int], step_ns: int) -> list[dict[str, Any]]:
    """Return the parts of a path, largest first."""
    return [
        {"part": part, "ns": ns, "time_s": ns * 1e-9, "fraction": ns / step_ns if step_ns else 0.0}
        for part, ns in sorted(path.items(), key=lambda item: -item[1])
        if ns
    ]


def _what_ifs_of(scenario: Scenario, simulated: Simulated) -> Iterator[WhatIfRun]:
    """Yield what the scenario can be without."""
    spec, trace = scenario.spec, simulated.run.trace
    is_collective = isinstance(spec.workload, CollectiveWorkload)
    is_of_model = not is_collective and not isinstance(spec.workload, PassesWorkload)
    has_experts = any(stage.get("expert") for stage in simulated.stages_ns)
    if is_of_model and has_experts and _is_uneven(scenario):
        yield WhatIfRun(
            name="balanced",
            meaning="every expert got as many tokens",
            changes={"routing": {"kind": "balanced"}},
        )
    if not is_collective:
        yield from _without_costs(scenario, trace)
    if is_of_model and runtime_of(scenario).has_host:
        yield WhatIfRun(
            name="no_host",
            meaning="the host issued kernels and collectives in no time",
            changes={f"runtime.{key}": "0 s" for key in _HOST_KEYS},
        )
    yield from _without_stragglers(scenario, trace)
    if spec.cluster is not None and spec.cluster.preset is not None:
        yield from _better_hardware(cluster_of(scenario), is_of_model=is_of_model)


def _measure(simulated: Simulated) -> tuple[str, float]:
    """Return the metric that what-ifs are measured by, and its value as it is."""
    latency = simulated.metrics.get("e2e_latency_mean_s")
    if latency is not None:
        return "e2e_latency_mean_s", float(latency)
    return "step_time_s", simulated.run.trace.step_ns * 1e-9


def _measured(one: WhatIfRun, seen: Observation, metric: str, time_s: float) -> WhatIfRun:
    """Return a what-if with what its simulation says."""
    value, step_s = seen.values.get(metric), seen.values.get("step_time_s")
    if value is None or step_s is None:
        return replace(one, problem=seen.problem or f"it has no {metric}")
    return replace(one, step_time_s=float(step_s), time_s=float(value), gain_s=time_s - float(value))


def _degraded(scenario: Scenario) -> list[dict[str, object]]:
    """Return the entries of `cluster.degraded` as they were written."""
    return list(scenario.raw.get("cluster", {}).get("degraded") or [])


def _without_stragglers(scenario: Scenario, trace: Trace) -> Iterator[WhatIfRun]:
    """Yield the run without each cause of straggling, and without all of them."""
    spec, entries = scenario.spec, _degraded(scenario)
    whole: dict[str, object] = {}
    parts: list[str] = []
    if spec.cluster is not None and entries:
        yield from _mended(spec.cluster.degraded, entries)
        whole["cluster.degraded"] = []
        parts.append("nothing were degraded")
    if spec.jitter.as_given.is_on:
        exact: dict[str, object] = {f"jitter.{key}": 0.0 for key in ("pass_cv", "rank_spread")}
        yield WhatIfRun(name="no_jitter", meaning="passes took what they are modelled to", changes=exact, is_cause=True)
        whole |= exact
        parts.append("no pass varied")
    evened = [EVEN_LENGTHS] if isinstance(spec.workload, TrainingWorkload) and spec.workload.documents else []
    parts += ["the attention of microbatches took equally long"] * len(evened)
    slow = _slow_stages(trace)
    for name in (*slow, *evened):
        if name not in spec.what_if:
            changes: dict[str, object] = {"what_if": [*spec.what_if, name]}
            yield WhatIfRun(name=name, meaning=WHAT_IFS[name].meaning, changes=changes, is_cause=True)
    if parts:
        evened += [EVEN_STAGES] if slow else []
        whole["what_if"] = [*spec.what_if, *(name for name in evened if name not in spec.what_if)]
        meaning = ", ".join([*parts, *(["stages computed equally long"] if slow else [])])
        yield WhatIfRun(name=_NO_STRAGGLERS, meaning=meaning, changes=whole)


def _mended(degraded: Sequence[DegradedSpec], entries: Sequence[dict[str, object]]) -> Iterator[WhatIfRun]:
    """Yield the run without each degraded part; `entries` are these as they were written."""
    for number, part in enumerate(degraded[:_MOST_PARTS]):
        which = getattr(part, part.part)
        meaning = f"{'GPU' if part.part == 'gpu' else part.part.replace('nic', 'NIC')} {which} were as it should be"
        rest: dict[str, object] = {"cluster.degraded": [*entries[:number], *entries[number + 1 :]]}
        yield WhatIfRun(name=f"mended_{part.part}_{which}", meaning=meaning, changes=rest, is_cause=True)


def _slow_stages(trace: Trace) -> list[str]:
    """Return the what-ifs of uneven stages that would change something."""
    rows = trace.rows("compute")
    rows = rows[trace["kind"][rows] != "optimizer"]
    if trace.num_stages == 1 or not rows.size:
        return []
    took_ns = (trace.ints("end_ns") - trace.ints("start_ns"))[rows]
    took = np.bincount(trace.ints("stage")[rows], weights=took_ns, minlength=trace.num_stages)
    if took.max() - took.min() <= _UNEVEN * took.mean():
        return []
    return [EVEN_STAGES, EVEN_LAST_STAGE] if took[-1] > took.mean() else [EVEN_STAGES]


def _is_uneven(scenario: Scenario) -> bool:
    return not ROUTINGS[scenario.spec.routing.kind].is_balanced


def _without_costs(scenario: Scenario, trace: Trace) -> Iterator[WhatIfRun]:
    """Yield the what-ifs of the plan that would change something."""
    kinds = set(np.unique(trace["kind"]).tolist())
    transfers = {kind for one in WHAT_IFS.values() for kind in one.free_kinds}
    is_passes = isinstance(scenario.spec.workload, PassesWorkload)
    for name, one in WHAT_IFS.items():
        if name in CAUSES:
            continue  # causes of straggling
        if name == NO_BUBBLE:
            applies = trace.num_stages > 1
        elif one.free_kinds:
            applies = not kinds.isdisjoint(one.free_kinds)
        else:
            applies = not is_passes and not kinds.isdisjoint(transfers)
        if applies:
            names = [*scenario.spec.what_if, *({name} - set(scenario.spec.what_if))]
            yield WhatIfRun(name=name, meaning=one.meaning, changes={"what_if": names})


def _better_hardware(cluster: Cluster, *, is_of_model: bool) -> Iterator[WhatIfRun]:
    """Yield the device with the next higher peak, and the next rate of NICs."""
    device = cluster.device
    own = _speeds(device)
    better = [one for one in DEVICES.values() if min(_speeds(one) / own) >= 1 and max(_speeds(one) / own) > 1]
    if is_of_model and better:
        next_one = min(better, key=lambda one: float(_speeds(one).prod()))
        yield WhatIfRun(
            name="next_device",
            meaning=f"GPUs were {next_one.name}, on the same wires",
            changes={"cluster.device": {"preset": next_one.name}},
        )
    is_nic = np.array([kind == "nic" for kind in cluster.link_kinds])
    if cluster.num_nodes > 1 and is_nic.any():
        rate = float(cluster.nominal_bytes_per_s[is_nic].max())
        faster = [one for one in _NIC_BYTES_PER_S if one > rate * 1.01]
        if faster:
            gbits = round(faster[0] * 8 / 1e9)
            yield WhatIfRun(
                name="next_nic",
                meaning=f"NICs had {gbits} Gb/s instead of {round(rate * 8 / 1e9)}",
                changes={"cluster.nic_bandwidth": f"{gbits} Gb/s"},
            )


def _speeds(device: Device) -> NDArray[np.float64]:
    return np.array([device.peak_bf16_flops_per_s, device.memory_bandwidth_bytes_per_s])
