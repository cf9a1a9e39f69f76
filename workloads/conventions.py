"""Conventions of expert parallelism: how EP shares the GPUs with the other axes, and what follows from that.

Model
-----
A strategy such as `EP64_TP16_PP4` does not say how EP combines with TP, PP and DP. A convention does::

    megatron   world = TP x CP x DP x PP and world % (ETP x EP x PP) = 0; EP inside a stage; TP > 1 with EP > 1 needs SP
    vllm       EP = TP x DP of a stage, never PP; tokens are replicated over TP
    spanning   EP = TP x PP x DP: a GPU holds its experts for *all* layers, a layer's experts lie on all stages

A convention answers for the legality of a strategy, for the sizes of DP and SP that a name leaves open, for the groups
of the expert exchange, and for what the rest of the program has to know: who owns a token, whether experts serve all
stages, whether training is possible. Code elsewhere asks these properties and never compares a convention's name.

References
----------
Megatron-LM `parallel_state` (expert groups); vLLM documentation, expert parallel deployment.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.strategy import Strategy

__all__ = [
    "CONVENTIONS",
    "EXCHANGE_MODES",
    "MEGATRON",
    "NOT_BUILT",
    "Convention",
    "Megatron",
    "Spanning",
    "Vllm",
    "get_convention",
    "why_not_run",
]

NOT_BUILT = {"cp": "context parallelism", "etp": "tensor parallelism inside an expert"}
"""Axes that may be legal and cannot be run yet, by name; whoever builds an axis deletes its row."""

IntArray = NDArray[np.intp]

EXCHANGE_MODES = ("one_sided", "blocking")
"""How the stages enter the expert exchange of a convention whose experts lie on all stages."""


@dataclass(frozen=True, slots=True)
class Convention(ABC):
    """A reading of EP. Arrays `stages` hold the ranks of each stage, TP fastest, of shape [PP, R]."""

    name: ClassVar[str]
    """The name in scenarios and results."""
    meaning: ClassVar[str]
    """The rule in a line."""
    experts_span_stages: ClassVar[bool] = False
    """Whether a layer's experts lie on the GPUs of all stages and serve all stages.

    The exchange is then one-sided (an expert's GPU serves tokens when they come), a rank holds its experts for all
    layers, and no lane can run for another.
    """
    splits_sequence_over_tp: ClassVar[bool] = False
    """Whether a TP rank owns the tokens of its part of the sequence: SP is the default, and experts need SP."""
    supports_training: ClassVar[bool] = True
    """Whether frameworks with this convention train."""

    # ---- legality and sizes that follow --------------------------------------------------------------------------

    def why_illegal(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return the product that fails, or None where the strategy is legal.

        >>> MEGATRON.why_illegal(Strategy.parse("EP64_TP16_PP4"), num_gpus=64)
        'ETP x EP x PP = 1 x 64 x 4 = 256 does not divide TP x CP x DP x PP = 64: at least 256 GPUs are needed'
        """
        s, dp = strategy, self.dp_of(strategy, num_gpus)
        if dp is None:
            return self._why_no_dp(s, num_gpus)
        world = s.tp * s.cp * s.pp * dp
        if world > num_gpus:
            derived = "" if s.dp is not None else f"{self._dp_rule} = {dp}, and so "
            product = f"TP x CP x DP x PP = {s.tp} x {s.cp} x {dp} x {s.pp} = {world}"
            return f"{derived}{product} is more than {num_gpus} GPUs"
        if num_gpus - world >= gpus_per_node:
            return f"TP x CP x DP x PP = {world} leaves {num_gpus - world} of {num_gpus} GPUs unused, a node or more"
        return self._why_groups_fail(s, dp)

    def nearest_legal(
        self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8, count: int = 4
    ) -> list[Strategy]:
        """Return up to `count` legal strategies, those that change the fewest axes by the smallest factors first.

        DP follows from the number of GPUs, and SP from the convention. DP is named where DP is all that
        changes, and SP where `strategy` switches it off and the convention needs it. VPP stays as it is; so do CP and
        ETP, unless they cannot be run.
        """
        strategy = replace(strategy, **dict.fromkeys(NOT_BUILT, 1))  # type: ignore[arg-type]  # sizes of axes
        sizes = [2**i for i in range(num_gpus.bit_length()) if 2**i <= num_gpus]
        found: list[tuple[int, float, str, Strategy]] = []
        for tp in sorted({*sizes, strategy.tp}):
            for pp in sorted({*sizes, strategy.pp}):
                for ep in sorted({*sizes, strategy.ep}):
                    candidate = replace(strategy, tp=tp, pp=pp, ep=ep, dp=None, sp=None)
                    if strategy.sp is False and self.requires_sp(candidate):
                        candidate = replace(candidate, sp=True)
                    if self.why_illegal(candidate, num_gpus=num_gpus, gpus_per_node=gpus_per_node) is None:
                        changes = [new / old for new, old in ((tp, strategy.tp), (pp, strategy.pp), (ep, strategy.ep))]
                        factor = sum(abs(math.log2(change)) for change in changes)
                        num_changed = candidate.differences(replace(strategy, dp=None))
                        dp = self.dp_of(candidate, num_gpus)
                        if num_changed == 0 and strategy.dp not in {None, dp}:  # DP is what is wrong
                            candidate = replace(candidate, dp=dp)
                        found.append((num_changed, factor, candidate.name, candidate))
        return [item[3] for item in sorted(found, key=lambda item: item[:3])[:count]]

    def what_was_meant(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return a sentence on what an illegal strategy most likely means here, None where nothing is known.

        >>> MEGATRON.what_was_meant(Strategy.parse("TP1_PP4_DP1"), num_gpus=16)
        'DP1 is what is wrong: write DP4, or leave DP out.'
        """
        without_dp = replace(strategy, dp=None)
        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        if strategy.dp is not None and self.why_illegal(without_dp, **sizes) is None:
            dp = self.dp_of(without_dp, num_gpus)
            return f"DP{strategy.dp} is what is wrong: write DP{dp}, or leave DP out."
        return None

    def default_etp(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what the framework's own default of ETP makes of a strategy; None where that is 1 as here."""
        del strategy, num_gpus, gpus_per_node
        return None

    def meant_strategy(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> Strategy | None:
        """Return the legal strategy that an illegal one is in the words of another program; None: none is known."""
        del strategy, num_gpus, gpus_per_node
        return None

    @abstractmethod
    def dp_of(self, strategy: Strategy, num_gpus: int) -> int | None:
        """Return DP as the strategy names it, or else as it follows; None where that is not a whole number."""

    def sp_of(self, strategy: Strategy) -> bool:
        """Return whether SP is on: as the strategy says, or else the default of the convention."""
        return self.splits_sequence_over_tp and strategy.tp > 1 if strategy.sp is None else strategy.sp

    def requires_sp(self, strategy: Strategy) -> bool:
        """Tell whether a strategy is illegal with SP switched off."""
        return self.splits_sequence_over_tp and strategy.tp > 1 and strategy.ep > 1

    @abstractmethod
    def as_named(self, strategy: Strategy) -> Strategy:
        """Return the strategy of a mesh without what follows from the convention: SP, and DP where EP gives it."""

    @abstractmethod
    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that makes a strategy legal, with its sizes; DP is given."""

    def for_dense_model(self) -> "Convention | None":
        """Return the convention that lays out a model without experts; None where such a model has no place."""
        return self

    # ---- tokens and experts --------------------------------------------------------------------------------------

    def replicates_tokens_over_tp(self, strategy: Strategy) -> bool:
        """Tell whether every rank of a lane has all tokens of the lane, so that no token is sent to its experts.

        Each rank then runs its own experts, and an all-reduce sums the results. DP of the strategy is given.
        """
        del strategy
        return False

    def expert_shards(self, strategy: Strategy) -> int:
        """Return the ranks that share the copies of one replica's tokens when every expert receives equally many."""
        return strategy.tp

    def expert_layers(self, stage_layers: Sequence[int], num_layers: int) -> Sequence[int]:
        """Return the layers whose experts a rank holds, of a stage with `stage_layers` of the model's `num_layers`."""
        del num_layers
        return stage_layers

    # ---- groups --------------------------------------------------------------------------------------------------

    def ep_groups(self, stages: IntArray, stage: int, ep: int) -> IntArray:
        """Return the groups of ranks over which a stage's tokens find their experts. Shape [groups, EP]."""
        groups: IntArray = stages[stage].reshape(-1, ep)
        return groups

    def expert_dp_groups(self, stages: IntArray, same_stages: Sequence[int], stage: int, ep: int) -> IntArray:
        """Return the ranks of `same_stages` that hold the same experts as ranks of `stage`. Shape [EP, holders]."""
        del stage
        return np.ascontiguousarray(np.concatenate([self.ep_groups(stages, same, ep) for same in same_stages]).T)

    def ep_groups_of_lane(self, stages: IntArray, lane_ranks: IntArray, ep: int) -> IntArray:
        """Return the groups to which the tokens of a lane's ranks go. Shape [groups, EP]."""
        del stages
        return lane_ranks.reshape(-1, ep)

    def lane_size(self, strategy: Strategy) -> int:
        """Return the ranks of a stage that collectives of every layer connect."""
        return math.lcm(strategy.tp * strategy.cp, strategy.ep)

    # ---- private -------------------------------------------------------------------------------------------------

    _dp_rule: ClassVar[str] = ""
    """The product that gives DP where a strategy does not name it."""

    @abstractmethod
    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        """Return why DP is not a whole number."""

    @abstractmethod
    def _why_groups_fail(self, s: Strategy, dp: int) -> str | None:
        """Return why the axes do not form the groups of the convention on enough GPUs; None where they do."""


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
        return _whole_quotient(num_gpus, per_replica) if strategy.dp is None else strategy.dp

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


@dataclass(frozen=True, slots=True)
class _SpreadExperts(Convention):
    """A convention that spreads a layer's experts over a fixed set of ranks: EP is the size of the set and gives DP."""

    @abstractmethod
    def _ranks_per_replica(self, s: Strategy) -> int:
        """Return the ranks of one data-parallel replica that hold experts of a layer."""

    def dp_of(self, strategy: Strategy, num_gpus: int) -> int | None:
        """Return DP: EP over the ranks of one replica that hold experts of a layer."""
        del num_gpus
        return _whole_quotient(strategy.ep, self._ranks_per_replica(strategy)) if strategy.dp is None else strategy.dp

    def as_named(self, strategy: Strategy) -> Strategy:
        """Return the strategy without SP and DP."""
        return replace(strategy, sp=None, dp=None)

    def _why_groups_fail(self, s: Strategy, dp: int) -> str | None:
        if s.cp * s.etp > 1:
            sizes = {"CP": s.cp, "ETP": s.etp}
            axes = [axis for axis, size in sizes.items() if size > 1]
            named, have = " and ".join(f"{axis}{sizes[axis]}" for axis in axes), "have" if len(axes) > 1 else "has"
            return f"{named} {have} no place in this reading of EP: leave {' and '.join(axes)} out"
        if s.ep != self._ranks_per_replica(s) * dp:
            return self._why_other_ep(s, dp)
        return self._why_no_sp if s.sp else None

    _why_no_sp: ClassVar[str]
    """Why SP has to be off."""

    @abstractmethod
    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        """Return the size that EP must have."""


@dataclass(frozen=True, slots=True)
class Vllm(_SpreadExperts):
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


@dataclass(frozen=True, slots=True)
class Spanning(_SpreadExperts):
    """Experts of a layer lie on the GPUs of all stages; rank t mod TP owns token t."""

    name = "spanning"
    meaning = "EP = TP x PP x DP; a GPU holds its experts for all layers, so a layer's experts lie on all stages"
    experts_span_stages = True

    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that is EP."""
        s = strategy
        return f"EP = TP x PP x DP = {s.tp} x {s.pp} x {s.dp} = {s.ep}: a GPU holds its experts for all layers"

    def for_dense_model(self) -> None:
        """Return None: only experts can lie on all stages."""
        return

    def expert_shards(self, strategy: Strategy) -> int:
        """Return EP: a replica's copies go to the GPUs of all stages."""
        return strategy.ep

    def expert_layers(self, stage_layers: Sequence[int], num_layers: int) -> Sequence[int]:
        """Return all layers of the model."""
        del stage_layers
        return range(num_layers)

    def ep_groups(self, stages: IntArray, stage: int, ep: int) -> IntArray:
        """Return all ranks, which are one group."""
        del stage, ep
        return stages.reshape(1, -1)

    def expert_dp_groups(self, stages: IntArray, same_stages: Sequence[int], stage: int, ep: int) -> IntArray:
        """Return each rank of the stage as a group of its own: its experts are nowhere else. Shape [R, 1]."""
        del same_stages, ep
        groups: IntArray = stages[stage][:, None]
        return groups

    def ep_groups_of_lane(self, stages: IntArray, lane_ranks: IntArray, ep: int) -> IntArray:
        """Return all ranks, which are one group."""
        del lane_ranks, ep
        return stages.reshape(1, -1)

    def lane_size(self, strategy: Strategy) -> int:
        """Return the ranks that TP and CP connect: the exchange with experts is one-sided and connects none."""
        return strategy.tp * strategy.cp

    _dp_rule = "DP = EP / (TP x PP)"
    _why_no_sp = "tokens are owned by rank t mod TP and replicated between blocks: set sp: false"

    def _ranks_per_replica(self, s: Strategy) -> int:
        return s.tp * s.pp

    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        del num_gpus
        return f"EP = TP x PP x DP, so TP x PP = {s.tp * s.pp} must divide EP{s.ep}"

    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        return f"EP spans all GPUs, TP x PP x DP = {s.tp} x {s.pp} x {dp} = {s.tp * s.pp * dp}, and EP{s.ep} is named"


MEGATRON = Megatron()

CONVENTIONS: dict[str, Convention] = {
    Megatron.name: MEGATRON,
    Vllm.name: Vllm(),
    Spanning.name: Spanning(),
}
"""Convention by name."""


def why_not_run(strategy: Strategy) -> str | None:
    """Return why a strategy that is legal cannot be run yet, None where it can.

    >>> why_not_run(Strategy.parse("TP2_CP4_PP2"))
    'CP4 is legal and cannot be run yet: context parallelism is not built'
    """
    for axis, what in NOT_BUILT.items():
        size = getattr(strategy, axis)
        if size > 1:
            return f"{axis.upper()}{size} is legal and cannot be run yet: {what} is not built"
    return None


def get_convention(name: str) -> Convention:
    """Return the convention called `name`, or refuse the name with those that are known."""
    if name not in CONVENTIONS:
        raise InvalidValueError(
            field="parallel.convention",
            rule="name a known convention",
            value=repr(name),
            hint=f"Known: {', '.join(CONVENTIONS)}.",
        )
    return CONVENTIONS[name]


def _whole_quotient(numerator: int, denominator: int) -> int | None:
    """Return the quotient; None where it is not a whole number of at least 1."""
    return numerator // denominator if numerator >= denominator and numerator % denominator == 0 else None
