"""Fit the constants of `topology.presets.fitted.FITTED` to the suites `network` and `collectives`, and print them.

    python benchmarks/fit_network.py

Needs moesim on the path (installed, or `PYTHONPATH=.`). Constants are fitted in
groups, each to the cases that depend on it; the loss is the mean square of log(modelled / published), every figure
weighing the same. Figures that are set apart are left out, and so are cases whose name ends in left_out: their errors
are printed next to those of the fit. Links are at the datasheet's bandwidth here, so that nothing
but the protocols bounds them.

Then each table is left out: the constants that it gives take their value `otherwise`, and the errors that its figures
then have are what `suite.yaml` states next to the fit's own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sim.build.collective import build_collective
from sim.build.work import CollectiveWork
from sim.plan.collective import CollectivePlan
from sim.plan.transfer_costs import exchange_sms, forget_prices
from sim.studies.suites import find_suites
from topology import cluster as clusters
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.fitted import DIRECT, FITTED, SM_RATES
from topology.presets.protocols import build_protocols
from workloads.collectives import OPERATIONS

_OF_EXCHANGES = ("own copy", "tiny call", "tiny slowdown")
_SIMPLEX = 0.03
"""Change of a constant's logarithm with which a fit starts."""
_ROUNDS = 3
"""How often all groups are fitted: the rate of large messages and the copy of what a rank keeps depend on another."""


def _direct(technology: str) -> tuple[str, ...]:
    """Return the constants of NCCL's all-to-all inside nodes of a technology that large messages of 8 GPUs give."""
    return tuple(f"{technology} {name}" for name in DIRECT if name not in _OF_EXCHANGES)


def _exchanges(technology: str) -> tuple[str, ...]:
    """Return the constants that messages of 2 GPUs and small ones give."""
    return tuple(f"{technology} {name}" for name in _OF_EXCHANGES)


def _rings(technology: str) -> tuple[str, ...]:
    """Return the constants of NCCL's rings inside nodes of a technology."""
    return tuple(name for name in FITTED if name.startswith(f"{technology} ring "))


GROUPS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("tcpxo LL hop", "tcpxo LL rate", "tcpxo Simple hop", "tcpxo Simple rate"), ("a3_mega_all_reduce",)),
    (("ib-ndr Simple rate",), ("h100_ib_all_reduce",)),
    (("nvlink5 NVLS call", "nvlink5 NVLS loop", "nvlink5-nvl72 NVLS rate"), ("gb200_all_reduce", "b200_nvls")),
    (("nvlink4 NVLS call", "nvlink4 NVLS loop"), ("h100_node_all_reduce",)),
    (_rings("nvlink3"), ("a100_rings",)),
    (_rings("nvlink4"), ("h100_rings",)),
    (_rings("nvlink5"), ("b200_rings",)),
    (_direct("nvlink3"), ("a100_all_to_all",)),
    (_exchanges("nvlink3"), ("a100_exchanges",)),
    (_direct("nvlink4"), ("h100_all_to_all",)),
    (_exchanges("nvlink4"), ("h100_exchanges",)),
    (_direct("nvlink5"), ("b200_all_to_all",)),
    (_exchanges("nvlink5"), ("b200_exchanges",)),
    (("ib direct call", "ib direct rate"), ("simai_all_to_all",)),
    (("nvlink3 send rate",), ("a100_sendrecv",)),
    (("nvlink4 copy rate",), ("h200_copy",)),
    (("xgmi3 Simple rate",), ("mi300x_all_reduce",)),
    (
        ("nvlink4-h800 DeepEP rate", "ib DeepEP rate", "low_latency base", "nvlink5 DeepEP rate", "DeepEP SM rate"),
        ("deepep_v1_normal", "deepep_v1_low_latency", "deepep_v2_sm90", "deepep_v2_sm100"),
    ),
    (
        (
            "nvlink4 DeepEP normal rate",
            "DeepEP normal SM rate",
            "DeepEP normal SM rate across",
            "DeepEP normal call",
            "DeepEP normal call across",
            "DeepEP normal combine",
        ),
        ("h100_deepep",),
    ),
    (("nvlink5 HybridEP rate",), ("gb200_hybridep",)),
)
"""Constants that are fitted together, and the cases that depend on them."""
SUITES = ("network", "collectives")
"""Suites whose figures are read."""
TABLES = ("deepep", "aic_deepep", "nccl_busbw", "aic_collectives", "simai_ata_ratio")
_NVLINK = ("rings", "exchanges", "all_to_all", "node_all_reduce", "tray_all_reduce", "nvls")
LATENCIES_US = {3.33: 0.6, 2.8: 2.7, 3.7: 2.7, 3.6: 2.7, 5.6: 2.7}
"""End-to-end latencies that the presets take from the table of latencies -> NCCL's for a message of a ring under LL."""

Constants = dict[str, float]


class Row(NamedTuple):
    """A published figure with the collective that it is of."""

    suite: str
    """Name of the suite."""
    case: str
    """Case of the suite."""
    metric: str
    """What was published of it."""
    published: float
    """The figure, SI."""
    work: CollectiveWork
    """The collective."""


def load_rows() -> list[Row]:
    """Return the figures of the suite that are not set apart."""
    rows = []
    for suite, case in ((one, case) for one in find_suites(SUITES) for case in one.cases):
        for i, figure in enumerate(case.scenario.spec.published):
            if figure.apart is None:
                work = build_collective(case.scenario.case(i))[0]
                work = replace(work, cluster=at_datasheet(work.cluster))
                rows.append(Row(suite.name, case.name, figure.metric, float(figure.value), work))
    return rows


def num_constants(rows: Sequence[Row], suite: str) -> int:
    """Return how many constants of protocols a suite has: those fitted to any of its cases, `network` before others."""
    cases = {name: {row.case for row in rows if row.suite == name} for name in SUITES}
    counts = dict.fromkeys(SUITES, 0)
    for names, fitted_to in GROUPS:
        counts[next(name for name in SUITES if cases[name].intersection(fitted_to))] += len(names)
    return counts[suite]


def at_datasheet(cluster: Cluster) -> Cluster:
    """Return the cluster with links that reach their datasheet's bandwidth."""
    spec = FABRICS[cluster.name]
    whole = {name: replace(getattr(spec, name), efficiency=1.0) for name in ("nvlink", "nic", "leaf_hop")}
    return build_cluster(replace(spec, **whole), cluster.num_nodes, cluster.device)


def log_errors(rows: Sequence[Row], constants: Mapping[str, float]) -> list[float]:
    """Return log(modelled / published) of each row."""
    clusters.protocols_of = lambda inside, between: build_protocols(inside, between, constants)
    forget_prices()
    return [math.log(modelled(row, constants) / row.published) for row in rows]


def modelled(row: Row, constants: Mapping[str, float]) -> float:
    """Return the figure that the model has for a row: a collective on its own takes its latency and its time alone."""
    work = row.work
    sms = exchange_sms(work.network, {**SM_RATES, **constants})
    plan = CollectivePlan(work, sms=sms)
    time_s = (plan.transfer.latency_ns + plan.transfer.alone_ns) / 1e9
    if row.metric == "collective_time_s":
        return time_s
    factor = OPERATIONS[work.op].bus_factor(work.ranks.size) if row.metric == "busbw_bytes_per_s" else 1.0
    return plan.logical_bytes / time_s * factor


def fit(rows: Sequence[Row]) -> Constants:
    """Return all constants, each group fitted to its cases."""
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    constants = {name: fitted.value for name, fitted in FITTED.items()}
    for names, cases in GROUPS * _ROUNDS:
        chosen = [row for row in rows if row.case in cases]
        start = np.log([constants[name] for name in names])
        simplex = np.vstack([start, start + _SIMPLEX * np.eye(len(names))])
        options = {"xatol": 1e-4, "fatol": 1e-9, "maxiter": 400 * len(names), "initial_simplex": simplex}
        found = minimize(loss, start, args=(constants, names, chosen), method="Nelder-Mead", options=options)
        constants |= dict(zip(names, np.exp(found.x).tolist(), strict=True))
    return constants


def loss(at: np.ndarray, constants: Constants, names: Sequence[str], rows: Sequence[Row]) -> float:
    """Return the loss of `rows` with the logarithms `at` of the constants called `names`."""
    tried = constants | dict(zip(names, np.exp(at).tolist(), strict=True))
    if any(value > 1.0 >= FITTED[name].value for name, value in tried.items() if name.endswith("rate")):
        return math.inf
    return float(np.mean(np.square(log_errors(rows, tried))))


def summary(errors: Sequence[float]) -> str:
    """Return median, 90th percentile and worst of |error| in percent."""
    percent = np.abs(np.expm1(errors)) * 100
    return f"median {np.median(percent):6.2f}  p90 {np.percentile(percent, 90):6.2f}  worst {percent.max():6.2f}"


def table_of(case: str) -> str:
    """Return the table of measurements that a case of the suite is of."""
    prefixes = {"deepep": "deepep", "simai": "simai_ata_ratio", "latency": "link_latency"}
    for prefix, table in prefixes.items():
        if case.startswith(prefix):
            return table
    if case.endswith("_left_out"):
        return ""
    if case.endswith(("_deepep", "_hybridep")):
        return "aic_deepep" if case.endswith("_deepep") else "mcore_moe_report"
    is_aic = case != "h100_nvls" and case.endswith(_NVLINK) and not case.startswith("simai")
    return "aic_collectives" if is_aic else "nccl_busbw"


def main() -> None:
    """Fit, and print constants and errors."""
    rows = load_rows()
    constants = fit(rows)
    for name, value in constants.items():
        print(f"{name:28s} {value:.4g}     {FITTED[name].rows}")
    by_case = {case: [row for row in rows if row.case == case] for case in dict.fromkeys(row.case for row in rows)}
    for case, chosen in by_case.items():
        print(f"{case:28s} {summary(log_errors(chosen, constants))}")
    for name, is_of in (("fitted", False), ("left out of the fit", True)):
        chosen = [row for row in rows if row.case.endswith("_left_out") == is_of]
        print(f"{name:28s} {summary(log_errors(chosen, constants))}")
    for suite, table in sorted({(row.suite, table_of(row.case)) for row in rows if table_of(row.case) in TABLES}):
        without = constants | {name: one.otherwise for name, one in FITTED.items() if one.table == table}
        chosen = [row for row in rows if row.suite == suite and table_of(row.case) == table]
        print(f"{suite + ', without ' + table:40s} {summary(log_errors(chosen, without))}")
    latencies = [math.log(nccl / published) for published, nccl in LATENCIES_US.items()]
    print(f"{'link_latency left out':28s} {summary(latencies)}")
    for suite in SUITES:
        print(f"{suite}: {num_constants(rows, suite)} fitted constants, of network {len(LATENCIES_US)} latencies more")


if __name__ == "__main__":
    main()
