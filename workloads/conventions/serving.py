"""vLLM's and SGLang's convention: the experts of a stage over all its ranks, whole (EP) or in slices (ETP).

Model
-----
    ranks of a stage = TP x DP = EP x ETP                                ETP fastest

    SGLang   --tp N --dp D --enable-dp-attention --ep-size E    TP = N / D, DP = D, EP = E, ETP = N / E
    vLLM     -tp T -dp D --enable-expert-parallel               TP = T, DP = D, EP = T x D
             without that flag                                  TP = T, DP = D, EP = 1, ETP = T x D

References
----------
vLLM documentation, expert parallel deployment; SGLang `parallel_state` (`moe_ep`, `moe_tp`).
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
    meaning = "EP (x ETP) = TP x DP of a stage, never PP; tokens replicated over TP"
    supports_training = False
    serves_requests = True

    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that is EP."""
        s = strategy
        if s.etp > 1:
            return f"EP x ETP = {s.ep} x {s.etp} = TP x DP of a stage = {s.tp} x {s.dp or 1}"
        return f"EP = TP x DP of a stage = {s.tp} x {s.dp or 1} = {s.ep}"

    def for_dense_model(self) -> Convention:
        """Return Megatron's convention: without experts both have the same mesh."""
        return MEGATRON

    def replicates_tokens_over_tp(self, strategy: Strategy) -> bool:
        """Tell whether DP is 1; with more replicas tokens travel between them."""
        return strategy.dp == 1

    def gathers_tokens(self, strategy: Strategy) -> bool:
        """Tell whether experts are in slices and DP above 1: no library of all-to-alls serves slices.

        SGLang gathers the tokens of all replicas of attention then, and so does vLLM.
        """
        return strategy.etp > 1 and strategy.dp != 1

    def what_was_meant(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what SGLang and vLLM call the same mesh.

        SGLang's TP counts the GPUs of a stage, with attention on TP / DP of them; EP below TP x DP slices experts.

        >>> meant = Vllm().what_was_meant(Strategy.parse("EP16_TP16_DP16"), num_gpus=16)
        >>> meant.split(": ")[0]
        "SGLang's `--tp 16 --dp 16 --enable-dp-attention` is TP1_DP16_EP16 here"
        """
        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        serving = self.meant_in_sglang(strategy, **sizes)
        if serving is not None:
            text = f"{serving} here: attention has TP / DP ranks, and EP all of a stage."
            return text if strategy.ep == strategy.tp else f"{text} {self._sliced(strategy.ep, strategy.tp)}"
        sliced = self._with_slices(strategy, **sizes)
        if sliced is not None:
            return self._sliced(strategy.ep, strategy.ep * sliced.etp)
        return Convention.what_was_meant(self, strategy, **sizes)

    def meant_in_sglang(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return which strategy SGLang's TP and DP are, on all GPUs or on those of one replica; None: on neither.

        >>> Vllm().meant_in_sglang(Strategy.parse("TP8_DP8_EP8"), num_gpus=16).split(" is ")[1]
        'TP1_DP8_EP8 on 8 GPUs, one replica (cluster.num_nodes: 1),'
        """
        s, replica, where = strategy, strategy.tp * strategy.pp, ""
        ours = self._of_dp_attention(s, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        if ours is None and replica < num_gpus:
            ours = self._of_dp_attention(s, num_gpus=replica, gpus_per_node=gpus_per_node)
            nodes, rest = divmod(replica, gpus_per_node)
            part = (
                f"cluster.gpus_per_node_used: {replica}" if nodes == 0 else f"cluster.num_nodes: {nodes + (rest > 0)}"
            )
            where = f" on {replica} GPUs, one replica ({part}),"
        if ours is None:
            return None
        sizes = {"TP": ours.tp, "DP": s.dp, "EP": ours.ep}
        sizes |= {axis: size for axis, size in (("ETP", ours.etp), ("PP", s.pp)) if size > 1}
        name = "_".join(f"{axis}{size}" for axis, size in sizes.items())
        ep_size = f" --ep-size {s.ep}" if ours.etp > 1 and s.ep > 1 else ""
        return f"SGLang's `--tp {s.tp} --dp {s.dp} --enable-dp-attention{ep_size}` is {name}{where}"

    def meant_strategy(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> Strategy | None:
        """Return what SGLang's TP and DP with attention over DP are here, or an EP below the ranks of a stage."""
        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        ours = self._of_dp_attention(strategy, **sizes)
        return self._with_slices(strategy, **sizes) if ours is None else ours

    def _of_dp_attention(self, s: Strategy, *, num_gpus: int, gpus_per_node: int) -> Strategy | None:
        """Return what SGLang's TP and DP with attention over DP are here."""
        if s.dp is None or s.dp == 1 or s.tp * s.pp > num_gpus or s.tp % s.dp or s.tp % s.ep or s.etp > 1:
            return None
        ours = replace(s, tp=s.tp // s.dp, etp=s.tp // s.ep)
        return ours if self.why_illegal(ours, num_gpus=num_gpus, gpus_per_node=gpus_per_node) is None else None

    def _with_slices(self, s: Strategy, *, num_gpus: int, gpus_per_node: int) -> Strategy | None:
        """Return the strategy with as many slices of each expert as fill the ranks of a stage."""
        ranks = s.tp * (s.dp or max(1, num_gpus // s.pp // s.tp))
        if s.etp > 1 or s.ep >= ranks or ranks % s.ep:
            return None
        ours = replace(s, etp=ranks // s.ep)
        return ours if self.why_illegal(ours, num_gpus=num_gpus, gpus_per_node=gpus_per_node) is None else None

    @staticmethod
    def _sliced(ep: int, ranks: int) -> str:
        """Return what an EP below the ranks of a stage is: experts that are sliced."""
        command = f"SGLang's `--ep-size {ep}`" if ep > 1 else "Serving without `--enable-expert-parallel`"
        return (
            f"{command} on {ranks} GPUs of a stage slices each expert over {ranks // ep} of them: "
            f"EP{ep} with ETP{ranks // ep}. Whole experts are EP{ranks}."
        )

    _dp_rule = "DP = EP x ETP / TP"
    _slices_experts = True
    _why_no_sp = "tokens are replicated over TP: set sp: false"

    def _ranks_per_replica(self, s: Strategy) -> int:
        return s.tp

    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        del num_gpus
        if s.etp > 1:
            return f"EP x ETP = TP x DP of a stage, so TP{s.tp} must divide EP{s.ep} x ETP{s.etp}"
        return f"EP = TP x DP of a stage, so TP{s.tp} must divide EP{s.ep}"

    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        ranks = f"TP x DP of a stage = {s.tp} x {dp} = {s.tp * dp}, never over PP"
        if s.etp > 1:
            return f"EP x ETP is {ranks}, and EP{s.ep} x ETP{s.etp} = {s.ep * s.etp} is named"
        return f"EP is {ranks}, and EP{s.ep} is named"
