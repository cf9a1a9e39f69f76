"""What NCCL expects of its algorithms: by these estimates NCCL chooses, whatever a call takes in truth.

Model
-----
With n ranks, S bytes, B the bus bandwidth of the rings that NCCL finds, and s steps, 2 (n - 1) of an all-reduce and
n - 1 of an all-gather or a reduce-scatter::

    ring        base + s * hop + S s / n / rate           rate: LL B / 2, at most the table's; LL128 0.92 B; Simple B
    tree        base + 2 (n - 1) hop + 2 S / (rate * c)   rate: 0.92 B, of it LL 1 / 3.8 and LL128 7 / 9
    NVLS        25 us + S s / n / rate                    rate: 2 (n - 1) / n * efficiency * min(B, n * a channel)

With k nodes of g ranks and B the bandwidth of the rings between nodes, at most what leaves a node, all-reduces have::

    ring        base + 2 (n - k) hop + 2 (k - 1) hop between + 2 (n - 1) / n S / rate
    tree        base + 2 (g - 1) hop + 2 log2(k) hop between + 2 S / (rate * c)       rate: LL128 120 / 128 of 0.92 B

with less for LL (`most_ll_across_bytes_per_s`), so that of large tensors rings are always expected to be faster, though
a tree of two nodes has half the bytes between them. c is a correction by size. NVLS has as many channels as ranks, at
most 32, and the bandwidth of a channel is at most the first entry of NCCL's list of speeds (60 GB/s on Hopper, 90 GB/s
on Blackwell): that is why four GPUs of an NVSwitch run rings, and eight run NVLS.

Assumptions
-----------
B is taken to be what the links reach under Simple; NCCL rounds a channel's share of it down to its list of speeds. The
table of measurements (aic_collectives) changes its protocol where these estimates cross, at 2, 4 and 8 GPUs. Between
nodes the limit of a channel (perChMaxTreeBws) is left out, which only makes trees dearer, and NVLS has no estimate.

References
----------
NVIDIA/nccl@5067397c (June 2026), src/graph/tuning.cc: ncclTopoTuneModel, ncclTopoGetAlgoTime, treeCorrectionFactor;
src/graph/search.cc: sm90SpeedArrayIntra, sm100SpeedArrayIntra, NVLS has at most as many channels as GPUs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["BASE_US", "HOP_US", "NVLS_US", "RING_FLOOR_US", "TUNERS", "Tuner"]

BASE_US: Final[Mapping[str, Mapping[str, float]]] = {
    "tree": {"LL": 6.8, "LL128": 14.0, "Simple": 8.4},
    "ring": {"LL": 6.6, "LL128": 14.0, "Simple": 8.4},
}
"""Base latency of an algorithm and protocol: baseLatencies."""
HOP_US: Final[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
    "nvlink": {
        "tree": {"LL": 0.6, "LL128": 1.25, "Simple": 4.0},
        "ring": {"LL": 0.6, "LL128": 1.9, "Simple": 3.4},
    },
    "pci": {
        "tree": {"LL": 1.0, "LL128": 1.9, "Simple": 4.0},
        "ring": {"LL": 1.0, "LL128": 2.5, "Simple": 5.7},
    },
    "net": {
        "tree": {"LL": 5.0, "LL128": 8.5, "Simple": 14.0},
        "ring": {"LL": 2.7, "LL128": 4.0, "Simple": 14.0},
        "nvls": {"Simple": 20.9},
    },
}
"""Latency of a message by what it goes over: hwLatencies."""
RING_FLOOR_US: Final[Mapping[str, float]] = {"LL": 1.0, "LL128": 1.0, "Simple": 3.0}
"""Least time of a ring's message inside a node where there are several: work of the network's proxy."""
NVLS_US: Final = 25.0
"""NVLS inside a node."""
_MOST_NVLS_CHANNELS: Final = 32
_STEPS_OF: Final[Mapping[str, int]] = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
"""How often each rank's share goes round the ring; other operations have no estimate."""
_TREE_CORRECTIONS: Final[Mapping[str, tuple[int, ...]]] = {
    "LL": (10, 10, 10, 10, 9, 8, 7, 7, 7, 7, 6, 5, 4, 4, 5, 6, 7, 8, 9),
    "LL128": (10, 10, 10, 10, 10, 9, 8, 8, 8, 7, 6, 6, 6, 6, 6, 6, 8, 9, 9, 9, 9),
    "Simple": (9, 9, 9, 9, 9, 9, 9, 8, 7, 6, 6, 5, 5, 5, 5, 6, 7, 8, 7, 7, 8, 9, 9),
}
"""Tenths of the rate of a tree, for 64 B and each power of two beyond; then all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuner:
    """NCCL's estimates on the GPUs of one generation, of which NVLinks and an NVSwitch make a node."""

    most_ll_bytes_per_s: float
    """llMaxBws of one node."""
    most_ll_across_bytes_per_s: tuple[float, float]
    """llMaxBws of two nodes, and of more."""
    nvls_efficiency: float | None = None
    """nvlsEfficiency; None: no NVLS."""
    most_of_nvls_channel: float = 0.0
    """Most bytes/s of a channel of NVLS."""

    def expected_s(
        self, operation: str, algorithm: str, protocol: str, *, num_ranks: int, num_bytes: float, bus_bytes_per_s: float
    ) -> float | None:
        """Return the time that NCCL expects of a collective in one node; None where it has no estimate.

        >>> hopper = TUNERS["nvlink4"]
        >>> call = {"num_ranks": 8, "num_bytes": 64e6, "bus_bytes_per_s": 370.8e9}
        >>> time_s = hopper.expected_s("all_gather", "ring", "Simple", **call)
        >>> round(time_s * 1e6, 1)  # 8.4 + 7 * 3.4 + 7/8 * 64e6 / 370.8e3
        183.2
        """
        rounds = _STEPS_OF.get(operation)
        if rounds is None or num_ranks < 2:
            return None
        steps, bus = rounds * (num_ranks - 1), bus_bytes_per_s
        if algorithm in ("ring", "hierarchical"):
            rate = {"LL": min(self.most_ll_bytes_per_s, bus / 2), "LL128": 0.92 * bus, "Simple": bus}.get(protocol)
            if rate is None:
                return None
            latency_us = BASE_US["ring"][protocol] + steps * HOP_US["nvlink"]["ring"][protocol]
            return latency_us * 1e-6 + num_bytes * steps / num_ranks / rate
        if operation != "all_reduce":
            return None
        if algorithm == "tree":
            rate = 0.92 * bus * {"LL": 1 / 3.8, "LL128": 7 / 9, "Simple": 1.0}[protocol]
            latency_us = BASE_US["tree"][protocol] + steps * HOP_US["nvlink"]["tree"][protocol]
            return latency_us * 1e-6 + 2 * num_bytes / (rate * _correction(protocol, num_bytes))
        if algorithm != "nvls" or self.nvls_efficiency is None:
            return None
        whole = min(bus, min(num_ranks, _MOST_NVLS_CHANNELS) * self.most_of_nvls_channel)
        rate = 2 * (num_ranks - 1) / num_ranks * self.nvls_efficiency * whole
        return NVLS_US * 1e-6 + num_bytes * steps / num_ranks / rate

    def expected_across_s(
        self,
        operation: str,
        algorithm: str,
        protocol: str,
        *,
        num_ranks: int,
        num_nodes: int,
        num_bytes: float,
        bus_bytes_per_s: float,
    ) -> float | None:
        """Return the time that NCCL expects of an all-reduce over several nodes by a ring or trees; None of all else.

        >>> call = {"num_ranks": 16, "num_nodes": 2, "num_bytes": 100e6, "bus_bytes_per_s": 100e9}
        >>> ampere = TUNERS["nvlink3"]
        >>> ring_s = ampere.expected_across_s("all_reduce", "ring", "Simple", **call)
        >>> tree_s = ampere.expected_across_s("all_reduce", "tree", "Simple", **call)
        >>> round(ring_s * 1e6), round(tree_s * 1e6)  # 8.4 + 28 * 3.4 + 2 * 14 + 1875; 8.4 + 14 * 4 + 28 + 2174 / 0.8
        (2007, 2810)
        """
        if operation != "all_reduce" or algorithm not in ("ring", "tree") or protocol not in BASE_US[algorithm]:
            return None
        inside, between = (HOP_US[bus][algorithm][protocol] for bus in ("nvlink", "net"))
        per_node = num_ranks / num_nodes
        most = self.most_ll_across_bytes_per_s[num_nodes > 2] if protocol == "LL" else math.inf
        if algorithm == "ring":
            inside = max(inside, RING_FLOOR_US[protocol])
            rate = min(most, {"LL": 1 / 2, "LL128": 0.92, "Simple": 1.0}[protocol] * bus_bytes_per_s)
            latency_us = 2 * (num_ranks - num_nodes) * inside + 2 * (num_nodes - 1) * between
            drain_s = 2 * (num_ranks - 1) / num_ranks * num_bytes / rate
        else:
            rate = min(most, 0.92 * bus_bytes_per_s * {"LL": 1 / 3.8, "LL128": 120 / 128, "Simple": 1.0}[protocol])
            latency_us = 2 * (per_node - 1) * inside + 2 * math.log2(num_nodes) * between
            drain_s = 2 * num_bytes / (rate * _correction(protocol, num_bytes))
        return (BASE_US[algorithm][protocol] + latency_us) * 1e-6 + drain_s


TUNERS: Final[Mapping[str, Tuner]] = {
    "nvlink3": Tuner(most_ll_bytes_per_s=87.7e9, most_ll_across_bytes_per_s=(22.5e9, 19e9)),
    "nvlink4": Tuner(
        most_ll_bytes_per_s=141e9,
        most_ll_across_bytes_per_s=(45e9, 35e9),
        nvls_efficiency=0.85,
        most_of_nvls_channel=60e9,
    ),
    "nvlink5": Tuner(
        most_ll_bytes_per_s=282e9,
        most_ll_across_bytes_per_s=(90e9, 70e9),
        nvls_efficiency=0.74,
        most_of_nvls_channel=90e9,
    ),
}
"""Tuner by technology inside a node, without what tells its variants apart; none where nothing was measured."""


# ---- private -----------------------------------------------------------------------------------------------------


def _correction(protocol: str, num_bytes: float) -> float:
    power = int(math.log2(max(1.0, num_bytes / 64)))
    corrections = _TREE_CORRECTIONS[protocol]
    return corrections[power] / 10 if power < len(corrections) else 1.0
