"""The FFN of a layer: dense, or a mixture of routed and shared experts.

Model
-----
    parameters   (3 if gated else 2) * hidden * width                       of a dense FFN or of one expert
    mixture      router of hidden * experts, experts such FFNs, and a shared FFN of all shared experts' width
                 + hidden                                                   gate of the shared experts, where it has one
                 + experts                                                  bias of the router, where it has one
                 + 2 * hidden * latent                                      to and from the latent, where it has one
    dense FFN    up [T, h] x [h, w / t] -> activation -> down [T, w / t] x [w / t, h]
    experts      grouped products, of the tokens that arrived for each local expert; where a rank has several, the
                 copies that came from each rank are sorted by expert before, and put back after. Where tokens arrive
                 as their senders have them, they are permuted there. All of this in the type in which they are sent

Latent experts (LatentMoE) have inputs and outputs of a smaller width: a token is projected down before it is sent to
its experts, and their sum is projected up after it came back. Router and shared experts see the whole hidden state.

Assumptions
-----------
Biases and limits of experts cost what `workloads.fusions` says. Elementwise kernels read and write each tensor once.
Both projections of latent experts are whole on every TP rank, and both are computed where the router is.

References
----------
NVIDIA, "Nemotron 3 Super: open, efficient mixture-of-experts hybrid Mamba-Transformer model for agentic reasoning",
2026, arXiv 2604.12374 (latent experts).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workloads.blocks.recompute import Recompute
from workloads.formats import BF16, Formats
from workloads.fusions import ALL_FUSED, Fusions
from workloads.kernels import MEMORY_OPERATIONS, Gemm, Kernel, Memory

__all__ = ["DenseFfn", "Ffn", "MoeFfn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFfn:
    """A dense FFN.

    >>> small = DenseFfn(hidden=4, width=8, is_gated=False, dtype_bytes=2, has_dropout=False)
    >>> small.num_params  # two matrices of 4 x 8
    64
    """

    hidden: int
    width: int
    """Width over all ranks."""
    is_gated: bool
    dtype_bytes: int
    has_dropout: bool
    """Whether masks of dropout are kept."""
    has_bias: bool = False
    """Whether both products have biases: added with the activation, and with the residual stream."""
    formats: Formats = BF16
    """Types of operands."""
    fusions: Fusions = ALL_FUSED
    """What software fuses."""

    @property
    def num_gates(self) -> int:
        """Outputs of the up projection, in widths."""
        return 2 if self.is_gated else 1

    @property
    def inner_width(self) -> int:
        """Elements of up projection and activation of one token, over all ranks."""
        return (self.num_gates + 1) * self.width

    @property
    def activation(self) -> str:
        """The kernel of the activation, of `MEMORY_OPERATIONS`."""
        return "swiglu" if self.is_gated else "gelu"

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return (self.num_gates + 1) * self.hidden * self.width

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets: all."""
        return self.num_params

    @property
    def num_active_matrix_params(self) -> int:
        """Parameters of matrix products that one token meets: all."""
        return self.num_params

    def num_recomputed_params(self, recompute: Recompute) -> int:
        """Return the parameters whose products a backward pass recomputes for a token."""
        return self.num_params if recompute.recomputes("mlp") else 0

    def num_params_per_rank(self, *, tp: int, ep: int, shared_tp: int, expert_replicas: int = 0) -> tuple[int, int]:
        """Return the dense and the expert parameters of a rank; see `MoeFfn`."""
        del ep, shared_tp, expert_replicas
        return self.num_params // tp, 0

    def kernels(self, tokens: int, *, tp: int = 1, kind: str = "dense_ffn") -> list[Kernel]:
        """Return the forward kernels on one rank, which belong to part `kind` of the account of time."""
        width, linear = math.ceil(self.width / tp), self.formats.linear
        return [
            *linear(kind=kind, m=tokens, n=self.num_gates * width, k=self.hidden, follows_norm=True),
            self._activation(kind, tokens, width),
            *linear(kind=kind, m=tokens, n=self.hidden, k=width),
        ]

    def _activation(self, kind: str, tokens: int, width: int) -> Memory:
        """Return the activation; backward, the gradient of the bias reads the gradient once more."""
        inputs = tokens * self.num_gates * width * self.dtype_bytes
        num_bytes = float(inputs + tokens * width * self.dtype_bytes)
        kernel = Memory(kind=kind, operation=self.activation, rows=tokens, width=width, num_bytes=num_bytes)
        if not self.has_bias:
            return kernel
        return replace(kernel, backward_bytes=MEMORY_OPERATIONS[self.activation].backward * num_bytes + inputs)

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    def kept_bytes(
        self, recompute: Recompute, *, tp: int, sequence_shards: int, expert_shards: float | None = None
    ) -> float:
        """Return the bytes of norm and FFN that are kept for the backward pass."""
        del expert_shards
        hidden, inside = self.hidden / sequence_shards, self.inner_width / tp
        kept = hidden
        is_recomputed = recompute.recomputes("mlp")
        if is_recomputed or not recompute.recomputes("layernorm"):
            kept += hidden
        operands = hidden if is_recomputed or not recompute.recomputes("layernorm") else 0.0
        operands += 0.0 if is_recomputed else self.width / tp
        in_fp8 = self.formats.kept_bytes(operands)
        masks = hidden if self.has_dropout else 0.0
        return (kept + (0 if is_recomputed else inside)) * self.dtype_bytes + masks + in_fp8

    def weight_pass_elements(
        self, *, tp: int, sequence_shards: int, expert_shards: float | None = None
    ) -> tuple[float, float]:
        """Return the elements kept from B to W, outside of routed experts and in them."""
        del expert_shards
        return 2 * self.hidden / sequence_shards + self.inner_width / tp, 0.0

    def gradient_elements(self, tp: int, *, expert_shards: float | None = None) -> float:
        """Return the gradients inside, as large as up projection and activation."""
        del expert_shards
        return self.inner_width / tp

    def working_elements(
        self, *, tp: int, sequence_shards: int, skew: float = 1.0, expert_shards: float | None = None
    ) -> float:
        """Return the elements of a forward pass: norm, input, inside."""
        del skew, expert_shards
        return self.hidden / sequence_shards + self.hidden / sequence_shards + self.inner_width / tp


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeFfn:
    """Routed experts, of which a token meets `top_k`, and shared experts, which every token meets."""

    hidden: int
    """Width of the hidden state, which router and shared experts see."""
    expert: DenseFfn
    """One expert; all experts of the layer are alike. Its inputs have the width of the latent, where there is one."""
    experts: int
    """Routed experts of the layer, on all ranks."""
    shared: DenseFfn | None
    """The FFN of all shared experts side by side; None: no shared experts."""
    top_k: int
    has_shared_gate: bool = False
    """Whether the output of the shared experts is multiplied by a gate of each token."""
    has_router_bias: bool = False
    """Whether a bias of each expert takes part in the choice of experts."""

    @property
    def has_dropout(self) -> bool:
        """Whether masks of dropout are kept."""
        return self.expert.has_dropout

    @property
    def dtype_bytes(self) -> int:
        """Bytes of an element."""
        return self.expert.dtype_bytes

    @property
    def has_latent(self) -> bool:
        """Whether experts see a projection of the hidden state."""
        return self.expert.hidden != self.hidden

    @property
    def num_router_params(self) -> int:
        """Parameters of the router, of the gate of the shared experts, and of the projections of latent experts."""
        bias = self.experts if self.has_router_bias else 0
        latent = 2 * self.hidden * self.expert.hidden if self.has_latent else 0
        return self.hidden * (self.experts + self.has_shared_gate) + bias + latent

    @property
    def num_shared_params(self) -> int:
        """Parameters of the shared experts."""
        return 0 if self.shared is None else self.shared.num_params

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.experts * self.expert.num_params + self.num_shared_params + self.num_router_params

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets, all of the router among them."""
        return self.top_k * self.expert.num_params + self.num_shared_params + self.num_router_params

    @property
    def num_active_matrix_params(self) -> int:
        """Parameters of matrix products that one token meets: all but the bias of the router."""
        return self.num_active_params - (self.experts if self.has_router_bias else 0)

    def num_recomputed_params(self, recompute: Recompute) -> int:
        """Return the parameters whose products a backward pass recomputes for a token."""
        if recompute.recomputes("moe"):
            return self.num_active_matrix_params
        return self.num_shared_params if recompute.recomputes("shared_experts") else 0

    def num_params_per_rank(self, *, tp: int, ep: int, shared_tp: int, expert_replicas: int = 0) -> tuple[int, int]:
        """Return the dense and the expert parameters of a rank: router and shared experts apart from routed experts.

        Parameters
        ----------
        tp, ep
            Tensor-parallel and expert-parallel ranks; the router is not split over them.
        shared_tp
            Ranks that the width of shared experts is split over.
        expert_replicas
            Replicas of routed experts, beyond one copy of each, over all ranks of an EP group.
        """
        del tp
        dense = self.num_router_params + self.num_shared_params // shared_tp
        return dense, self.expert.num_params * (self.experts + expert_replicas) // ep

    def router_kernels(self, tokens: int) -> list[Kernel]:
        """Return the forward kernels of router, gate of the shared experts and latent for the tokens of a rank."""
        # In 4 bytes: softmax reads and writes, the choice reads, and writes probabilities and a map of 1 byte.
        num_bytes, backward_bytes = (float(size * tokens * self.experts) for size in (17, 12))
        choice = Memory(
            kind="other_compute",
            operation="router",
            rows=tokens,
            width=self.experts,
            num_bytes=num_bytes,
            backward_bytes=backward_bytes,
        )
        width, latent = self.experts + self.has_shared_gate, self.expert.hidden
        router: list[Kernel] = [Gemm(kind="other_compute", m=tokens, n=width, k=self.hidden), choice]
        if not self.has_latent:
            return router
        return [
            *router,
            Gemm(kind="other_compute", m=tokens, n=latent, k=self.hidden),
            Gemm(kind="other_compute", m=tokens, n=self.hidden, k=latent),
        ]

    def shared_kernels(self, tokens: int, *, tp: int = 1) -> list[Kernel]:
        """Return the forward kernels of shared experts, their width split over `tp` ranks."""
        return [] if self.shared is None else self.shared.kernels(tokens, tp=tp)

    def shared_halves(self, tokens: int) -> tuple[list[Kernel], list[Kernel]]:
        """Return the forward kernels of shared experts up to their activation, and after it."""
        kernels = self.shared_kernels(tokens)
        activations = [k.operation == self.expert.activation if isinstance(k, Memory) else False for k in kernels]
        end = activations.index(True) + 1 if kernels else 0
        return kernels[:end], kernels[end:]

    def expert_kernels(self, tokens: NDArray[np.int64], *, arrival: str = "chunks") -> list[Kernel]:
        """Return the kernels of tokens that arrived for each local expert of each rank, of shape [R, E].

        `arrival` is a key of `ARRIVALS` (`workloads.collectives.settings`): how the copies of tokens lie.
        """
        expert, copies, grouped = self.expert, tokens.sum(axis=-1).astype(float), self.expert.formats.grouped
        kernels: list[Kernel] = [
            *grouped(
                kind="expert",
                tokens=tokens,
                n=expert.num_gates * expert.width,
                k=expert.hidden,
                follows_dispatch=True,
            ),
            *self.expert_activation(copies),
            *grouped(kind="expert", tokens=tokens, n=expert.hidden, k=expert.width),
            *self._unfused("expert_bias", copies, expert.hidden),
        ]
        if arrival == "experts" or (arrival == "chunks" and tokens.shape[-1] == 1):
            return kernels
        back = copies * (2.0 * expert.hidden * expert.dtype_bytes)
        sent = copies * (2.0 * expert.hidden * expert.formats.dispatch_bytes(expert.dtype_bytes))
        first, last = ("sort_chunks", "sort_chunks") if arrival == "chunks" else ("permute", "unpermute")
        return [self._ordering(first, copies, sent, back), *kernels, self._ordering(last, copies, back, sent)]

    def _ordering(
        self, operation: str, copies: NDArray[np.float64], num_bytes: NDArray[np.float64], back: NDArray[np.float64]
    ) -> Memory:
        """Return a kernel that puts copies of tokens in another order, and `back` bytes of their gradients."""
        width = self.expert.hidden
        return Memory(
            kind="expert", operation=operation, rows=copies, width=width, num_bytes=num_bytes, backward_bytes=back
        )

    def sliced(self, etp: int) -> "MoeFfn":
        """Return the layer as one of `etp` ranks has it, each with a slice of the width of every routed expert.

        >>> expert = DenseFfn(hidden=4, width=8, is_gated=False, dtype_bytes=2, has_dropout=False)
        >>> MoeFfn(hidden=4, expert=expert, experts=2, shared=None, top_k=1).sliced(2).expert.width
        4
        """
        return self if etp == 1 else replace(self, expert=replace(self.expert, width=self.expert.width // etp))

    def expert_activation(self, copies: float | NDArray[np.float64]) -> list[Memory]:
        """Return the activation of copies of tokens in the experts, of every rank alike or of each, of shape [R]."""
        expert = self.expert
        num_bytes = copies * float(expert.inner_width * expert.dtype_bytes)
        return [
            *self._unfused("expert_clamp", copies, expert.num_gates * expert.width),
            Memory(kind="expert", operation=expert.activation, rows=copies, width=expert.width, num_bytes=num_bytes),
        ]

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    @property
    def copy_elements(self) -> int:
        """Elements of one copy of a token in an expert: its input, up projection and activation."""
        return self.expert.hidden + self.expert.inner_width

    def kept_bytes_per_copy(self, recompute: Recompute) -> float:
        """Return the bytes that the host of an expert keeps of each copy of a token that arrived."""
        if recompute.kind == "full" or recompute.recomputes("moe"):
            return 0.0
        expert = self.expert
        inside = (expert.num_gates + (not recompute.recomputes("moe_act"))) * expert.width
        operands = expert.hidden + (0 if recompute.recomputes("moe_act") else expert.width)
        return float((expert.hidden + inside) * expert.dtype_bytes) + expert.formats.kept_bytes(operands)

    def kept_bytes(
        self, recompute: Recompute, *, tp: int, sequence_shards: int, expert_shards: float | None = None
    ) -> float:
        """Return the bytes of norm and experts that are kept for the backward pass, with balanced experts.

        A rank routes the tokens that it owns, 1 / `tp` of all; its experts receive 1 / `expert_shards` of all copies.
        """
        expert, hidden = self.expert, self.hidden / sequence_shards
        is_recomputed = recompute.recomputes("moe")
        kept = hidden
        if is_recomputed or not recompute.recomputes("layernorm"):
            kept += self.hidden / tp
        if not is_recomputed:
            kept += self._latent_elements / tp
        if self.shared is not None and not (is_recomputed or recompute.recomputes("shared_experts")):
            kept += self.shared.inner_width / tp
        routed = self.top_k / (expert_shards or tp) * self.kept_bytes_per_copy(recompute)
        return kept * expert.dtype_bytes + routed + (hidden if expert.has_dropout else 0.0)

    def weight_pass_elements(
        self, *, tp: int, sequence_shards: int, expert_shards: float | None = None
    ) -> tuple[float, float]:
        """Return the elements kept from B to W, outside of routed experts and in them."""
        of_copy = (self.expert.hidden + self.copy_elements) / (expert_shards or tp)
        shared = 0.0 if self.shared is None else (self.hidden + self.shared.inner_width) / tp
        latent = (self.hidden + self._latent_elements) / tp if self.has_latent else 0.0
        return self.hidden / sequence_shards + shared + latent, self.top_k * of_copy

    def gradient_elements(self, tp: int, *, expert_shards: float | None = None) -> float:
        """Return the gradients inside of routed experts, as large as up projections and activations."""
        return self.top_k * self.expert.inner_width / (expert_shards or tp)

    def working_elements(
        self, *, tp: int, sequence_shards: int, skew: float = 1.0, expert_shards: float | None = None
    ) -> float:
        """Return the elements of a forward pass: norm, inputs, inside; `skew`: tokens of a rank's experts over mean."""
        inside = skew * self.top_k / (expert_shards or tp) * self.copy_elements
        shared = 0.0 if self.shared is None else (self.hidden + self.shared.inner_width) / tp
        return self.hidden / sequence_shards + inside + shared + self._latent_elements / tp

    # ---- private -------------------------------------------------------------------------------------------------

    def _unfused(self, op: str, copies: float | NDArray[np.float64], width: int) -> list[Memory]:
        """Return what an op of `UNFUSED_OPS` moves in rows of `width` where it is a kernel of its own."""
        moved = self.expert.fusions.moved_bytes(op, float(width), dtype_bytes=self.expert.dtype_bytes)
        if moved is None:
            return []
        num_bytes, backward_bytes = copies * moved[0], copies * moved[1]
        return [
            Memory(
                kind="expert",
                operation="bias_add" if op == "expert_bias" else "clamp",
                rows=copies,
                width=width,
                num_bytes=num_bytes,
                backward_bytes=backward_bytes,
            )
        ]

    @property
    def _latent_elements(self) -> int:
        """Elements of a token's sum of latent experts, the input of the projection up: none without a latent."""
        return self.expert.hidden if self.has_latent else 0


Ffn = DenseFfn | MoeFfn
"""The FFN of a layer."""
