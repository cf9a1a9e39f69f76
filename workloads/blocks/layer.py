"""A layer of a model: an attention and an FFN, each after a norm; a layer of a hybrid model may have one of the two.

Model
-----
    parameters   attention + FFN + hidden (norm) for each of the two
    FLOPs        of a token, forward: 2 * parameters of matrix products that it meets + attention scores

A layer that predicts a further token (multi-token prediction, MTP) first joins the hidden state of a token with the
embedding of the next token, each after a norm, by a projection from 2 * hidden to hidden, and has a last norm of its
own. It shares embedding and output head with the model, and passes the head once more:

    MTP          2 * hidden * hidden + 3 * hidden parameters in addition to those of attention and FFN

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 2.2 (multi-token prediction).
"""

from dataclasses import dataclass, replace

from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.ffn import Ffn, MoeFfn
from workloads.blocks.latent_attention import LatentAttention
from workloads.blocks.recompute import Recompute
from workloads.blocks.state_space import GatedDeltaNet, Mamba2

__all__ = ["Layer", "Mixer"]

Mixer = GroupedQueryAttention | LatentAttention | Mamba2 | GatedDeltaNet
"""What mixes the tokens of a sequence: softmax attention, or a recurrent state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a model; layers of one kind are one object."""

    hidden: int
    dtype_bytes: int
    attention: Mixer | None = None
    ffn: Ffn | None = None
    is_mtp: bool = False
    """Whether the layer predicts a further token, and begins with a projection of two hidden states."""

    @property
    def is_moe(self) -> bool:
        """Whether the layer routes its tokens to experts."""
        return isinstance(self.ffn, MoeFfn)

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self._sum_of_blocks("num_params") + self._num_norm_params + self.num_projection_params

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets."""
        ffn = 0 if self.ffn is None else self.ffn.num_active_params
        return self.num_params - (0 if self.ffn is None else self.ffn.num_params) + ffn

    @property
    def num_projection_params(self) -> int:
        """Parameters of the projection of MTP."""
        return 2 * self.hidden * self.hidden if self.is_mtp else 0

    def num_params_per_rank(self, *, tp: int, ep: int, shared_tp: int, expert_replicas: int = 0) -> tuple[int, int]:
        """Return the dense and the expert parameters of a rank; the arguments are those of `MoeFfn`."""
        dense = expert = 0
        if self.ffn is not None:
            dense, expert = self.ffn.num_params_per_rank(
                tp=tp, ep=ep, shared_tp=shared_tp, expert_replicas=expert_replicas
            )
        attention = 0 if self.attention is None else self.attention.num_params_per_rank(tp)
        return attention + self._num_norm_params + self.num_projection_params // tp + dense, expert

    def sliced(self, etp: int) -> "Layer":
        """Return the layer as one of `etp` ranks has it that share the width of every routed expert."""
        return replace(self, ffn=self.ffn.sliced(etp)) if isinstance(self.ffn, MoeFfn) and etp > 1 else self

    def flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the forward FLOPs of one token, averaged over the sequence."""
        matrices = self.num_projection_params + (0 if self.ffn is None else self.ffn.num_active_matrix_params)
        if self.attention is None:
            return 2.0 * matrices
        scores = self.attention.score_flops_per_token(sequence_length, causal=causal)
        return 2.0 * (self.attention.num_matrix_params + matrices) + scores

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that a backward pass recomputes of one token, all scores of attention among them."""
        if recompute.kind == "full":
            return self.flops_per_token(sequence_length, causal=False)
        ffn = 0 if self.ffn is None else self.ffn.num_recomputed_params(recompute)
        if self.attention is None:
            return 2.0 * ffn
        return self.attention.recomputed_flops_per_token(recompute, sequence_length) + 2.0 * ffn

    def kept_bytes(
        self,
        recompute: Recompute,
        *,
        tp: int,
        sequence_shards: int,
        sequence_length: int,
        expert_shards: float | None = None,
    ) -> float:
        """Return the bytes that a rank keeps of each token for the backward pass, with balanced experts.

        `expert_shards` is the number of ranks that share the copies of a replica's tokens; default: `tp`.
        """
        kept = 0.0
        if self.attention is not None:
            kept += self.attention.kept_bytes(
                recompute, tp=tp, sequence_shards=sequence_shards, sequence_length=sequence_length
            )
        if self.ffn is not None:
            kept += self.ffn.kept_bytes(recompute, tp=tp, sequence_shards=sequence_shards, expert_shards=expert_shards)
        return kept + self._projection_elements / sequence_shards * self.dtype_bytes

    def weight_pass_elements(
        self, *, tp: int, sequence_shards: int, expert_shards: float | None = None
    ) -> tuple[float, float, float]:
        """Return the elements kept from B to W, of each token: of attention, outside of routed experts and in them."""
        split = {"tp": tp, "sequence_shards": sequence_shards}
        attention = 0.0 if self.attention is None else self.attention.weight_pass_elements(**split)
        attention += self._projection_elements / sequence_shards
        if self.ffn is None:
            return attention, 0.0, 0.0
        return attention, *self.ffn.weight_pass_elements(
            tp=tp, sequence_shards=sequence_shards, expert_shards=expert_shards
        )

    def gradient_elements(
        self, *, tp: int, sequence_length: int, expert_shards: float | None = None, core_buffer: float = 0.0
    ) -> float:
        """Return the elements of the largest gradients inside of a block, of each token on a rank.

        `core_buffer` is what the core of attention takes in addition while it runs, under context parallelism.
        """
        attention = core_buffer
        if self.attention is not None:
            attention += self.attention.gradient_elements(tp=tp, sequence_length=sequence_length)
        return max(attention, 0.0 if self.ffn is None else self.ffn.gradient_elements(tp, expert_shards=expert_shards))

    def working_elements(
        self,
        *,
        tp: int,
        sequence_shards: int,
        skew: float = 1.0,
        expert_shards: float | None = None,
        core_buffer: float = 0.0,
    ) -> float:
        """Return the elements of the larger block in a forward pass, of each token on a rank.

        `core_buffer` is that of `gradient_elements`.
        """
        attention = core_buffer + (0.0 if self.attention is None else self.attention.projected_elements(tp))
        if self.ffn is None:
            return attention
        ffn = self.ffn.working_elements(tp=tp, sequence_shards=sequence_shards, skew=skew, expert_shards=expert_shards)
        return max(attention, ffn)

    # ---- private -------------------------------------------------------------------------------------------------

    def _sum_of_blocks(self, name: str) -> int:
        return sum(getattr(block, name) for block in (self.attention, self.ffn) if block is not None)

    @property
    def _num_norm_params(self) -> int:
        num_blocks = (self.attention is not None) + (self.ffn is not None)
        return (num_blocks + (3 if self.is_mtp else 0)) * self.hidden

    @property
    def _projection_elements(self) -> int:
        """Elements kept of MTP: inputs of three norms, and of the projection (two hidden states)."""
        return 5 * self.hidden if self.is_mtp else 0
