"""What skew costs, next to two published measurements of it: a combine, and a prefill with and without perfect balance.

Run as `python benchmarks/published_skew.py`; `docs/routing.md` quotes what it prints. Nothing here is fitted to the
published figures.

Combine
-------
tenstorrent/tt-metal, issue 56304 (2026): prefill of Mistral Small 4 on eight chips, 128 experts, top-4, 5,120 tokens.
Over nine layers with the same traffic, in ms::

    combine = 0.055 + 1.370 * (tokens of the busiest destination / mean)        r = 0.971

A fit of n points with correlation r has standard errors that follow from the slope alone::

    of the slope      slope * sqrt((1 / r^2 - 1) / (n - 2))
    of the constant   that of the slope * sqrt(mean of x^2), and x = max/mean is at least 1

so the published constant is known to +-0.13 ms at the best: it is 0 within its error. The fabric is another (chips in a
mesh), so times cannot be compared; the constant's share of the time at balance can, which has no unit.

Prefill
-------
SGLang's blog on large-scale expert parallelism (2025): DeepSeek-V3, EP32 on 4 nodes of 8 H100, 4,096 tokens a prompt:
50,302 tokens/s for each node with EPLB, 59,337 with simulated perfect balance. A summary of it has EPLB 1.49 times as
fast as none. Loads are not published, nor how old the plan was: the script finds which would give those ratios. SGLang
overlaps the exchanges of two batches with kernels, which is not modelled: ratios stand next to those that would hold if
exchanges took no time at all, for the truth is between.
"""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.build.collective import build_collective
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.scenario import Scenario
from sim.studies.stress.report import stress_test
from workloads.routing import draw_counts

COMBINE = """
name: combine of one layer, eight ranks
cluster: {preset: dgx-h100, num_nodes: 1}
model: {hidden: 4096, experts: 128, top_k: 4}
workload: {kind: collective, op: combine, num_ranks: 8, tokens: 640}
routing: {kind: zipf}
"""
"""The published layer's shape: 5,120 tokens over eight ranks."""
LARGE: Mapping[str, object] = {
    "workload.tokens": 4096,
    "model.hidden": 7168,
    "model.experts": 256,
    "model.top_k": 8,
}
"""Changes that make it a prefill of DeepSeek-V3: 22 times the bytes."""
SKEWS, SEEDS = tuple(np.linspace(0.0, 1.2, 9).tolist()), (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line through points (max/mean, time)."""

    constant: float
    """Time that no load explains."""
    slope: float
    """Time for each unit of max/mean."""
    correlation: float
    """Pearson's r."""
    num_points: int
    """Points."""

    @property
    def share(self) -> float:
        """The constant over the time at balance."""
        return self.constant / (self.constant + self.slope)

    @property
    def slope_error(self) -> float:
        """Standard error of the slope."""
        return self.slope * math.sqrt((1 / self.correlation**2 - 1) / (self.num_points - 2))

    @property
    def least_constant_error(self) -> float:
        """What the standard error of the constant is at least, for max/mean is never below 1."""
        return self.slope_error


PUBLISHED = Line(constant=0.055, slope=1.370, correlation=0.971, num_points=9)
"""tt-metal, issue 56304; in ms."""
EPLB_TOKENS_PER_S, PERFECT_TOKENS_PER_S = 50_302, 59_337
"""SGLang's blog; for each node of 8 GPUs."""
PERFECT_OVER_EPLB = PERFECT_TOKENS_PER_S / EPLB_TOKENS_PER_S
EPLB_OVER_NONE = 1.49
WHOLE_MODEL = (
    "model.layers=61",
    "model.dense_layers=3",
    "model.dense_ffn=18432",
    "routing={kind: balanced}",
)
"""Changes that make the scenario all of DeepSeek-V3, under perfect balance."""
STUDENT_7 = 2.365
"""0.975 quantile of Student's t with n - 2 = 7 degrees of freedom."""


def combine_points(
    changes: Mapping[str, object] | None = None, *, skews: Sequence[float] = SKEWS, seeds: Sequence[int] = SEEDS
) -> list[tuple[float, float]]:
    """Return (tokens of the busiest destination over the mean, combine time in s) for each skew and seed."""
    base = load_scenario_text(COMBINE)
    points = []
    for skew in skews:
        for seed in seeds:
            varied = base.variant({**(changes or {}), "routing.skew": skew, "seed": seed}, at=("published_skew",))
            points.append((_max_over_mean(varied), float(simulate_scenario(varied).metrics["collective_time_s"])))
    return points


def line_through(points: Sequence[tuple[float, float]]) -> Line:
    """Return the line of least squares."""
    x, y = np.array(points).T
    slope, constant = np.polyfit(x, y, 1)
    return Line(
        constant=float(constant),
        slope=float(slope),
        correlation=float(np.corrcoef(x, y)[0, 1]),
        num_points=len(points),
    )


def reached_at(skews: Sequence[float], ratios: Sequence[float], wanted: float) -> float | None:
    """Return the skew at which a ratio that grows is first as wanted, straight between points; None: nowhere.

    >>> round(reached_at([0.0, 1.0, 2.0], [1.0, 1.2, 1.6], 1.4), 9)
    1.5
    """
    for i in range(1, len(skews)):
        low, high = ratios[i - 1], ratios[i]
        if low <= wanted <= high and high > low:
            return skews[i - 1] + (skews[i] - skews[i - 1]) * (wanted - low) / (high - low)
    return None


def _max_over_mean(scenario: Scenario) -> float:
    """Return the tokens of the busiest destination of the scenario's draw over the mean."""
    work, _ = build_collective(scenario)
    counts = draw_counts(
        work.routing.kind, num_sources=work.ranks.size, tokens=work.tokens, num_experts=work.experts, top_k=work.top_k,
        seed=work.seed, layers=[0], microbatches=[0], skew=work.routing.skew,
    )  # fmt: skip
    loads = counts.reshape(work.ranks.size, work.ranks.size, -1).sum(axis=(0, 2))
    return float(loads.max() / loads.mean())


def print_combine() -> None:
    """Print both fits."""
    print("combine = constant + slope x (tokens of the busiest destination / mean)\n")
    print(f"{'':34}{'constant':>12}{'slope':>12}{'r':>8}{'n':>4}{'constant at balance':>22}")
    rows = [
        ("tt-metal #56304", PUBLISHED, 1.0),
        ("simulated, its shape, 8 H100", line_through(combine_points()), 1e3),
        ("simulated, DeepSeek-V3's shape", line_through(combine_points(LARGE)), 1e3),
    ]
    for name, line, to_ms in rows:
        print(
            f"{name:34}{line.constant * to_ms:9.4f} ms{line.slope * to_ms:9.4f} ms{line.correlation:8.4f}"
            f"{line.num_points:4}{line.share:22.1%}"
        )
    half = STUDENT_7 * PUBLISHED.least_constant_error
    print(
        f"\nThe published constant is known to +-{half:.2f} ms at the best (95 %), by its own r and n: from"
        f" {(PUBLISHED.constant - half) / (PUBLISHED.constant + PUBLISHED.slope):.0%} to"
        f" {(PUBLISHED.constant + half) / (PUBLISHED.constant + PUBLISHED.slope):.0%} of the time at balance."
    )


def gains(data: Mapping[str, Any], *, with_exchanges: bool = True) -> dict[str, list[float]]:
    """Return, for each remedy but the last, which is perfect balance, its step over that one's, by skew.

    Without exchanges the time of dispatch and combine is taken off both: as if all of it were overlapped.
    """
    times = {
        (row["remedy"], row["skew"]): row["step_time_s"]
        - (0.0 if with_exchanges else row["parts_s"]["dispatch"] + row["parts_s"]["combine"])
        for row in data["rows"]
    }
    *names, perfect = [remedy["name"] for remedy in data["remedies"]]
    return {name: [times[name, skew] / times[perfect, skew] for skew in data["skews"]] for name in names}


def print_prefill(jobs: int) -> None:
    """Print what perfect balance gains at each skew, and which skew would give the published gains."""
    whole = load_scenario("deepseek_prefill", overrides=WHOLE_MODEL)
    nodes = 4
    per_node = float(simulate_scenario(whole).metrics["tokens_per_s"]) / nodes
    print(
        f"\nprefill under perfect balance, all 61 layers: {per_node:,.0f} tokens/s for each node, without overlap;"
        f" published {PERFECT_TOKENS_PER_S:,}, with overlap"
    )
    data = stress_test("deepseek_prefill", jobs=jobs)
    skews, as_run, hidden = data["skews"], gains(data), gains(data, with_exchanges=False)
    loads = {(row["remedy"], row["skew"]): row["imbalance_max_over_mean"] for row in data["rows"]}
    print(
        "\nstep over that of perfect balance, and if exchanges took no time; busiest rank over the mean in brackets\n"
    )
    print(f"{'skew':26}" + "".join(f"{skew:>20g}" for skew in skews))
    for name, ratios in as_run.items():
        cells = zip(skews, ratios, hidden[name], strict=True)
        cells_text = (f"{ratio:.2f}, {without:.2f} ({loads[name, skew]:.2f})" for skew, ratio, without in cells)
        print(f"{name:26}" + "".join(f"{each:>20}" for each in cells_text))
    eplb, none_over_perfect = PERFECT_OVER_EPLB, EPLB_OVER_NONE * PERFECT_OVER_EPLB
    print(f"\npublished: EPLB {eplb:.2f}; none {none_over_perfect:.2f} = {eplb:.2f} x {EPLB_OVER_NONE}")
    for name in as_run:
        wanted = none_over_perfect if name == "nothing" else PERFECT_OVER_EPLB
        cells_text = [_text(reached_at(skews, each[name], wanted)) for each in (as_run, hidden)]
        print(f"  {name} has {wanted:.2f} at skew {cells_text[0]}; if exchanges took no time, at skew {cells_text[1]}")


def _text(skew: float | None) -> str:
    return "beyond these" if skew is None else f"{skew:.2f}"


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description="Skew, next to two published measurements.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    jobs = parser.parse_args().jobs
    load_scenario("deepseek_prefill")  # refuse before the first simulation
    print_combine()
    print_prefill(jobs)


if __name__ == "__main__":
    main()
