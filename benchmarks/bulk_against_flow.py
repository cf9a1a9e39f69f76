"""How much longer an all-to-all takes flow by flow than in bulk: alone, and when it meets another.

Run as `python benchmarks/bulk_against_flow.py`. Printed are the median and the extremes over seeds of flow / bulk - 1,
for the time without latency. Alone it is never below 0 but for the rounding of ends. `docs/bulk_and_flow.md` quotes the
table.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import Clock
from sim.engine.network.flows import kernel
from sim.engine.network.flows.kernel import compiled_run
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.engine.optional_numba import has_numba
from sim.plan.costs import Costs
from sim.plan.ops import Transfer
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from workloads.collectives.settings import NetworkSettings

FABRIC_NAMES = {"one switch": "gb200-nvl72", "rails and spines": "dgx-h100"}
NUM_SEEDS = {8: 20, 16: 20, 64: 5}
TOKEN_BYTES = 2048.0
Matrix = NDArray[np.float64]


def multinomial(num_tokens: int) -> Callable[[np.random.Generator, int], Matrix]:
    """Return a draw of matrices in which each rank's tokens choose a rank at random."""
    return lambda rng, n: rng.multinomial(num_tokens, np.full(n, 1 / n), size=n) * TOKEN_BYTES


def lognormal(sigma: float) -> Callable[[np.random.Generator, int], Matrix]:
    """Return a draw of matrices with pairs of 1 MB times exp(sigma x normal)."""
    return lambda rng, n: 1e6 * np.exp(sigma * rng.standard_normal((n, n)))


MATRICES = {
    "equal": lambda rng, n: np.full((n, n), 1e6),
    "multinomial, 4,096 tokens a rank": multinomial(4096),
    "multinomial, 256 tokens a rank": multinomial(256),
    "lognormal, sigma 0.5": lognormal(0.5),
    "lognormal, sigma 1": lognormal(1.0),
    "lognormal, sigma 2": lognormal(2.0),
}


Network = Callable[..., FluidNetwork | FlowNetwork]
NETWORKS: tuple[Network, Network] = (
    FluidNetwork,
    partial(FlowNetwork, choose=lambda _: compiled_run() if has_numba() else kernel.run),
)


def ends_ns(cluster: Cluster, network: Network, transfers: Sequence[Transfer]) -> list[int]:
    """Return when transfers that start together end."""
    clock = Clock()
    made = network(clock, cluster.capacity_bytes_per_s, cluster.link_names, cluster.link_kinds)
    batch = made.begin(transfers)
    clock.run()
    return [int(end_ns) for end_ns in batch.end_ns]


def excess(cluster: Cluster, matrices: Sequence[Matrix]) -> list[float]:
    """Return flow / bulk - 1 of transfers that start together, in the order of their ends in bulk."""
    costs = Costs(cluster, dtype="bf16", network=NetworkSettings(fidelity="flow"))
    ranks = np.arange(len(matrices[0]))
    transfers = [costs.exchanges.round_trip(ranks, ranks, matrix, group=i)[0] for i, matrix in enumerate(matrices)]
    latency_ns = transfers[0].latency_ns
    bulk, flow = (ends_ns(cluster, network, transfers) for network in NETWORKS)
    order = np.argsort(bulk, kind="stable")
    return [(flow[i] - latency_ns) / (bulk[i] - latency_ns) - 1 for i in order]


def percent(values: Sequence[float]) -> str:
    """Print median and extremes."""
    low, middle, high = np.percentile(values, [0, 50, 100]) * 100
    return f"{middle:7.3f} ({low:7.3f} .. {high:7.3f})"


def main() -> None:
    """Print the table."""
    print(f"{'fabric':17s} {'ranks':>5s}  {'matrix':33s} {'alone, %':28s} {'two: first end, %':28s} two: last end, %")
    for fabric, preset in FABRIC_NAMES.items():
        for num_ranks, num_seeds in NUM_SEEDS.items():
            spec = FABRICS[preset]
            cluster = build_cluster(spec, -(-num_ranks // spec.gpus_per_node), DEVICES["h100-sxm"])
            for name, draw in MATRICES.items():
                rngs = [np.random.default_rng(seed) for seed in range(1 if name == "equal" else num_seeds)]
                drawn = [(draw(rng, num_ranks), 0.7 * draw(rng, num_ranks)) for rng in rngs]
                alone = [excess(cluster, matrices[:1])[0] for matrices in drawn]
                first, last = zip(*(excess(cluster, matrices) for matrices in drawn), strict=True)
                columns = " ".join(f"{percent(values):28s}" for values in (alone, first, last))
                print(f"{fabric:17s} {num_ranks:5d}  {name:33s} {columns}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
