"""What the software does while a model runs: attention kernels, and whatever else a framework and its version decide.

A scenario's section `runtime:` has the fields of `Runtime` as keys. `runtime.preset` names an entry of `RUNTIMES`,
which fills the keys that are not given; without a preset `default_runtime` names the entry.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "ATTENTIONS",
    "DISPATCHERS",
    "GRAPH_SCOPES",
    "HOST_SPREADS",
    "IDEAL",
    "LAUNCHES",
    "RUNTIMES",
    "UNEXPLAINED",
    "HostFactors",
    "Runtime",
    "Unexplained",
    "default_runtime",
]

ATTENTIONS: Final = ("fused", "unfused")
"""Kinds of attention kernels: scores stay inside of a kernel, or pass through memory."""

LAUNCHES: Final = ("eager", "cuda_graphs")
"""How the host issues kernels: one by one, or a graph of many at a time."""

GRAPH_SCOPES: Final = ("attn", "mamba", "mlp", "moe_router", "moe_preprocess", "layer")
"""What CUDA graphs cover, by Megatron Core's names: attention, a recurrent mixer, a dense FFN, the router with shared
experts, the permutation before the dispatch; `layer`: all of a layer."""

DISPATCHERS: Final[dict[str, tuple[str, ...]]] = {
    "alltoall": ("direct",),
    "deepep": ("deepep", "hierarchical", "low_latency"),
    "hybridep": ("hybridep",),
}
"""What sends tokens to experts, by name: NCCL's all-to-all, DeepEP, or HybridEP; with the algorithms of
`network.all_to_all` that it is, the usual one first. SMs, copies and waits of the host are those of the algorithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the software does."""

    attention: str | None = None
    """`fused`: scores stay in the attention kernel; `unfused`: they are written and read; null: as
    `model.fused_attention` says."""
    fp8_recipe: str | None = None
    """How tensors are scaled for products in fp8: `none`, `tensorwise`, `blockwise` or `mxfp8`; null: `tensorwise`
    where `model.dtype` is fp8, and `none` elsewhere."""
    fp8_param_gather: bool = False
    """Whether weights of layers are kept in fp8 alone and gathered so, as Megatron-LM's `--fp8-param-gather`."""
    gather_dtype: str | None = None
    """Type in which sequence parallelism gathers operands of fp8 products: `fp8`, as Transformer Engine 2 does, or
    `bf16`, as Transformer Engine 1 does; null: fp8."""
    dispatch_dtype: str | None = None
    """Type in which tokens, and gradients of their results, are sent to experts: `bf16` or `fp8`; null: bf16. What
    comes back from experts is sent in bf16."""
    overlap_grad_reduce: bool = False
    """Whether gradients are reduced next to the last backward pass, bucket by bucket, as Megatron-LM does."""
    overlap_param_gather: bool = False
    """Whether ZeRO 1 gathers parameters next to the first forward pass of the next step, bucket by bucket."""
    overlap_tp_backward: bool = True
    """Whether, without pieces, the backward collectives over TP run next to the products of a block's first matrix, as
    Megatron-LM's asynchronous all-reduce and sequence parallelism do; else all wait for them."""
    fused_wgrad: bool = True
    """Whether products add gradients of weights to the sum of the microbatches (Megatron-LM's
    `gradient_accumulation_fusion`); else a kernel of its own adds each. Grouped products of experts always do."""
    overlap_tp: bool = False
    """Whether sequence parallelism exchanges in pieces next to products, as Transformer Engine's userbuffers do."""
    dispatcher: str | None = None
    """What sends tokens to experts: `alltoall` (NCCL), `deepep` or `hybridep`; null: as `network.all_to_all` says."""
    overlap_moe: bool = False
    """Whether tokens of a forward pass are exchanged next to a backward pass of another microbatch, and the other way
    round, as Megatron Core's `overlap_moe_expert_parallel_comm`."""
    overlap_shared_experts: bool = False
    """Whether shared experts run next to the exchanges of tokens, as Megatron Core's `moe_shared_expert_overlap`."""
    delay_wgrad: bool = False
    """Whether products that make gradients of weights run next to the next exchange of a backward pass: with
    `overlap_moe` (Megatron Core's `delay_wgrad_compute`) and DualPipe all of them, else those of experts alone
    (`overlap_dispatch_backward_with_experts_wgrad`)."""
    sustained_clock: bool = False
    """Whether products and attention run at the clock that a GPU keeps in a long run, where it is known."""
    kernel_rate: float = 1.0
    """Rate of all kernels over that of the measured ones: below 1 with older libraries, 0 to 1."""
    overlap_p2p: bool = True
    """Whether a stage goes on while it sends to another; else a send occupies its stage, and the host waits for it."""
    nvls: bool = True
    """Whether NCCL may let NVSwitches reduce and multicast (NCCL_NVLS_ENABLE) where it chooses the algorithm."""
    collective_sms: int = 0
    """Multiprocessors that a collective of NCCL's takes on each rank while it runs next to kernels."""
    launch: str = "eager"
    """`eager`: the host issues each kernel; `cuda_graphs`: those in `graph_scope` by one launch."""
    graph_scope: tuple[str, ...] = ()
    """What CUDA graphs cover (with `launch: cuda_graphs`)."""
    fused_cross_entropy: bool = False
    """Whether the loss is one pass over the logits and one that writes their gradient (Transformer Engine's fused cross
    entropy); else PyTorch's kernels one after another, as Megatron-LM without `--cross-entropy-loss-fusion`."""
    unfused_ops: tuple[str, ...] = ()
    """Elementwise work that runs as kernels of its own: `rotary`, `expert_clamp`, `expert_bias`."""
    checks_loss: bool = False
    """Whether the host looks for a loss that is no number, and so waits for each microbatch's."""
    kernel_launch_s: float = 0.0
    """Time of the host for each kernel, with the Python around it."""
    collective_launch_s: float = 0.0
    """Time of the host for each collective."""
    pass_host_s: float = 0.0
    """Time of the host for each pass, forward or backward, of a microbatch."""

    counts_host_s: float = 0.0
    """Time of the host between the counts of tokens, which it waits for in a forward pass, and the exchange of tokens:
    the GPU has nothing to do meanwhile."""

    @property
    def has_host(self) -> bool:
        """Whether the host takes any time."""
        return max(self.kernel_launch_s, self.collective_launch_s, self.pass_host_s, self.counts_host_s) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFactors:
    """What times of the host are multiplied by; 1 is the runtime's own figure."""

    kernel_launch: float = 1.0
    """Of the time of the host for each kernel."""
    collective_launch: float = 1.0
    """Of the time of the host for each collective."""
    pass_host: float = 1.0
    """Of the time of the host for each pass."""
    counts_host: float = 1.0
    """Of the time of the host between counts of tokens and their exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """How far published steps are from modelled ones, beyond what the intervals of constants explain."""

    common: float
    """How far above 1 the 95th percentile of a factor is that all steps of a cluster have in common."""
    own: float
    """The same of a factor that each strategy has of its own."""
    num_tables: int
    """Published tables."""
    source: str
    """Which they are."""

    @property
    def own_ends(self) -> tuple[float, float]:
        """5th and 95th percentile of a strategy's own factor."""
        return 1 / (1 + self.own), 1 + self.own

    @property
    def both_ends(self) -> tuple[float, float]:
        """5th and 95th percentile of the product of both factors."""
        above = math.exp(math.hypot(math.log1p(self.common), math.log1p(self.own)))
        return 1 / above, above

    def to_dict(self, preset: str) -> dict[str, object]:
        """Return what the JSON says of it."""
        return {
            "preset": preset,
            "interval": list(self.both_ends),
            "own_interval": list(self.own_ends),
            "num_tables": self.num_tables,
            "source": self.source,
        }


IDEAL: Final = "ideal"
"""The preset under which nothing between kernels takes time."""

_EAGER_KERNEL_S: Final = 60e-6
"""3.04 ms that a layer and microbatch take at least on one node (forward, recomputation, backward; vTrain's measured
iterations of Megatron-DeepSpeed on A100s, TP1) over the 51 kernels that are modelled of them."""
_EAGER_COLLECTIVE_S: Final = 60e-6
"""What TP2 and TP4 add to these 3.04 ms, 0.31 and 0.41 ms, over 6 collectives."""
_DEEPSPEED_PASS_S: Final = 1.2e-3
"""Fitted to the fitted halves of vTrain's steps (`benchmarks/fit_software.py`): a microbatch adds 2 to 7 ms there,
embedding and output head included."""
_MEGATRON_PASS_S: Final = 0.8e-3
"""Fitted to the fitted half of Zero Bubble's steps, whose sends block: an interleaved pipeline has three times the
passes of 1F1B (`benchmarks/fit_software.py`)."""
_PLAIN_KERNEL_S: Final = 170e-6
"""Fitted to the fitted half of SimuMax's steps on B200, of which TP8 waits for the host (`benchmarks/fit_software.py`):
modules of Transformer Engine, in processes that torchrun leaves unbound. Gaps of 3.5 ms in the forward pass of one
layer's attention are published (Megatron Core's report, arXiv:2603.07685). Where processes are bound to the cores next
to their GPU and garbage is collected by hand, as Megatron-Bridge's scripts do, steps of 4.6 ms a layer leave room for
130 us at most (Megatron-Core on H100, 32 B)."""
_KERNEL_RATE_DEEPSPEED: Final = 0.96
"""Fitted likewise to the fitted halves of vTrain's steps: a fork of Megatron-LM of 2021."""
_KERNEL_RATE_2021: Final = 0.94
"""Fitted to the fitted half of Megatron's steps of 2021: libraries of the A100's first year, against steps of 2022. Any
value from 0.92 to 0.95 fits the two tables together as well; table 1 alone takes 0.92, table 2 alone 1."""

_COUNTS_HOST_S: Final = 2.65e-3
"""Fitted by `benchmarks/fit_counts_host.py` to measured steps of Megatron Core with experts, eager, on H100 and B200:
2.65 ms, and 2.65, 2.55 and 4.15 ms where one of three tables is left out. Launch gaps of 3.5 ms in the forward pass of
one layer's attention are published too (6 to 2.5 ms with CUDA graphs; Megatron Core's report, arXiv:2603.07685)."""

HOST_SPREADS: Final[dict[str, tuple[float, int, str]]] = {
    "kernel_launch": (
        0.45,
        4,
        "vTrain on one node: 3.04, 3.35, 3.45 and 4.99 ms a layer at TP1, 2, 4 and 8, next to 60 us",
    ),
    "collective_launch": (
        0.15,
        2,
        "vTrain on one node: what TP2 and TP4 add, 52 and 68 us a collective, next to 60 us",
    ),
    "pass_host": (
        1.0,
        2,
        "vTrain on one node: half of 2 and of 7 ms that a microbatch adds, 1 and 3.5 ms, next to 0.8 and 1.2 ms",
    ),
    "counts_host": (0.57, 3, "2.65 ms, and 2.55 to 4.15 ms where one of three tables of Megatron Core is left out"),
}
"""Field of `HostFactors` -> how far above 1 its 95th percentile is, the groups of measurements, and their source. All
but the last are hosts of 2022: how much faster others are is not in it."""

UNEXPLAINED: Final[dict[str, Unexplained]] = {
    "megatron-2022": Unexplained(
        common=0.0, own=0.03, num_tables=3, source="Korthikanti 2022, table 5; Zero Bubble, tables 4 and 9"
    ),
    "deepspeed-2022": Unexplained(
        common=0.0, own=0.17, num_tables=3, source="vTrain on one node, and on 64 and 512 GPUs"
    ),
    "megatron-core-2025": Unexplained(
        common=0.12,
        own=0.03,
        num_tables=7,
        source="Megatron-Bridge (3 tables), SimuMax B200 with experts, NeMo, weak scaling on H100, overlap of experts",
    ),
}
"""Preset -> what its published steps leave (`benchmarks/step_spreads.py`, of the fitted half of each table)."""

_COLLECTIVE_SMS: Final = 16
"""What NCCL takes or more, without SHARP (NVIDIA, "Enabling fast inference and resilient training with NCCL 2.27",
2025: "from 16 or more to 6 or fewer")."""

_EAGER: Final = Runtime(
    sustained_clock=True,
    collective_sms=_COLLECTIVE_SMS,
    kernel_launch_s=_EAGER_KERNEL_S,
    collective_launch_s=_EAGER_COLLECTIVE_S,
    pass_host_s=_MEGATRON_PASS_S,
    overlap_p2p=False,
)
"""PyTorch without graphs. Fitted once, on the A100 hosts of 2022: taken for other hosts for want of measurements."""

RUNTIMES: Final[dict[str, Runtime]] = {
    IDEAL: Runtime(),  # nothing between kernels takes time: what any software can at best reach
    # Narayanan et al. 2021 and Korthikanti et al. 2022: before flash attention; sends are batched and block
    "megatron-2021": replace(
        _EAGER, attention="unfused", overlap_tp_backward=False, fused_wgrad=False, kernel_rate=_KERNEL_RATE_2021
    ),
    "megatron-2022": replace(_EAGER, attention="unfused"),
    # Megatron-DeepSpeed, as vTrain (Bang et al., MICRO 2024) measured it
    "deepspeed-2022": replace(
        _EAGER,
        attention="unfused",
        overlap_tp_backward=False,
        fused_wgrad=False,
        kernel_rate=_KERNEL_RATE_DEEPSPEED,
        pass_host_s=_DEEPSPEED_PASS_S,
    ),
    # Megatron Core with the settings of Megatron Bridge's recipes: a distributed optimizer that overlaps; sends overlap
    # with virtual stages (`overlap_p2p_comm`), and block without; `check_for_nan_in_loss` is on. NVLS is off: it takes
    # memory (Megatron-Bridge, scripts/performance/utils/executors.py: NCCL_NVLS_ENABLE). Products of Hopper and
    # Blackwell, which occupy all SMs to their end, wait for the SMs of TP's collectives, which start first: inferred
    # from SimuMax's steps, not measured
    "megatron-core-2025": replace(
        _EAGER,
        overlap_tp_backward=False,
        overlap_grad_reduce=True,
        overlap_param_gather=True,
        nvls=False,
        overlap_p2p=True,
        checks_loss=True,
        counts_host_s=_COUNTS_HOST_S,
    ),
    # Megatron-LM's pretrain_gpt.py as torchrun starts it: nothing overlaps that is not switched on, NCCL chooses freely
    # (MooreThreads/SimuMax, simu_tools/megatron_scripts/scripts/run_pretrain_llama3.sh)
    "megatron-lm-2025": replace(_EAGER, overlap_tp_backward=False, checks_loss=True, kernel_launch_s=_PLAIN_KERNEL_S),
    # whole layers in (piecewise) graphs, as vLLM captures them
    "vllm": replace(_EAGER, launch="cuda_graphs", graph_scope=("layer",), pass_host_s=0.0, sustained_clock=False),
}
"""What frameworks do, by name of the preset; the source of each value stands next to it."""


def default_runtime(*, trains: bool, has_fused_attention: bool) -> str:
    """Return the preset of a scenario that names none: what most people who train such a model run.

    A forward pass has none: claims about serving are judged by what any software can at best reach.

    >>> default_runtime(trains=True, has_fused_attention=True), default_runtime(trains=False, has_fused_attention=True)
    ('megatron-core-2025', 'ideal')
    """
    if not trains:
        return IDEAL
    return "megatron-core-2025" if has_fused_attention else "megatron-2022"
