"""The constants that measurements gave to protocols, by technology, with their tables and rows.

`benchmarks/fit_network.py` fits them to the suites `network` and `collectives` and prints them. What they mean stands
in `topology.presets.protocols`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["DIRECT", "FITTED", "SM_RATES", "Fitted"]


class Fitted(NamedTuple):
    """A constant that measurements gave."""

    value: float
    """Seconds, bytes/s, or a fraction of the datasheet's bandwidth."""
    table: str
    """The measurements' table."""
    rows: str
    """Which of its rows."""
    otherwise: float
    """The figure without the measurements: that of NCCL, or that of a similar technology."""


_A3 = "A3-Mega all-reduce, 2 nodes"
_NVL72 = "all-reduce, 4 GB200, 128 and 512 MiB, and 72, 512 MiB to 8 GiB"
_AIC = "all-to-all of 2 and 8 GPUs of a node"
_ATA = "SimAI, all-to-all over 4, 8 and 16 nodes, 16 MiB to 1 GiB"
_RINGS = "all-gather of 2 and 8 GPUs, reduce-scatter of 4, all-reduce of 2"
_NORMAL = "8, 16 and 24 SMs"
_LL_EXCHANGE = "DeepEP V1 low latency, EP32 and EP128"

DIRECT: Final = (
    "direct call",
    "direct rate",
    "own copy",
    "small call",
    "small slowdown",
    "tiny call",
    "tiny slowdown",
)
"""Constants of NCCL's all-to-all inside nodes of a technology: for messages of three sizes, as under Simple and LL."""

FITTED: Final[Mapping[str, Fitted]] = {
    "tcpxo LL hop": Fitted(65.2e-6, "nccl_busbw", f"{_A3}, 8 B to 16 MiB", 5.0e-6),
    "tcpxo LL rate": Fitted(0.0962, "nccl_busbw", f"{_A3}, 8 B to 16 MiB", 0.26),
    "tcpxo Simple hop": Fitted(412e-6, "nccl_busbw", f"{_A3}, 32 MiB to 8 GiB", 14.0e-6),
    "tcpxo Simple rate": Fitted(0.914, "nccl_busbw", f"{_A3}, 32 MiB to 8 GiB", 0.9),
    "ib-ndr Simple rate": Fitted(0.957, "nccl_busbw", "H100, 8 nodes, all-reduce, 512 MiB to 2 GiB", 0.9),
    "nvlink4 NVLS loop": Fitted(1.856e06, "aic_collectives", "8 x H100, all-reduce, 8 MiB to 512 MiB", 1.05e6),
    "nvlink5 NVLS loop": Fitted(3.368e06, "aic_collectives", _NVL72, 2.1e6),
    "nvlink5-nvl72 NVLS rate": Fitted(0.7263, "nccl_busbw", _NVL72, 0.74),
    "nvlink3 send rate": Fitted(0.641, "nccl_busbw", "8 x A100, sendrecv, 256 MiB to 1 GiB", 0.8),
    "nvlink4 copy rate": Fitted(0.876, "nccl_busbw", "H200, pairwise copy, one way and both ways", 0.824),
    "xgmi3 Simple rate": Fitted(0.722, "nccl_busbw", "MI300X, all-reduce, 2 and 8 GPUs, 4 GiB", 0.8),
    "nvlink3 ring LL base": Fitted(9.948e-06, "aic_collectives", f"A100, {_RINGS}", 6.6e-6),
    "nvlink3 ring LL hop": Fitted(9.264e-07, "aic_collectives", f"A100, {_RINGS}", 0.6e-6),
    "nvlink3 ring LL rate": Fitted(9.973e10, "aic_collectives", f"A100, {_RINGS}", 8.77e10),
    "nvlink3 ring LL128 base": Fitted(1.224e-05, "aic_collectives", f"A100, {_RINGS}", 14e-6),
    "nvlink3 ring LL128 rate": Fitted(0.5528, "aic_collectives", f"A100, {_RINGS}", 0.736),
    "nvlink3 ring Simple base": Fitted(2.499e-05, "aic_collectives", f"A100, {_RINGS}", 8.4e-6),
    "nvlink3 ring Simple hop": Fitted(5.34e-06, "aic_collectives", f"A100, {_RINGS}", 3.4e-6),
    "nvlink3 ring Simple rate": Fitted(0.7793, "aic_collectives", f"A100, {_RINGS}", 0.8),
    "nvlink3 ring ends": Fitted(0.5748, "aic_collectives", f"A100, {_RINGS}", 0.01),
    "nvlink4 ring LL base": Fitted(5.06e-06, "aic_collectives", f"H100, {_RINGS}", 6.6e-6),
    "nvlink4 ring LL hop": Fitted(8.544e-07, "aic_collectives", f"H100, {_RINGS}", 0.6e-6),
    "nvlink4 ring LL rate": Fitted(1.517e11, "aic_collectives", f"H100, {_RINGS}", 1.41e11),
    "nvlink4 ring LL128 base": Fitted(6.95e-06, "aic_collectives", f"H100, {_RINGS}", 14e-6),
    "nvlink4 ring LL128 rate": Fitted(0.666, "aic_collectives", f"H100, {_RINGS}", 0.758),
    "nvlink4 ring Simple base": Fitted(1.312e-05, "aic_collectives", f"H100, {_RINGS}", 8.4e-6),
    "nvlink4 ring Simple hop": Fitted(2.889e-06, "aic_collectives", f"H100, {_RINGS}", 3.4e-6),
    "nvlink4 ring Simple rate": Fitted(0.8098, "aic_collectives", f"H100, {_RINGS}", 0.824),
    "nvlink4 ring ends": Fitted(0.5155, "aic_collectives", f"H100, {_RINGS}", 0.01),
    "nvlink5 ring LL base": Fitted(8.651e-06, "aic_collectives", f"B200, {_RINGS}", 6.6e-6),
    "nvlink5 ring LL hop": Fitted(1.174e-06, "aic_collectives", f"B200, {_RINGS}", 0.6e-6),
    "nvlink5 ring LL rate": Fitted(2.444e11, "aic_collectives", f"B200, {_RINGS}", 2.82e11),
    "nvlink5 ring Simple base": Fitted(1.552e-05, "aic_collectives", f"B200, {_RINGS}", 8.4e-6),
    "nvlink5 ring Simple hop": Fitted(9.906e-06, "aic_collectives", f"B200, {_RINGS}", 3.4e-6),
    "nvlink5 ring Simple rate": Fitted(0.7312, "aic_collectives", f"B200, {_RINGS}", 0.802),
    "nvlink5 ring ends": Fitted(0.5139, "aic_collectives", f"B200, {_RINGS}", 0.01),
    "nvlink4 NVLS call": Fitted(1.503e-05, "aic_collectives", "8 x H100, all-reduce, 8 MiB to 512 MiB", 25e-6),
    "nvlink5 NVLS call": Fitted(3.376e-05, "aic_collectives", "8 x B200, all-reduce, 8 MiB to 512 MiB", 25e-6),
    "nvlink3 direct call": Fitted(2.85e-05, "aic_collectives", f"A100, {_AIC}", 1.5e-05),
    "nvlink3 direct rate": Fitted(0.6759, "aic_collectives", f"A100, {_AIC}", 0.8),
    "nvlink3 own copy": Fitted(0.2373, "aic_collectives", f"A100, {_AIC}", 0.01),
    "nvlink3 small call": Fitted(1.159e-05, "aic_collectives", f"A100, {_AIC}", 1e-05),
    "nvlink3 small slowdown": Fitted(2.329, "aic_collectives", f"A100, {_AIC}", 2),
    "nvlink3 tiny call": Fitted(8.92e-06, "aic_collectives", f"A100, {_AIC}", 6e-06),
    "nvlink3 tiny slowdown": Fitted(8.283, "aic_collectives", f"A100, {_AIC}", 20),
    "nvlink4 direct call": Fitted(3.025e-05, "aic_collectives", f"H100, {_AIC}", 1.5e-05),
    "nvlink4 direct rate": Fitted(0.7243, "aic_collectives", f"H100, {_AIC}", 0.824),
    "nvlink4 own copy": Fitted(0.1165, "aic_collectives", f"H100, {_AIC}", 0.01),
    "nvlink4 small call": Fitted(8.6e-06, "aic_collectives", f"H100, {_AIC}", 1e-05),
    "nvlink4 small slowdown": Fitted(1.286, "aic_collectives", f"H100, {_AIC}", 2),
    "nvlink4 tiny call": Fitted(3.185e-06, "aic_collectives", f"H100, {_AIC}", 6e-06),
    "nvlink4 tiny slowdown": Fitted(48.12, "aic_collectives", f"H100, {_AIC}", 20),
    "nvlink5 direct call": Fitted(3.581e-05, "aic_collectives", f"B200, {_AIC}", 1.5e-05),
    "nvlink5 direct rate": Fitted(0.7404, "aic_collectives", f"B200, {_AIC}", 0.802),
    "nvlink5 own copy": Fitted(0.8748, "aic_collectives", f"B200, {_AIC}", 0.01),
    "nvlink5 small call": Fitted(1.317e-05, "aic_collectives", f"B200, {_AIC}", 1e-05),
    "nvlink5 small slowdown": Fitted(1.466, "aic_collectives", f"B200, {_AIC}", 2),
    "nvlink5 tiny call": Fitted(6.987e-06, "aic_collectives", f"B200, {_AIC}", 6e-06),
    "nvlink5 tiny slowdown": Fitted(27.45, "aic_collectives", f"B200, {_AIC}", 20),
    "ib direct call": Fitted(0.0001389, "simai_ata_ratio", _ATA, 30e-6),
    "ib direct rate": Fitted(0.757, "simai_ata_ratio", _ATA, 0.9),
    "nvlink4-h800 DeepEP rate": Fitted(0.684, "deepep", "DeepEP V1, EP8, dispatch and combine", 0.8),
    "nvlink5 DeepEP rate": Fitted(0.720, "deepep", "DeepEP V2, SM100, EP8, 64 SMs", 0.8),
    "ib DeepEP rate": Fitted(0.884, "deepep", f"DeepEP V1 and V2, between nodes; {_LL_EXCHANGE}", 0.98),
    "DeepEP SM rate": Fitted(24.2e9, "deepep", "DeepEP V2, EP8 with 24 SMs, EP8x2 with 12, EP8x4 with 6", 1e12),
    "nvlink4 DeepEP normal rate": Fitted(0.6462, "aic_deepep", f"H100, 1 node, {_NORMAL}", 0.684),
    "DeepEP normal SM rate": Fitted(1.596e10, "aic_deepep", f"H100, 1 node, {_NORMAL}", 24.2e9),
    "DeepEP normal SM rate across": Fitted(8.867e9, "aic_deepep", f"H100, 2 and 4 nodes, {_NORMAL}", 24.2e9),
    "DeepEP normal call": Fitted(2.446e-05, "aic_deepep", f"H100, 1 node, {_NORMAL}", 1e-6),
    "DeepEP normal call across": Fitted(2.605e-05, "aic_deepep", f"H100, 2 and 4 nodes, {_NORMAL}", 1e-6),
    "DeepEP normal combine": Fitted(2.544e-05, "aic_deepep", f"H100, 1, 2 and 4 nodes, {_NORMAL}", 1e-6),
    "nvlink5 HybridEP rate": Fitted(0.7716, "mcore_moe_report", "HybridEP dispatch, GB200, EP64", 0.802),
    "low_latency base": Fitted(15.0e-6, "deepep", _LL_EXCHANGE, 0.0),
}
"""Constants by technology and protocol."""

SM_RATES: Final = {
    **{
        name: FITTED[name].value for name in ("DeepEP SM rate", "DeepEP normal SM rate", "DeepEP normal SM rate across")
    },
    # 4 to 16 SMs saturate the links (NVIDIA, "Optimizing communication for mixture-of-experts training with hybrid
    # expert parallel", 2026): at least the 694 GB/s that a GB200 reaches, over 16
    "HybridEP SM rate": 45e9,
}
"""What one SM of a dispatch or combine sends, and receives at the same time, by library."""
