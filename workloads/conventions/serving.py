"""vLLM's and SGLang's convention: the experts of a stage over all its ranks.

References
----------
vLLM documentation, expert parallel deployment.
"""

from dataclasses import dataclass, replace

from workloads.conventions.base import Convention
from workloads.conventions.megatron import MEGATRON
from workloads.conventions.spread import SpreadExperts
from workloads.strategy import Strategy

__all__ = ["Vllm"]


@dataclass(frozen=True, slots=True)
class Vllm(SpreadExperts):
    """Serving: the experts of a stage are spread over all ranks of the stage."""

    name = "vllm"
    meaning = "EP = TP x DP of a stage, never PP; tokens replicated over TP"
    supports_training = False

    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that is EP."""
        s = strategy
        return f"{self._dp_product(s, s.dp or 1)} = {s.ep}"

    def for_dense_model(self) -> Convention:
        """Return Megatron's convention: without experts both have the same mesh."""
        return MEGATRON

    def replicates_tokens_over_tp(self, strategy: Strategy) -> bool:
        """Tell whether DP is 1; with more replicas tokens travel between them in an all-to-all."""
        return strategy.dp == 1

    def what_was_meant(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what SGLang and vLLM call the same mesh.

        SGLang's TP counts the GPUs of a stage, with attention on TP / DP of them; EP below TP x DP slices experts.

        >>> meant = Vllm().what_was_meant(Strategy.parse("EP16_TP16_DP16"), num_gpus=16)
        >>> meant.split(": ")[0]
        "SGLang's `--tp 16 --dp 16 --enable-dp-attention` is TP1_DP16_EP16 here"
        """
        s, stage = strategy, num_gpus // strategy.pp
        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        ranks = s.tp * (s.dp or max(1, stage // s.tp))
        is_ours = self.meant_strategy(strategy, **sizes) is not None
        if not is_ours and s.ep < ranks and ranks % s.ep == 0 and ranks * s.pp <= num_gpus:
            return self._sliced(s.ep, ranks)
        serving = self.meant_in_sglang(strategy, **sizes)
        if serving is None:
            return Convention.what_was_meant(self, strategy, **sizes)
        text = f"{serving} here: attention has TP / DP ranks, and EP all of a stage."
        return text if s.ep == s.tp else f"{text} {self._sliced(s.ep, s.tp)}"

    def meant_in_sglang(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return which strategy SGLang's TP and DP are, on all GPUs or on those of one replica; None: on neither.

        >>> Vllm().meant_in_sglang(Strategy.parse("TP8_DP8_EP8"), num_gpus=16).split(" is ")[1]
        'TP1_DP8_EP8 on 8 GPUs, one replica (cluster.num_nodes: 1),'
        """
        s, replica, where = strategy, strategy.tp * strategy.pp, ""
        ours = self.meant_strategy(s, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        if ours is None and replica < num_gpus:
            ours = self.meant_strategy(s, num_gpus=replica, gpus_per_node=gpus_per_node)
            nodes, rest = divmod(replica, gpus_per_node)
            part = (
                f"cluster.gpus_per_node_used: {replica}" if nodes == 0 else f"cluster.num_nodes: {nodes + (rest > 0)}"
            )
            where = f" on {replica} GPUs, one replica ({part}),"
        if ours is None:
            return None
        name = "_".join([f"TP{ours.tp}", f"DP{s.dp}", f"EP{ours.ep}", *([f"PP{s.pp}"] if s.pp > 1 else [])])
        return f"SGLang's `--tp {s.tp} --dp {s.dp} --enable-dp-attention` is {name}{where}"

    def meant_strategy(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> Strategy | None:
        """Return what SGLang's TP and DP with attention over DP are here."""
        s = strategy
        if s.dp is None or s.dp == 1 or s.tp * s.pp > num_gpus or s.tp % s.dp:
            return None
        ours = replace(s, tp=s.tp // s.dp, ep=s.tp)
        why = self.why_illegal(ours, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        return ours if why is None else None

    @staticmethod
    def _sliced(ep: int, ranks: int) -> str:
        """Return what an EP below the ranks of a stage is: experts that are sliced."""
        command = f"SGLang's `--ep-size {ep}`" if ep > 1 else "Serving without `--enable-expert-parallel`"
        return (
            f"{command} on {ranks} GPUs of a stage slices each expert over {ranks // ep} of them (ETP{ranks // ep}), "
            f"which cannot be run yet; whole experts are EP{ranks}."
        )

    _dp_rule = "DP = EP / TP"
    _why_no_sp = "tokens are replicated over TP: set sp: false"

    def _ranks_per_replica(self, s: Strategy) -> int:
        return s.tp

    def _dp_product(self, s: Strategy, dp: int) -> str:
        return f"EP = TP x DP of a stage = {s.tp} x {dp}"

    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        del num_gpus
        return f"EP = TP x DP of a stage, so TP{s.tp} must divide EP{s.ep}"

    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        return f"EP is TP x DP of a stage = {s.tp} x {dp} = {s.tp * dp}, never over PP, and EP{s.ep} is named"
