"""What an all-to-all costs to simulate, pair by pair and in bulk.

Run as `python -m pytest benchmarks/bench_flow.py` (not part of the tests). The kernel is compiled where numba is
installed, and compiled before it is timed; `test_first_call` times that. Without numba the interpreted kernel is timed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from measuring import Row, note
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from sim.engine.clock import Clock
from sim.engine.network.flows import kernel
from sim.engine.network.flows.kernel import Run, compiled_run
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.engine.optional_numba import has_numba
from sim.plan.costs import Costs
from sim.plan.ops import Transfer
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from workloads.collectives.settings import NetworkSettings

KERNELS = ["interpreted", "compiled"] if has_numba() else ["interpreted"]


def costs_of(num_ranks: int) -> Costs:
    """Return prices on nodes of eight H100, with what a cluster looks up once looked up."""
    costs = Costs(build_cluster(FABRICS["dgx-h100"], num_ranks // 8, DEVICES["h100-sxm"]), dtype="bf16")
    costs.cluster.load([0], [num_ranks - 1], [1.0])
    return costs


def matrix_of(num_ranks: int, kind: str) -> NDArray[np.float64]:
    """Return bytes of each pair: 1 MB, or from 0.1 to 2 MB."""
    if kind == "equal":
        return np.full((num_ranks, num_ranks), 1e6)
    return np.random.default_rng(1).uniform(1e5, 2e6, (num_ranks, num_ranks))


def simulate(costs: Costs, transfer: Transfer, run: Run) -> int:
    """Run one transfer on a fresh network and return its end."""
    cluster = costs.cluster
    clock = Clock()
    links = (cluster.capacity_bytes_per_s, cluster.link_names, cluster.link_kinds)
    network = FlowNetwork(clock, *links, can_saturate=cluster.can_saturate, choose=lambda _: run)
    batch = network.begin([transfer])
    clock.run()
    return batch.end_ns[0]


def run_named(name: str) -> Run:
    """Return the kernel's `run`, compiled (now, if it has not been) or interpreted."""
    if name == "interpreted":
        return kernel.run
    run = compiled_run()
    costs = Costs(costs_of(8).cluster, dtype="bf16", network=NetworkSettings(fidelity="flow"))
    simulate(costs, costs.exchanges.round_trip(np.arange(8), np.arange(8), matrix_of(8, "random"), group=0)[0], run)
    return run


def bench(benchmark: BenchmarkFixture, num_ranks: int, kind: str, kernel_name: str, *, rounds: int, bar: float) -> None:
    """Time the simulation of one all-to-all; planning is left out. The bar may use numba."""
    costs = Costs(costs_of(num_ranks).cluster, dtype="bf16", network=NetworkSettings(fidelity="flow"))
    matrix = matrix_of(num_ranks, kind)
    transfer = costs.exchanges.round_trip(np.arange(num_ranks), np.arange(num_ranks), matrix, group=0)[0]
    run = run_named(kernel_name)
    end_ns = benchmark.pedantic(simulate, (costs, transfer, run), rounds=rounds)
    assert end_ns >= transfer.latency_ns + transfer.alone_ns
    how = "with numba" if kernel_name == "compiled" else "without numba"
    note(
        benchmark,
        Row(
            case=f"flow: {num_ranks} ranks, {num_ranks * (num_ranks - 1):,} {kind} flows, {how}",
            figure=benchmark.stats.stats.min * 1e3,
            unit="ms",
            bar=bar * 1e3 if kernel_name == "compiled" else None,
        ),
    )


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_64_ranks_random(benchmark: BenchmarkFixture, kernel_name: str) -> None:
    """4,032 flows of different sizes."""
    bench(benchmark, 64, "random", kernel_name, rounds=3, bar=0.3)


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_64_ranks_equal(benchmark: BenchmarkFixture, kernel_name: str) -> None:
    """4,032 flows of one size."""
    bench(benchmark, 64, "equal", kernel_name, rounds=10, bar=5e-3)


@pytest.mark.parametrize("kernel_name", KERNELS[1:])
def test_256_ranks_random(benchmark: BenchmarkFixture, kernel_name: str) -> None:
    """65,280 flows of different sizes."""
    bench(benchmark, 256, "random", kernel_name, rounds=1, bar=60.0)


def test_1024_ranks_in_bulk(benchmark: BenchmarkFixture) -> None:
    """A random 1,024 x 1,024 matrix there and back, and its simulation; at first, and when the group is known."""
    cluster, matrix = costs_of(1024).cluster, matrix_of(1024, "random")
    costs = Costs(cluster, dtype="bf16", is_random=True)  # keeps no exchange

    def run(num_ranks: int = 1024) -> int:
        """Price the exchange and let the way there end."""
        ranks = np.arange(num_ranks)
        there, _ = costs.exchanges.round_trip(ranks, ranks, matrix[:num_ranks, :num_ranks], group=0)
        clock = Clock()
        links = (cluster.capacity_bytes_per_s, cluster.link_names, cluster.link_kinds)
        batch = FluidNetwork(clock, *links, can_saturate=cluster.can_saturate).begin([there])
        clock.run()
        return batch.end_ns[0]

    run(8)  # what a cluster looks up once
    began = time.perf_counter()
    run()
    first_s = time.perf_counter() - began
    assert benchmark.pedantic(run, rounds=5) > 0
    figure = benchmark.stats.stats.min * 1e3
    note(
        benchmark,
        Row(case="bulk: 1,024 ranks, random bytes, priced and run", figure=figure, unit="ms", bar=50.0),
        Row(case="... the first of its group", figure=first_s * 1e3, unit="ms", bar=50.0),
    )


@pytest.mark.skipif(not has_numba(), reason="numba is not installed")
@pytest.mark.parametrize("is_kept", [False, True], ids=["compiled", "loaded"])
def test_first_call(benchmark: BenchmarkFixture, tmp_path: Path, is_kept: bool) -> None:
    """A process that imports numba and compiles, or loads what another has compiled; Python's own start is in it."""
    program = "import bench_flow; bench_flow.run_named('compiled')"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}

    def start(what: str) -> None:
        subprocess.run([sys.executable, "-c", what], check=True, env=environment)

    if is_kept:
        start(program)
    benchmark.pedantic(start, (program,), rounds=1)
    how = "code kept on disk" if is_kept else "compiling"
    figure = benchmark.stats.stats.min
    note(benchmark, Row(case=f"flow: start of Python, numba and kernel, {how}", figure=figure, unit="s"))
