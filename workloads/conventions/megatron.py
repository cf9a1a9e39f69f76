"""Megatron-LM's convention: parallel folding of attention and experts over the same ranks.

References
----------
Megatron-LM `parallel_state` (expert groups).
"""

import math
from dataclasses import dataclass, replace

from workloads.conventions.base import Convention, whole_quotient
from workloads.strategy import Strategy

__all__ = ["MEGATRON", "Megatron"]


@dataclass(frozen=True, slots=True)
class Megatron(Convention):
    """Megatron-LM: the ranks of a stage are cut into EP groups, and DP follows from the number of GPUs."""

    name = "megatron"
    meaning = "EP lies inside a stage's TP x CP x DP ranks; world % (ETP x EP x PP) = 0; TP with EP needs SP"
    splits_sequence_over_tp = True

    def num_gpus_required(self, strategy: Strategy) -> int:
        """Return the GPUs of which the world has to be a multiple.

        >>> MEGATRON.num_gpus_required(Strategy.parse("EP64_TP16_PP4"))
        256
        """
        s = strategy
        return math.lcm(s.tp * s.cp * s.pp, s.etp * s.ep * s.pp)

    def dp_of(self, strategy: Strategy, num_gpus: int) -> int | None:
        """Return DP: what TP x CP x PP leaves of the GPUs."""
        per_replica = strategy.tp * strategy.cp * strategy.pp
        return whole_quotient(num_gpus, per_replica) if strategy.dp is None else strategy.dp

    def as_named(self, strategy: Strategy) -> Strategy:
        """Return the strategy without SP."""
        return replace(strategy, sp=None)

    def legal_product(self, strategy: Strategy) -> str:
        """Return the product of the expert axes."""
        s = strategy
        world = s.tp * s.cp * s.pp * (s.dp or 1)
        return f"ETP x EP x PP = {s.etp} x {s.ep} x {s.pp} = {s.etp * s.ep * s.pp} divides {world} GPUs"

    def what_was_meant(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what SGLang's TP, DP and EP are under the convention `vllm`, and which DP the other axes leave.

        >>> MEGATRON.what_was_meant(Strategy.parse("TP16_DP16_EP16"), num_gpus=16)[:101]
        "SGLang's `--tp 16 --dp 16 --enable-dp-attention` is TP1_DP16_EP16 under convention vllm. Otherwise DP"
        """
        from workloads.conventions.serving import Vllm  # noqa: PLC0415  # each of the two names the other

        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        of_dp = Convention.what_was_meant(self, strategy, **sizes)
        serving = Vllm().meant_in_sglang(strategy, **sizes) if strategy.ep == strategy.tp else None
        if serving is None:
            return of_dp
        return f"{serving} under convention vllm." + (f" Otherwise {of_dp}" if of_dp else "")

    def default_etp(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what Megatron's own default, ETP = TP, makes of a strategy; None where that is 1 as here.

        >>> MEGATRON.default_etp(Strategy.parse("EP16_TP8_PP4"), num_gpus=64)[:81]
        "Megatron's own default is ETP = TP = 8: ETP x EP x PP = 8 x 16 x 4 = 512 does not"
        """
        if strategy.tp == 1:
            return None
        theirs, sizes = replace(strategy, etp=strategy.tp), {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        why = self.why_illegal(theirs, **sizes)
        start = f"Megatron's own default is ETP = TP = {strategy.tp}"
        if why is None:
            return (
                f"{start}, legal too: it slices each expert over {strategy.tp} GPUs; "
                "--expert-tensor-parallel-size 1 is what is taken here"
            )
        return f"{start}: {why}; it is refused there without --expert-tensor-parallel-size 1"

    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        product = s.tp * s.cp * s.pp
        return f"TP x CP x PP = {s.tp} x {s.cp} x {s.pp} = {product} does not divide {num_gpus} GPUs"

    def _why_groups_fail(self, s: Strategy, dp: int) -> str | None:
        world, expert = s.tp * s.cp * dp * s.pp, s.etp * s.ep * s.pp
        if world % expert:
            need = self.num_gpus_required(s)
            wanted = f"at least {need} GPUs are needed" if need > world else f"a multiple of {need} GPUs is needed"
            return (
                f"ETP x EP x PP = {s.etp} x {s.ep} x {s.pp} = {expert} does not divide "
                f"TP x CP x DP x PP = {world}: {wanted}"
            )
        if s.sp is False and self.requires_sp(s):
            return f"TP{s.tp} with EP{s.ep} requires sequence parallelism: set sp: true"
        return None


MEGATRON = Megatron()
