"""Modelled collectives next to tables of measured ones: median, 90th percentile and worst of |error| by group.

    python benchmarks/compare_collectives.py aic_collectives.csv vidur_network.csv ... [--by size] [--rows 10]

Needs moesim on the path (installed, or `PYTHONPATH=.`), and the tables, which are not part of moesim. The form of a
table is recognised by its columns::

    gpu, op_name, kernel_source, num_gpus, message_size, latency_us        aiconfigurator; elements of 2 bytes, NCCL
    system, op, num_workers, devices_per_node, size, time_us               Vidur; bytes
    gpu, num_gpus, bytes, time_us                                          vTrain; bytes, out of place
    system, collective, ranks, nodes, size_B, time_us                      nccl-tests as published
    Size, 2Node-16GPU(NIC ) ...                                            SimAI: bus bandwidth over that of a NIC

Lines that open with # are comments. Rows are grouped by device, operation and ranks, and with `--by size` by class of
size as well. A row whose system has no preset is counted as left out.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from sim.build.work import CollectiveWork
from sim.plan.collective import CollectivePlan
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import CLUSTERS
from topology.presets.devices import DEVICES
from workloads.collectives import OPERATIONS
from workloads.collectives.settings import DEFAULT_NETWORK
from workloads.routing.settings import RoutingSettings

OPS: Final = {"alltoall": "all_to_all", "sendrecv": "send", "send_recv": "send"}
PRESETS: Final = {
    "A100-SXM-80GB": "dgx-a100",
    "A100": "dgx-a100",
    "a100_dgx": "dgx-a100",
    "8x A100 NVLink (300 GB/s per dir)": "dgx-a100",
    "V100": "dgx-v100",
    "H100-SXM": "dgx-h100",
    "h100_dgx": "dgx-h100",
    "H100 SXM 8/node, 8x400Gb IB, SHARP manifest": "dgx-h100",
    "H100 SXM GCP A3-Mega (8x200Gb TCPXO/node), 2 nodes": "a3-mega",
    "H200-SXM": "dgx-h200",
    "B200-SXM": "dgx-b200",
    "GB200-NVL72": "gb200-nvl72",
    "GB200 NVL72 single rack, NCCL 2.26.2": "gb200-nvl72",
}
"""Preset of a system's name in the tables."""
SIMAI_NODES: Final = {"2Node-16GPU(NIC )": 2, "4Node-32GPU(NIC)": 4, "8Node-64GPU(NIC)": 8, "16Node-128GPU(NIC)": 16}
SIMAI_OPS: Final = {"simai_ata_ratio": "all_to_all", "simai_nic_ratio": "all_reduce"}
"""Operation of a table of SimAI by the name of its file; nvlink_ratio does not say of which link it is a part."""
SIMAI_NIC_BYTES_PER_S: Final = 50e9
CLASSES: Final = ((2**20, "below 1 MiB"), (4 * 2**20, "1 to 4 MiB"), (64 * 2**20, "4 to 64 MiB"), (2**60, "64 MiB on"))
"""Least size that is above a class, and the class."""


class Row(NamedTuple):
    """A measured collective."""

    table: str
    """Name of the table."""
    preset: str
    """Cluster; empty where the table's system has none."""
    op: str
    """Operation as in `workloads.collectives`."""
    ranks: tuple[int, ...]
    """Ranks that take part."""
    num_bytes: float
    """Bytes as nccl-tests counts them."""
    time_s: float
    """Measured time."""


def load_rows(path: Path) -> list[Row]:
    """Return the rows of one table."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    columns = set(rows[0])
    forms: dict[str, Callable[[str, dict[str, str]], Iterator[Row]]] = {
        "kernel_source": _aiconfigurator,
        "num_workers": _vidur,
        "busbw_inplace_GBps": _vtrain,
        "size_B": _nccl_tests,
        "Size": _simai,
    }
    for column, read in forms.items():
        if column in columns:
            return [found for row in rows for found in read(path.stem, row)]
    raise SystemExit(f"{path}: none of the known forms of tables; its columns are {', '.join(sorted(columns))}")


def modelled_s(row: Row) -> float:
    """Return the time of a row's collective on its own."""
    cluster = cluster_of(row.preset, max(row.ranks))
    work = CollectiveWork(
        cluster=cluster,
        op=row.op,
        ranks=np.array(row.ranks),
        num_bytes=row.num_bytes,
        tokens=0,
        top_k=1,
        experts=0,
        routing=RoutingSettings(),
        seed=1,
        network=DEFAULT_NETWORK,
    )
    transfer = CollectivePlan(work).transfer
    return (transfer.latency_ns + transfer.alone_ns) / 1e9


@cache
def cluster_of(preset: str, last_rank: int) -> Cluster:
    """Return nodes of a preset, as many as the ranks need."""
    known = CLUSTERS[preset]
    return build_cluster(known.fabric, last_rank // known.fabric.gpus_per_node + 1, DEVICES[known.device])


def size_class(num_bytes: float) -> str:
    """Return the class of a size.

    >>> size_class(2**20), size_class(64e6)
    ('1 to 4 MiB', '4 to 64 MiB')
    """
    return next(name for above, name in CLASSES if num_bytes < above)


def summary(errors: Sequence[float]) -> str:
    """Return median, 90th percentile and worst of |error| and the median error, in percent."""
    percent = np.abs(errors) * 100
    return (
        f"{len(errors):5d} rows   median {np.median(percent):6.1f}   p90 {np.percentile(percent, 90):6.1f}   "
        f"worst {percent.max():6.1f}   bias {np.median(errors) * 100:+6.1f}"
    )


def main() -> None:
    """Read the tables and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--by", choices=["group", "size"], default="group", help="size: by class of size as well")
    parser.add_argument("--rows", type=int, default=0, help="how many of the worst rows to print")
    given = parser.parse_args()
    for path in given.tables:
        rows = load_rows(path)
        known = [row for row in rows if row.preset]
        errors = np.array([modelled_s(row) / row.time_s - 1.0 for row in known])
        print(f"\n{path.stem}: {len(rows) - len(known)} rows left out, of systems without a preset")
        groups: dict[str, list[int]] = {}
        for number, row in enumerate(known):
            nodes = cluster_of(row.preset, max(row.ranks)).node_of(np.array(row.ranks))
            where = f"{len(row.ranks)} ranks on {len(set(nodes.tolist()))}"
            name = f"{row.preset:12s} {row.op:15s} {where:15s}"
            groups.setdefault(f"{name} {size_class(row.num_bytes):12s}" if given.by == "size" else name, []).append(
                number
            )
        for name in sorted(groups):
            print(f"{name} {summary(errors[groups[name]])}")
        if known:
            print(f"{'all':44s} {summary(errors)}")
        for number in np.argsort(-np.abs(errors))[: given.rows].tolist():
            row = known[number]
            print(
                f"  {row.preset:12s} {row.op:15s} {len(row.ranks):4d} ranks {row.num_bytes / 2**20:10.3f} MiB "
                f"{row.time_s * 1e6:10.1f} us {errors[number] * 100:+7.1f} %"
            )


# ---- private -----------------------------------------------------------------------------------------------------


def _aiconfigurator(table: str, row: dict[str, str]) -> Iterator[Row]:
    if row["kernel_source"] == "NCCL":
        op, ranks = OPS.get(row["op_name"], row["op_name"]), tuple(range(int(row["num_gpus"])))
        yield Row(table, _preset(row["gpu"]), op, ranks, 2.0 * int(row["message_size"]), float(row["latency_us"]) / 1e6)


def _vidur(table: str, row: dict[str, str]) -> Iterator[Row]:
    num, per_node = int(row["num_workers"]), int(row["devices_per_node"])
    ranks = tuple(8 * (number // per_node) + number % per_node for number in range(num))
    op = OPS.get(row["op"], row["op"])
    yield Row(table, _preset(row["system"]), op, ranks, float(row["size"]), float(row["time_us"]) / 1e6)


def _vtrain(table: str, row: dict[str, str]) -> Iterator[Row]:
    ranks = tuple(range(int(row["num_gpus"])))
    yield Row(table, _preset(row["gpu"]), "all_reduce", ranks, float(row["bytes"]), float(row["time_us"]) / 1e6)


def _nccl_tests(table: str, row: dict[str, str]) -> Iterator[Row]:
    op = OPS.get(row["collective"], row["collective"])
    if row["time_us"] and op in OPERATIONS:
        ranks = tuple(range(int(row["ranks"])))
        yield Row(table, _preset(row["system"]), op, ranks, float(row["size_B"]), float(row["time_us"]) / 1e6)


def _simai(table: str, row: dict[str, str]) -> Iterator[Row]:
    op = SIMAI_OPS.get(table)
    for column, nodes in SIMAI_NODES.items() if op else ():
        if row[column]:
            num = 8 * nodes
            # an all-reduce uses all eight NICs of a node, an all-to-all each GPU its own
            of_nic = SIMAI_NIC_BYTES_PER_S * (8 if op == "all_reduce" else 1)
            time_s = float(row["Size"]) * OPERATIONS[str(op)].bus_factor(num) / (float(row[column]) * of_nic)
            yield Row(table, "h800", str(op), tuple(range(num)), float(row["Size"]), time_s)


def _preset(system: str) -> str:
    return PRESETS.get(system, "")


if __name__ == "__main__":
    main()
