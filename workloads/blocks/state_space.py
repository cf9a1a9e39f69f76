"""Layers that mix tokens through a recurrent state of fixed size: Mamba-2 and the gated delta net.

Model
-----
Mamba-2, of H heads of width P (d = H P), a state of N values per channel, G groups, a convolution of K tokens::

    parameters   in_proj hidden * (2 d + 2 G N + H), convolution (K + 1) * (d + 2 G N), A, D, dt_bias 3 H, norm d,
                 out_proj d * hidden
    FLOPs        2 Q (G N + d)               inside a chunk of Q tokens; half of it is left by the causal mask
                 4 N d                       into the state and out of the state
    state        H P N + (K - 1) (d + 2 G N) values of a sequence, whatever its length

Gated delta net, of H_k key heads of width D_k and H_v value heads of width D_v (k = H_k D_k, d = H_v D_v)::

    parameters   in_proj hidden * (2 k + 2 d + 2 H_v), convolution K * (2 k + d), A, dt_bias 2 H_v, norm D_v,
                 out_proj d * hidden
    FLOPs        2 Q H_v (3 D_k + 2 D_v)     inside a chunk of Q tokens; half of it is left by the causal mask
                 6 H_v D_k D_v               correction of the state, update, output
    state        H_v D_k D_v + (K - 1) (2 k + d) values of a sequence

The FLOPs are those of a token; the short convolution counts none, like elementwise kernels. Both are linear in the
sequence, and keep no KV cache. Heads are split over TP.

Assumptions
-----------
The state has the model's type, of 2 bytes at least (as vLLM keeps it). The triangular inverse of the delta rule's
chunks is left out: optimistic by a few percent of the scan. The scan is one fused kernel at the efficiency of
attention. Backward passes of the scan recompute what is inside of a chunk: no more than the projections is kept.

References
----------
Dao and Gu, "Transformers are SSMs: generalized models and efficient algorithms through structured state space duality",
2024, section 6 (chunks), section 8 (TP). Yang et al., "Gated delta networks: improving Mamba2 with delta rule", 2024,
section 3. Qwen3-Next and Nemotron-H, `config.json` and modeling code (shapes).
"""

from dataclasses import dataclass

from workloads.blocks.core import CoreTensors, MixerKernels
from workloads.blocks.recompute import Recompute
from workloads.formats import BF16, Formats
from workloads.kernels import Kernel, Memory, Scan

__all__ = ["DELTA_NET_CHUNK", "GatedDeltaNet", "Mamba2", "StateSpace"]

DELTA_NET_CHUNK = 64
"""Tokens of a chunk of the gated delta net's kernels (flash-linear-attention)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """What both kinds share: a projection, a short convolution, a scan through the state, a projection back."""

    hidden: int
    dtype_bytes: int
    conv_kernel: int
    """Tokens of the short convolution."""
    formats: Formats = BF16
    """Types of operands."""

    @property
    def in_width(self) -> int:
        """Outputs of the input projection."""
        raise NotImplementedError

    @property
    def conv_width(self) -> int:
        """Channels of the convolution."""
        raise NotImplementedError

    @property
    def out_width(self) -> int:
        """Inputs of the output projection."""
        raise NotImplementedError

    @property
    def num_vector_params(self) -> int:
        """Parameters outside of matrix products."""
        raise NotImplementedError

    @property
    def num_state_elements(self) -> int:
        """Values of the recurrent state of a sequence."""
        raise NotImplementedError

    def scan_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of the scan of a token."""
        raise NotImplementedError

    @property
    def num_matrix_params(self) -> int:
        """Parameters of matrix products, of all ranks."""
        return self.hidden * (self.in_width + self.out_width)

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.num_matrix_params + self.num_vector_params

    def num_params_per_rank(self, tp: int) -> int:
        """Return the parameters of a rank."""
        return self.num_params // tp

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Bytes that one token leaves in a cache: none."""
        return 0

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent state and of the convolution's last tokens, of a sequence, over all ranks."""
        elements = self.num_state_elements + (self.conv_kernel - 1) * self.conv_width
        return elements * max(2, self.dtype_bytes)

    def cache_bytes(self, sequence_length: int) -> int:
        """Return the bytes that a sequence leaves, over all ranks: those of its state, whatever its length."""
        del sequence_length
        return self.state_bytes

    def num_kv_shards(self, tp: int) -> int:
        """Return the number of ranks that the state is split over."""
        return tp

    def score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of the scan for one token."""
        return self.scan_flops_per_token(sequence_length, causal=causal)

    def kernels(self, tokens: int, sequence_length: int, *, tp: int = 1) -> MixerKernels:
        """Return the forward kernels of projections, convolution, scan and gated norm on one rank."""
        scan = tokens * self.scan_flops_per_token(sequence_length, causal=True) / tp
        in_width, conv, out = -(-self.in_width // tp), self.conv_width / tp, self.out_width // tp
        moved = float(tokens * self.dtype_bytes)
        conv_width, conv_bytes = -(-self.conv_width // tp), 2.0 * moved * conv
        return MixerKernels(
            before=self.formats.linear(kind="attention", m=tokens, n=in_width, k=self.hidden, follows_norm=True),
            core=[
                Memory(kind="attention", operation="convolution", rows=tokens, width=conv_width, num_bytes=conv_bytes),
                Scan(kind="attention", flops=scan, num_bytes=moved * (conv + out)),
                Memory(kind="attention", operation="norm", rows=tokens, width=out, num_bytes=3.0 * moved * out),
            ],
            after=self.formats.linear(kind="attention", m=tokens, n=self.hidden, k=out),
        )

    # ---- context parallelism -------------------------------------------------------------------------------------

    @property
    def mask_features(self) -> tuple[str, ...]:
        """What sets the scores of an attention apart: a state has no scores."""
        return ()

    # ---- recomputation -------------------------------------------------------------------------------------------

    def recomputed_kernels(self, recompute: Recompute, kernels: MixerKernels) -> list[Kernel]:
        """Return those of the forward `kernels` that the backward pass runs again: none, as the scan keeps nothing."""
        del recompute, kernels
        return []

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that selective recomputation adds: none."""
        del recompute, sequence_length
        return 0.0

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    def projected_elements(self, tp: int) -> float:
        """Return the elements of input projection, convolution, scan and gated norm."""
        return (self.in_width + self.conv_width + 2 * self.out_width) / tp

    def kept_bytes(self, recompute: Recompute, *, tp: int, sequence_shards: int, sequence_length: int) -> float:
        """Return the bytes of norm and mixer that are kept for the backward pass: projections, scan, gated norm."""
        del sequence_length
        hidden = self.hidden / sequence_shards
        kept = hidden + (0 if recompute.recomputes("layernorm") else hidden)
        operands = self.out_width / tp + (0 if recompute.recomputes("layernorm") else hidden)
        in_fp8 = self.formats.kept_bytes(operands)
        return (kept + (self.in_width + 2 * self.out_width) / tp) * self.dtype_bytes + in_fp8

    def weight_pass_elements(self, *, tp: int, sequence_shards: int) -> float:
        """Return the elements kept from B to W: inputs of products and gradients of their outputs."""
        return 2 * self.hidden / sequence_shards + (self.in_width + self.out_width) / tp

    def gradient_elements(self, *, tp: int, sequence_length: int) -> float:
        """Return the largest gradients inside of a block: those of its projections."""
        del sequence_length
        return self.projected_elements(tp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2(StateSpace):
    """A Mamba-2 mixer.

    >>> small = Mamba2(hidden=8, dtype_bytes=2, conv_kernel=4, heads=4, head_dim=4, state=16, groups=1, chunk=8)
    >>> small.state_bytes  # 2 * (4 * 4 * 16 + 3 * (16 + 2 * 16))
    800
    """

    heads: int
    head_dim: int
    state: int
    """Values of the state for each channel."""
    groups: int
    """Groups of heads that share B and C."""
    chunk: int
    """Tokens of a chunk."""

    @property
    def in_width(self) -> int:
        """Outputs of the input projection: z, x, B, C, dt."""
        return 2 * self.out_width + 2 * self.groups * self.state + self.heads

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: x, B, C."""
        return self.out_width + 2 * self.groups * self.state

    @property
    def out_width(self) -> int:
        """Inputs of the output projection."""
        return self.heads * self.head_dim

    @property
    def num_vector_params(self) -> int:
        """Parameters of convolution (with its bias), A, D, dt's bias and norm."""
        return (self.conv_kernel + 1) * self.conv_width + 3 * self.heads + self.out_width

    @property
    def num_state_elements(self) -> int:
        """Values of the recurrent state of a sequence."""
        return self.out_width * self.state

    def scan_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of the scan of a token, in chunks."""
        chunk = min(self.chunk, sequence_length) * (0.5 if causal else 1.0)
        return 2.0 * chunk * (self.groups * self.state + self.out_width) + 4.0 * self.num_state_elements

    def why_not_split(self, tp: int) -> tuple[str, int] | None:
        """Return the field and number of heads that `tp` ranks cannot share, or None."""
        return ("mamba_num_heads", self.heads) if self.heads % tp else None

    def core_tensors(self, tp: int, cp: int = 1) -> CoreTensors:
        """Return z, x, B, C and dt, of which B and C are copied where groups are fewer than `cp` ranks; and y."""
        groups, heads = max(1, self.groups // tp), self.heads // tp
        width, states = self.out_width // tp, max(groups, cp) * self.state
        return CoreTensors(inputs=(width, width, states, states, heads), output=width, is_attention=False)

    def why_not_split_over_context(self, tp: int, cp: int) -> tuple[str, int] | None:
        """Return the heads or groups of one of `tp` ranks, by name and number, that `cp` ranks cannot share, or None.

        Fewer groups than ranks are copied, equally often.
        """
        heads, groups = self.heads // tp, max(1, self.groups // tp)
        if heads % cp:
            return "Mamba heads", heads
        return None if groups % cp == 0 or cp % groups == 0 else ("Mamba groups", groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet(StateSpace):
    """A gated delta net."""

    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int

    @property
    def in_width(self) -> int:
        """Outputs of the input projections: queries, keys, values, gate, and two numbers of each value head."""
        return 2 * self.key_width + 2 * self.out_width + 2 * self.value_heads

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: queries, keys, values."""
        return 2 * self.key_width + self.out_width

    @property
    def key_width(self) -> int:
        """Width of all keys."""
        return self.key_heads * self.key_head_dim

    @property
    def out_width(self) -> int:
        """Inputs of the output projection."""
        return self.value_heads * self.value_head_dim

    @property
    def num_vector_params(self) -> int:
        """Parameters of convolution, A, dt's bias and norm."""
        return self.conv_kernel * self.conv_width + 2 * self.value_heads + self.value_head_dim

    @property
    def num_state_elements(self) -> int:
        """Values of the recurrent state of a sequence."""
        return self.value_heads * self.key_head_dim * self.value_head_dim

    def scan_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of the scan of a token, in chunks."""
        chunk = min(DELTA_NET_CHUNK, sequence_length) * (0.5 if causal else 1.0)
        inside = 2.0 * chunk * self.value_heads * (3 * self.key_head_dim + 2 * self.value_head_dim)
        return inside + 6.0 * self.num_state_elements

    def why_not_split(self, tp: int) -> tuple[str, int] | None:
        """Return the field and number of heads that `tp` ranks cannot share, or None."""
        for field, heads in (("linear_num_key_heads", self.key_heads), ("linear_num_value_heads", self.value_heads)):
            if heads % tp:
                return field, heads
        return None

    def core_tensors(self, tp: int, cp: int = 1) -> CoreTensors:
        """Return the outputs of the input projection, which travel as one tensor, and the output of the gated norm."""
        del cp
        return CoreTensors(inputs=(self.in_width / tp,), output=self.out_width // tp, is_attention=False)

    def why_not_split_over_context(self, tp: int, cp: int) -> tuple[str, int] | None:
        """Return the heads of one of `tp` ranks, by name and number, that `cp` ranks cannot share, or None."""
        for name, heads in (("key heads", self.key_heads // tp), ("value heads", self.value_heads // tp)):
            if heads % cp:
                return name, heads
        return None
