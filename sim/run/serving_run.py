"""Requests served by a model on a cluster, run once: latencies, rates, goodput, and the checks of every run."""

import time
from typing import Any, Final

import numpy as np

from sim.build.serving import ServingWork, build_serving
from sim.engine.serving import ServeOptions, ServingLog, serve
from sim.engine.simulation import EngineStats, Run
from sim.engine.trace import COLUMNS, KINDS, STREAMS, LinkUse, Trace
from sim.errors import SimulationError
from sim.plan.serving_costs import StepCosts
from sim.plan.serving_kernels import KernelSteps
from sim.plan.serving_tables import MeasuredSteps
from sim.results.accounts import CATEGORIES
from sim.results.serving import ServedRequests, ServingSteps, check_serving, metrics_of_serving
from sim.run.resources import PROCESS_BYTES, Resources
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated
from sim.run.simulated_steps import SimulatedSteps
from sim.scenario.scenario import Scenario
from sim.time import to_ns
from workloads.serving.balancers import BALANCERS
from workloads.serving.kv_cache import KvCache
from workloads.serving.policies import POLICY_CLASSES
from workloads.serving.speculation import Acceptance

__all__ = ["ServingRun"]

_EXPECTED_BYTES: Final = (76e6, 1500.0, 400.0)
"""Of the process, of a request, and of a step, of which there are as many as the longest answer has tokens: the peaks
of the bundled servers, 300 to 24,576 requests, are 77 to 120 MB, and 0.77 to 1.08 times that is expected."""
_LEAST_BYTES: Final = (PROCESS_BYTES, 1200.0, 200.0)
"""The same that a run takes at the least."""


class ServingRun(ScenarioRun):
    """A scenario of kind serving."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.work = build_serving(scenario)

    def minimum_resources(self) -> Resources:
        """Return what the run surely needs: an arrival and a step for each request, unless they share steps."""
        return self._resources(_LEAST_BYTES)

    def estimated_resources(self) -> Resources:
        """Return the minimum of steps, and the memory that is expected: running tells how many steps requests share."""
        return self._resources(_EXPECTED_BYTES)

    def _resources(self, bytes_of: tuple[float, float, float]) -> Resources:
        """Return the minimum of steps and events, and memory by the bytes of process, request and step."""
        num_steps = max(request.output_tokens for request in self.work.requests)
        num_requests = len(self.work.requests)
        of_process, of_request, of_step = bytes_of
        return Resources(
            num_ops=num_steps,
            num_events=num_requests + 2 * num_steps,
            memory_bytes=of_process + of_request * num_requests + of_step * num_steps,
        )

    def _simulate(self, options: RunOptions) -> Simulated:
        work, began = self.work, time.perf_counter()
        costs = step_costs_of(work)
        log = serve(
            work.requests, _groups(work), costs, BALANCERS[work.limits.balancer](work.mesh.dp), _options(work, options)
        )
        served, steps = _columns(work, log)
        failed = check_serving(
            served, steps, is_fcfs=work.limits.policy == "vllm", is_decode=work.limits.role == "decode"
        )
        if failed:
            raise SimulationError(f"serving: a check of the run failed: {'; '.join(failed)}")
        metrics = metrics_of_serving(
            served,
            steps,
            num_gpus=work.mesh.world,
            slo_s=work.slo_s,
            num_warmup=work.num_warmup,
            count_every=work.count_every,
            is_open=work.concurrency is None,
        )
        parts = _account(log, steps, int(served.arrival_ns.min()), int(served.end_ns.max()), work.num_groups)
        wall_s = time.perf_counter() - began
        s = work.mesh.strategy
        return Simulated(
            run=_run(log, steps, work.num_groups, wall_s),
            find_metrics=lambda: metrics,
            find_path_ns=lambda: parts,
            stages_ns=[parts],
            find_mesh=lambda: {"tp": s.tp, "pp": s.pp, "ep": s.ep, "dp": work.mesh.dp},
            find_explanations=lambda: _explanations(metrics),
            num_nodes=work.cluster.num_nodes,
            find_assumptions=lambda: work.assumptions,
            warnings=[*work.warnings, *getattr(costs, "warnings", [])],
            requests=_request_rows(work, served),
            steps=steps,
        )


def step_costs_of(work: ServingWork) -> StepCosts:
    """Return what prices the steps of a work."""
    if work.layer_times is not None:
        return MeasuredSteps(work, work.layer_times)
    return SimulatedSteps(work) if work.simulates_all else KernelSteps(work)


# ---- private -----------------------------------------------------------------------------------------------------


def _groups(work: ServingWork) -> list[list[Any]]:
    limits = work.limits
    make = POLICY_CLASSES[limits.policy]
    acceptance = None
    if limits.num_drafts:
        length = limits.acceptance_length
        acceptance = Acceptance(num_drafts=limits.num_drafts, acceptance_length=length, seed=work.seed)
    return [
        [
            make(
                limits,
                KvCache(
                    num_blocks=limits.kv_blocks or 0,
                    block_size=limits.block_size,
                    has_prefix_cache=limits.prefix_caching,
                ),
                acceptance,
            )
            for _ in range(work.ranks_per_group)
        ]
        for _ in range(work.num_groups)
    ]


def _options(work: ServingWork, options: RunOptions) -> ServeOptions:
    return ServeOptions(
        num_stages=work.mesh.num_stages,
        runs_ahead=work.limits.async_scheduling,
        concurrency=work.concurrency,
        balancer_interval_ns=to_ns(work.limits.balancer_interval_s),
        request_ns=to_ns(work.limits.request_s),
        max_events=options.limits.engine_events,
    )


def _columns(work: ServingWork, log: ServingLog) -> tuple[ServedRequests, ServingSteps]:
    """Return the log as columns, requests in the order of their arrival."""
    records, requests = log.requests, work.requests
    served = ServedRequests(
        **{
            name: np.array([getattr(record, name) for record in records], dtype=np.int64)
            for name in ("arrival_ns", "scheduled_ns", "first_ns", "end_ns", "rank")
        },
        prompt_tokens=np.array([request.prompt_tokens for request in requests], dtype=np.int64),
        output_tokens=np.array([request.output_tokens for request in requests], dtype=np.int64),
        cached_tokens=np.array([one.num_cached_tokens for one in log.served], dtype=np.int64),
        num_preemptions=np.array([one.num_preemptions for one in log.served], dtype=np.int64),
    )
    names = (
        "start_ns", "end_ns", "group", "num_prefill_tokens", "num_decodes",
        "num_running", "num_waiting", "blocks_used", "largest_batch",
    )  # fmt: skip
    steps = ServingSteps(
        **{name: np.array([getattr(step, name) for step in log.steps], dtype=np.int64) for name in names},
        token_gaps_ns=log.token_gaps_ns,
        num_computed=log.num_prefilled + log.num_decoded - log.num_rejected,
        num_blocks=work.limits.kv_blocks or 0,
        max_blocks_used=log.max_blocks_used,
        blocks_left=log.blocks_left,
        num_preemptions=log.num_preemptions,
    )
    return served, steps


def _account(log: ServingLog, steps: ServingSteps, first_ns: int, last_ns: int, num_groups: int) -> dict[str, int]:
    """Return the time of the run by part, mean of the groups: that of steps as far as they fill it, and idle."""
    busy_ns = 0
    for group in range(num_groups):
        of_group = steps.group == group
        starts, ends = steps.start_ns[of_group], np.maximum.accumulate(steps.end_ns[of_group])
        before = np.concatenate([starts[:1], ends[:-1]]) if len(starts) else starts
        busy_ns += int(np.clip(ends - np.maximum(starts, before), 0, None).sum())
    busy_ns //= num_groups
    total = max(1, sum(log.parts_ns.values()))
    parts = {part: log.parts_ns.get(part, 0) * busy_ns // total for part in CATEGORIES if part in log.parts_ns}
    return {**dict.fromkeys(CATEGORIES, 0), **parts, "idle": last_ns - first_ns - sum(parts.values())}


def _run(log: ServingLog, steps: ServingSteps, num_groups: int, wall_s: float) -> Run:
    """Return the record of a run: a pass for each step, a lane for each group of ranks."""
    num, none = len(steps.start_ns), np.full(len(steps.start_ns), -1, dtype=np.int64)
    columns: dict[str, Any] = dict.fromkeys(COLUMNS, none)
    zeros = np.zeros(num, dtype=np.int64)
    columns |= dict.fromkeys(("stage", "chunk", "imbalance_ns", "contention_ns", "latency_ns"), zeros)
    columns |= {
        "lane": steps.group,
        "stream": np.full(num, STREAMS.index("pass")),
        "kind": np.full(num, KINDS.index("F")),
        "microbatch": np.arange(num),
        "start_ns": steps.start_ns,
        "end_ns": steps.end_ns,
        "base_ns": steps.end_ns - steps.start_ns,
        "bytes": np.zeros(num),
        "flops": np.zeros(num),
    }
    trace = Trace(
        columns=columns,
        num_stages=1,
        num_lanes=num_groups,
        lane_ranks=np.arange(num_groups).reshape(1, num_groups, 1),
        link_use=LinkUse(
            num_bytes=np.zeros(0),
            busy_s=np.zeros(0),
            time_ns=np.zeros(0, dtype=np.int64),
            utilisation=np.zeros((0, 0)),
            kinds=(),
            names=(),
            link_kinds=(),
            capacity_bytes_per_s=np.zeros(0),
        ),
    )
    stats = EngineStats(
        wall_s=wall_s,
        plan_wall_s=0.0,
        num_events=log.num_events,
        num_solves=0,
        num_stage_ops=num,
        num_spans=num,
    )
    return Run(
        trace=trace,
        stats=stats,
        tokens_routed=0,
        tokens_computed=0,
        tokens_dropped=0,
        tokens_padded=0,
        tokens_rerouted=0,
        imbalance_max_over_mean=1.0,
        tokens_received={},
        tokens_sent={},
        exchange_skew={},
        bytes_sent=0.0,
        bytes_received=0.0,
    )


def _explanations(metrics: dict[str, float | int | bool]) -> dict[str, str]:
    if metrics["is_stable"]:
        return {"is_stable": "the queue does not grow while requests arrive"}
    return {
        "is_stable": "the queue grows from quarter to quarter of the time in which requests arrive: it falls behind"
    }


def _request_rows(work: ServingWork, served: ServedRequests) -> list[dict[str, Any]]:
    """Return a row of each request for the JSON; a request of one token has no tpot."""
    tpot_s = served.tpot_s.tolist()
    return [
        {
            "id": request.name,
            "arrival_s": int(served.arrival_ns[i]) / 1e9,
            "queue_s": int(served.scheduled_ns[i] - served.arrival_ns[i]) / 1e9,
            "ttft_s": int(served.first_ns[i] - served.arrival_ns[i]) / 1e9,
            "tpot_s": None if tpot_s[i] != tpot_s[i] else tpot_s[i],
            "latency_s": int(served.latency_ns[i]) / 1e9,
            "input_tokens": request.prompt_tokens,
            "output_tokens": request.output_tokens,
            "cached_tokens": int(served.cached_tokens[i]),
            "rank": int(served.rank[i]),
            "num_preemptions": int(served.num_preemptions[i]),
        }
        for i, request in enumerate(work.requests)
    ]
