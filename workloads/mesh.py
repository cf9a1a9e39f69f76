"""Who is in which group: a strategy laid out on ranks under one of three readings of expert parallelism.

Model
-----
Ranks are numbered with TP fastest, then CP, DP and PP (EP lies over TP x CP x DP). A stage's R = TP x CP x DP ranks are
consecutive where PP is slowest.

    megatron   world = TP x CP x DP x PP and world % (ETP x EP x PP) = 0; EP inside a stage; TP > 1 with EP > 1 needs SP
    vllm       EP = TP x DP of a stage, never PP; tokens are replicated over TP
    spanning   EP = TP x PP x DP: a GPU holds its experts for *all* layers, a layer's experts lie on all stages

A *lane* is a connected component of a stage's ranks under the groups that meet in every layer (TP, CP, EP).

References
----------
Megatron-LM `parallel_state` (order tp-cp-ep-dp-pp, expert groups); vLLM documentation, expert parallel deployment.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.strategy import Strategy

__all__ = ["CONVENTIONS", "DEFAULT_RANK_ORDER", "Mesh", "build_mesh", "nearest_legal", "why_illegal"]

CONVENTIONS: dict[str, str] = {
    "megatron": "EP lies inside a stage's TP x CP x DP ranks; world % (ETP x EP x PP) = 0; TP with EP needs SP",
    "vllm": "EP = TP x DP of a stage, never PP; tokens replicated over TP",
    "spanning": "EP = TP x PP x DP; a GPU holds its experts for all layers, so a layer's experts lie on all stages",
}
"""Readings of EP, each in a line."""

DEFAULT_RANK_ORDER = ("tp", "cp", "ep", "dp", "pp")
"""Fastest axis first."""

IntArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """A legal strategy on ranks 0..world-1."""

    strategy: Strategy
    """Sizes, with DP and SP filled in."""
    convention: str
    """Reading of EP."""
    ranks: IntArray
    """Rank of each place. Shape [PP, DP, CP, TP]."""
    is_mirrored: bool = False
    """Whether stages i and PP - 1 - i hold the same parts of the model (Chimera, DualPipe)."""

    @property
    def world(self) -> int:
        """Ranks in all."""
        return int(self.ranks.size)

    @property
    def num_stages(self) -> int:
        """Pipeline stages."""
        return self.strategy.pp

    @property
    def dp(self) -> int:
        """Data-parallel size."""
        return int(self.ranks.shape[1])

    @property
    def sp(self) -> bool:
        """Whether activations are split over TP between blocks."""
        return bool(self.strategy.sp)

    def stage_ranks(self, stage: int) -> IntArray:
        """Return the ranks of a stage, TP fastest. Shape [R]."""
        ranks: IntArray = self.ranks[stage].ravel()
        return ranks

    def tp_groups(self, stage: int) -> IntArray:
        """Return the tensor-parallel groups of a stage. Shape [R / TP, TP]."""
        return self.stage_ranks(stage).reshape(-1, self.strategy.tp)

    def ep_groups(self, stage: int) -> IntArray:
        """Return the groups over which a stage's tokens find their experts. Shape [groups, EP]."""
        if self.convention == "spanning":
            return self.ranks.ravel()[None, :]
        return self.stage_ranks(stage).reshape(-1, self.strategy.ep)

    def dp_groups(self, stage: int) -> IntArray:
        """Return the ranks that hold the same dense weights. Shape [TP, DP * CP], with copies [TP, 2 * DP * CP]."""
        per_tp = [self.ranks[one].reshape(-1, self.strategy.tp) for one in self.stages_alike(stage)]
        return np.ascontiguousarray(np.concatenate(per_tp).T)

    def expert_dp_groups(self, stage: int) -> IntArray:
        """Return the ranks that hold the same experts. Shape [EP, copies]; copies is 1 under `spanning`."""
        if self.convention == "spanning":
            return self.stage_ranks(stage)[:, None]
        return np.ascontiguousarray(np.concatenate([self.ep_groups(one) for one in self.stages_alike(stage)]).T)

    def stages_alike(self, stage: int) -> tuple[int, ...]:
        """Return the stages that hold what `stage` holds, in order: two of a mirrored mesh, but in the middle."""
        opposite = self.num_stages - 1 - stage
        return tuple(sorted({stage, opposite})) if self.is_mirrored else (stage,)

    @property
    def lane_size(self) -> int:
        """Ranks of one lane."""
        inner = self.strategy.tp * self.strategy.cp
        if self.convention == "spanning":
            return inner
        return math.lcm(inner, self.strategy.ep)

    @property
    def num_lanes(self) -> int:
        """Lanes of each stage."""
        return int(self.ranks[0].size) // self.lane_size

    def lanes(self, stage: int) -> IntArray:
        """Return the ranks of each lane of a stage. Shape [lanes, lane_size].

        >>> mesh = build_mesh(Strategy.parse("EP4_TP2_PP2_DP4"), "megatron", num_gpus=16)
        >>> mesh.lanes(1)
        array([[ 8,  9, 10, 11],
               [12, 13, 14, 15]])
        """
        return self.stage_ranks(stage).reshape(-1, self.lane_size)


def build_mesh(
    strategy: Strategy,
    convention: str,
    *,
    num_gpus: int,
    gpus_per_node: int = 8,
    rank_order: tuple[str, ...] = DEFAULT_RANK_ORDER,
) -> Mesh:
    """Lay `strategy` out on at most `num_gpus` GPUs, or refuse it with the product that fails and legal names near it.

    Parameters
    ----------
    strategy, convention
        Sizes of the axes and the reading of EP.
    num_gpus
        GPUs of the cluster. A mesh may leave less than a node of them unused.
    gpus_per_node
        Size of a node, for that rule.
    rank_order
        Axes, fastest first; TP, CP, EP, DP keep their order, PP may stand anywhere.
    """
    why = why_illegal(strategy, convention, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
    if why is not None:
        near = nearest_legal(strategy, convention, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        hint = f"Nearest legal: {', '.join(s.name for s in near)}." if near else "Try another convention."
        raise InvalidValueError(
            field="parallel.strategy",
            rule=f"be legal under the {convention} convention on {num_gpus} GPUs ({why})",
            value=strategy.name,
            hint=hint,
        )
    full = replace(strategy, dp=_dp_of(strategy, convention, num_gpus), sp=_sp_of(strategy, convention))
    return Mesh(strategy=full, convention=convention, ranks=_number_ranks(full, rank_order))


def why_illegal(strategy: Strategy, convention: str, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
    """Return the product that fails, or None where the strategy is legal.

    >>> why_illegal(Strategy.parse("EP64_TP16_PP4"), "megatron", num_gpus=64)
    'ETP x EP x PP = 1 x 64 x 4 = 256 does not divide TP x CP x DP x PP = 64: at least 256 GPUs are needed'
    """
    if convention not in CONVENTIONS:
        return f"no such convention; known: {', '.join(CONVENTIONS)}"
    s = strategy
    dp = _dp_of(s, convention, num_gpus)
    if dp is None:
        return _why_no_dp(s, convention, num_gpus)
    world = s.tp * s.cp * s.pp * dp
    if world > num_gpus:
        derived = "" if s.dp is not None or convention == "megatron" else f"{_dp_rule(convention)} = {dp}, and so "
        return f"{derived}TP x CP x DP x PP = {s.tp} x {s.cp} x {dp} x {s.pp} = {world} is more than {num_gpus} GPUs"
    if num_gpus - world >= gpus_per_node:
        return f"TP x CP x DP x PP = {world} leaves {num_gpus - world} of {num_gpus} GPUs unused, a node or more"
    if convention != "megatron" and s.cp * s.etp > 1:
        return f"CP{s.cp} and ETP{s.etp} have no place in this reading of EP: leave CP and ETP out"
    return {"megatron": _why_not_megatron, "vllm": _why_not_vllm, "spanning": _why_not_spanning}[convention](s, dp)


def nearest_legal(
    strategy: Strategy, convention: str, *, num_gpus: int, gpus_per_node: int = 8, count: int = 4
) -> list[Strategy]:
    """Return up to `count` legal strategies, those that change the fewest axes by the smallest factors first.

    DP follows from the number of GPUs and SP from the convention (it is named where it was switched off and is needed);
    CP, ETP and VPP stay as they are.
    """
    sizes = [2**i for i in range(num_gpus.bit_length()) if 2**i <= num_gpus]
    found: list[tuple[int, float, str, Strategy]] = []
    for tp in sorted({*sizes, strategy.tp}):
        for pp in sorted({*sizes, strategy.pp}):
            for ep in sorted({*sizes, strategy.ep}):
                needs_sp = strategy.sp is False and convention == "megatron" and tp > 1 and ep > 1
                candidate = replace(strategy, tp=tp, pp=pp, ep=ep, dp=None, sp=True if needs_sp else None)
                if why_illegal(candidate, convention, num_gpus=num_gpus, gpus_per_node=gpus_per_node) is None:
                    changes = [new / old for new, old in ((tp, strategy.tp), (pp, strategy.pp), (ep, strategy.ep))]
                    factor = sum(abs(math.log2(change)) for change in changes)
                    found.append((candidate.differences(replace(strategy, dp=None)), factor, candidate.name, candidate))
    return [item[3] for item in sorted(found, key=lambda item: item[:3])[:count]]


# ---- private -----------------------------------------------------------------------------------------------------


def _dp_of(s: Strategy, convention: str, num_gpus: int) -> int | None:
    """Return DP as named, or as the convention and the number of GPUs imply; None where it is no whole number."""
    if s.dp is not None:
        return s.dp
    num, den = (s.ep, s.tp) if convention == "vllm" else (s.ep, s.tp * s.pp)
    if convention == "megatron":
        num, den = num_gpus, s.tp * s.cp * s.pp
    return num // den if num >= den and num % den == 0 else None


def _dp_rule(convention: str) -> str:
    return "DP = EP / TP" if convention == "vllm" else "DP = EP / (TP x PP)"


def _sp_of(s: Strategy, convention: str) -> bool:
    if s.sp is not None:
        return s.sp
    return convention == "megatron" and s.tp > 1


def _why_no_dp(s: Strategy, convention: str, num_gpus: int) -> str:
    if convention == "megatron":
        product = s.tp * s.cp * s.pp
        return f"TP x CP x PP = {s.tp} x {s.cp} x {s.pp} = {product} does not divide {num_gpus} GPUs"
    if convention == "vllm":
        return f"EP = TP x DP of a stage, so TP{s.tp} must divide EP{s.ep}"
    return f"EP = TP x PP x DP, so TP x PP = {s.tp * s.pp} must divide EP{s.ep}"


def _why_not_megatron(s: Strategy, dp: int) -> str | None:
    world, expert = s.tp * s.cp * dp * s.pp, s.etp * s.ep * s.pp
    if world % expert:
        need = math.lcm(s.tp * s.cp * s.pp, expert)
        wanted = f"at least {need} GPUs are needed" if need > world else f"a multiple of {need} GPUs is needed"
        return (
            f"ETP x EP x PP = {s.etp} x {s.ep} x {s.pp} = {expert} does not divide "
            f"TP x CP x DP x PP = {world}: {wanted}"
        )
    if s.tp > 1 and s.ep > 1 and s.sp is False:
        return f"TP{s.tp} with EP{s.ep} requires sequence parallelism: set sp: true"
    return None


def _why_not_vllm(s: Strategy, dp: int) -> str | None:
    if s.ep != s.tp * dp:
        return f"EP is TP x DP of a stage = {s.tp} x {dp} = {s.tp * dp}, never over PP, and EP{s.ep} is named"
    return None if not s.sp else "tokens are replicated over TP: set sp: false"


def _why_not_spanning(s: Strategy, dp: int) -> str | None:
    if s.ep != s.tp * s.pp * dp:
        return f"EP spans all GPUs, TP x PP x DP = {s.tp} x {s.pp} x {dp} = {s.tp * s.pp * dp}, and EP{s.ep} is named"
    return None if not s.sp else "tokens are owned by rank t mod TP and replicated between blocks: set sp: false"


def _number_ranks(s: Strategy, rank_order: tuple[str, ...]) -> IntArray:
    rest = tuple(axis for axis in rank_order if axis != "pp")
    if sorted(rank_order) != sorted(DEFAULT_RANK_ORDER) or rest != DEFAULT_RANK_ORDER[:-1]:
        raise InvalidValueError(
            field="parallel.rank_order",
            rule="keep tp, cp, ep, dp in this order, with pp anywhere (other orders: not supported yet)",
            value=list(rank_order),
            hint=f"Use {list(DEFAULT_RANK_ORDER)}.",
        )
    axes = [axis for axis in reversed(rank_order) if axis != "ep"]
    sizes = {"tp": s.tp, "cp": s.cp, "dp": s.dp or 1, "pp": s.pp}
    numbered = np.arange(math.prod(sizes.values())).reshape([sizes[axis] for axis in axes])
    return np.ascontiguousarray(numbered.transpose([axes.index(axis) for axis in ("pp", "dp", "cp", "tp")]))
