"""A transformer layer: an attention and an FFN, each after a norm.

Model
-----
    parameters   attention + 2 * hidden (norms) + FFN
    FLOPs        of a token, forward: 2 * parameters that it meets, without norms, + attention scores
"""

from dataclasses import dataclass

from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.ffn import Ffn, MoeFfn
from workloads.blocks.recompute import Recompute

__all__ = ["Layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a model; layers of one kind are equal."""

    attention: GroupedQueryAttention
    ffn: Ffn

    @property
    def is_moe(self) -> bool:
        """Whether the layer routes its tokens to experts."""
        return isinstance(self.ffn, MoeFfn)

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.attention.num_params + self._num_norm_params + self.ffn.num_params

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets."""
        return self.attention.num_params + self._num_norm_params + self.ffn.num_active_params

    def num_params_per_rank(self, *, tp: int, ep: int, shared_tp: int, expert_replicas: int = 0) -> tuple[int, int]:
        """Return the dense and the expert parameters of a rank; the arguments are those of `MoeFfn`."""
        dense, expert = self.ffn.num_params_per_rank(tp=tp, ep=ep, shared_tp=shared_tp, expert_replicas=expert_replicas)
        return self.attention.num_params_per_rank(tp) + self._num_norm_params + dense, expert

    def flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the forward FLOPs of one token, averaged over the sequence."""
        matrices = self.attention.num_params + self.ffn.num_active_params
        return 2.0 * matrices + self.attention.score_flops_per_token(sequence_length, causal=causal)

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that a backward pass recomputes of one token, all scores of attention among them."""
        if recompute.kind == "full":
            return self.flops_per_token(sequence_length, causal=False)
        scores = self.attention.score_flops_per_token(sequence_length, causal=False)
        attention = scores if recompute.recomputes("core_attn") else 0.0
        return attention + 2.0 * self.ffn.num_recomputed_params(recompute)

    def kept_bytes(
        self,
        recompute: Recompute,
        *,
        tp: int,
        sequence_shards: int,
        sequence_length: int,
        expert_shards: int | None = None,
    ) -> float:
        """Return the bytes that a rank keeps of each token for the backward pass, with balanced experts.

        `expert_shards` is the number of ranks that share the copies of a replica's tokens; default: `tp`.
        """
        attention = self.attention.kept_bytes(
            recompute, tp=tp, sequence_shards=sequence_shards, sequence_length=sequence_length
        )
        return attention + self.ffn.kept_bytes(
            recompute, tp=tp, sequence_shards=sequence_shards, expert_shards=expert_shards
        )

    def gradient_elements(self, *, tp: int, sequence_length: int, expert_shards: int | None = None) -> float:
        """Return the elements of the largest gradients inside of a block, of each token on a rank."""
        attention = self.attention.gradient_elements(tp=tp, sequence_length=sequence_length)
        return max(attention, self.ffn.gradient_elements(tp, expert_shards=expert_shards))

    def working_elements(
        self, *, tp: int, sequence_shards: int, skew: float = 1.0, expert_shards: int | None = None
    ) -> float:
        """Return the elements of the larger block in a forward pass, of each token on a rank."""
        ffn = self.ffn.working_elements(tp=tp, sequence_shards=sequence_shards, skew=skew, expert_shards=expert_shards)
        return max(self.attention.projected_elements(tp), ffn)

    @property
    def _num_norm_params(self) -> int:
        return 2 * self.attention.hidden
