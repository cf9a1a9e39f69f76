"""Simulations of large clusters, each to be run in a process of its own.

    python benchmarks/scale_cases.py document_4096      # prints CPU seconds, peak bytes and figures of the run

Nothing but the simulation is imported: what is imported counts.
"""

import json
import sys
import time
from dataclasses import dataclass

from peak_memory import peak_bytes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A simulation, and the most that it may take."""

    says: str
    changes: tuple[str, ...]
    """Of the scenario `ep16_tp16_pp4`."""
    most_s: float | None = None
    most_gb: float | None = None


def _document(replicas: int, *, most_s: float | None = None, most_gb: float | None = None) -> Case:
    return Case(
        says=f"{64 * replicas:,} GPUs, the document's model x {replicas} replicas, multinomial",
        changes=(
            f"parallel.strategy=EP16_TP16_PP4_DP{replicas}",
            f"cluster.num_nodes={8 * replicas}",
            f"workload.sequences={128 * replicas}",
            "workload.batches=1",
            "routing.kind=multinomial",
        ),
        most_s=most_s,
        most_gb=most_gb,
    )


def _dense(replicas: int, *, most_s: float | None = None, most_gb: float | None = None) -> Case:
    layers = [8] * 14 + [7] * 2
    parallel = f"{{strategy: TP8_PP16_DP{replicas}, convention: megatron, sp: true, zero: 1, stage_layers: {layers}}}"
    sequences = f"sequences: {16 * replicas}, sequence_length: 8192, microbatches: 16"
    return Case(
        says=f"{128 * replicas:,} GPUs, Llama 405B, TP8 PP16 DP{replicas}, a step of 16 microbatches",
        changes=(
            f"cluster.num_nodes={16 * replicas}",
            "cluster.device={preset: h100-sxm}",
            "model={preset: llama3-405b}",
            f"parallel={parallel}",
            f"workload={{kind: training, {sequences}}}",
        ),
        most_s=most_s,
        most_gb=most_gb,
    )


def _experts(
    schedule: str, routing: str, microbatches: int, *, most_s: float | None = None, fidelity: str = "bulk"
) -> Case:
    layers = [4] * 13 + [3] * 3
    parallel = f"{{strategy: EP64_TP1_PP16_DP128, convention: megatron, zero: 1, stage_layers: {layers}}}"
    sequences = f"sequences: {128 * microbatches}, sequence_length: 4096, microbatches: {microbatches}"
    return Case(
        says=f"2,048 GPUs, DeepSeek-V3, {microbatches} microbatches, {schedule}, {routing}"
        + (", flow by flow" if fidelity == "flow" else ""),
        changes=(
            f"network={{fidelity: {fidelity}}}",
            "cluster={preset: h800, num_nodes: 256}",
            "model={preset: deepseek-v3}",
            f"parallel={parallel}",
            f"workload={{kind: training, {sequences}}}",
            f"schedule={{kind: {schedule}}}",
            f"routing={{kind: {routing}" + (", skew: 0.5}" if routing == "zipf" else "}"),
        ),
        most_s=most_s,
    )


CASES = {
    "document_1024": _document(16),
    "document_4096": _document(64, most_s=12, most_gb=0.8),
    "document_16384": _document(256, most_s=60, most_gb=3),
    "dense_2048": _dense(16),
    "dense_16384": _dense(128, most_s=5, most_gb=0.8),
    "experts_1f1b": _experts("1f1b", "balanced", 120, most_s=4),
    "experts_dualpipe": _experts("dualpipe", "balanced", 120, most_s=6),
    "experts_flow": _experts("1f1b", "balanced", 120, most_s=60, fidelity="flow"),
    "experts_zipf_8": _experts("1f1b", "zipf", 8),
    "experts_multinomial": _experts("1f1b", "multinomial", 120, most_s=60),
    "experts_zipf": _experts("1f1b", "zipf", 120, most_s=60),
}


def run_case(name: str) -> dict[str, float]:
    """Run a case in this process."""
    from sim.run.simulate import simulate_scenario  # noqa: PLC0415  # imports are part of what is timed
    from sim.scenario.load import load_scenario  # noqa: PLC0415

    scenario = load_scenario("ep16_tp16_pp4", overrides=[*CASES[name].changes, "claims=[]"])
    stats = (run := simulate_scenario(scenario).run).stats
    return {
        "cpu_s": time.process_time(),
        "peak_bytes": peak_bytes(),
        "stage_ops": stats.num_stage_ops,
        "spans": stats.num_spans,
        "folded": run.trace.num_folded,
    }


if __name__ == "__main__":
    print(json.dumps(run_case(sys.argv[1])))
