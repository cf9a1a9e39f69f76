"""Who is in which group: a strategy laid out on ranks under a convention of expert parallelism.

Model
-----
Ranks are numbered with TP fastest, then CP, DP and PP. A stage's R = TP x CP x DP ranks are consecutive where PP is
slowest. Experts fold the same ranks of a stage in another way: ETP fastest, then EP, then EDP = R / (ETP x EP)::

    rank of a stage = tp + TP (cp + CP dp) = etp + ETP (ep + EP edp)

so that the dense weights have DP x CP replicas, and the experts EDP.

EP has no ranks of its own; in `rank_order` its place is that of the replicas which a lane has parts of. With PP between
EP and DP (`tp, cp, ep, pp, dp`) a lane is ranks in a row and the same lane of the next stage follows, so that pipelines
stay in racks. Megatron-LM accepts PP before DP where EDP = DP.

A *lane* is a connected component of a stage's ranks under the groups that meet in every layer (TP, CP, ETP, EP): ranks
in a row, as many as the least common multiple of TP x CP and ETP x EP.

References
----------
Megatron-LM `parallel_state` (order tp-cp-ep-dp-pp).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from sim.errors import InvalidValueError, Remedy
from workloads.conventions import Convention, IntArray, get_convention
from workloads.strategy import Strategy

__all__ = ["DEFAULT_RANK_ORDER", "Mesh", "build_mesh"]

DEFAULT_RANK_ORDER = ("tp", "cp", "ep", "dp", "pp")
"""Fastest axis first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """A legal strategy on ranks 0..world-1."""

    strategy: Strategy
    """Sizes, with DP and SP filled in."""
    convention: Convention
    """How EP shares the ranks with the other axes."""
    ranks: IntArray
    """Rank at each position of the mesh. Shape [PP, DP, CP, TP]."""
    is_mirrored: bool = False
    """Whether stages i and PP - 1 - i hold the same layers (Chimera, DualPipe)."""

    @property
    def world(self) -> int:
        """Number of ranks."""
        return int(self.ranks.size)

    @property
    def num_stages(self) -> int:
        """Number of pipeline stages."""
        return self.strategy.pp

    @property
    def dp(self) -> int:
        """Number of data-parallel replicas."""
        return int(self.ranks.shape[1])

    @property
    def sp(self) -> bool:
        """Whether activations are split over TP between blocks."""
        return bool(self.strategy.sp)

    @property
    def sequence_shards(self) -> int:
        """Ranks that the residual stream is split over: TP with sequence parallelism, 1 without."""
        return self.strategy.tp if self.sp else 1

    @property
    def expert_shards(self) -> float:
        """Ranks that share the copies of one TP group's tokens when every expert receives equally many.

        Below 1 where a rank has more copies than a replica, of several replicas: ETP above TP.
        """
        return self.convention.expert_shards(self.strategy)

    @property
    def replicates_tokens_over_tp(self) -> bool:
        """Whether all ranks of a lane have all tokens of the lane."""
        return self.convention.replicates_tokens_over_tp(self.strategy)

    @property
    def gathers_tokens(self) -> bool:
        """Whether every rank of a lane gathers all tokens of the lane for the experts, each token once."""
        return self.convention.gathers_tokens(self.strategy)

    def stage_ranks(self, stage: int) -> IntArray:
        """Return the ranks of a stage, TP fastest. Shape [R]."""
        ranks: IntArray = self.ranks[stage].ravel()
        return ranks

    def tp_groups(self, stage: int) -> IntArray:
        """Return the tensor-parallel groups of a stage. Shape [R / TP, TP]."""
        return self.stage_ranks(stage).reshape(-1, self.strategy.tp)

    def cp_groups(self, stage: int) -> IntArray:
        """Return the context-parallel groups of a stage, whose ranks have parts of the same sequences. Shape [., CP].

        >>> build_mesh(Strategy.parse("TP2_CP2"), "megatron", num_gpus=8).cp_groups(0).tolist()
        [[0, 2], [1, 3], [4, 6], [5, 7]]
        """
        return self._cp_groups_of(self.stage_ranks(stage))

    def cp_groups_of_lane(self, stage: int, lane: int) -> IntArray:
        """Return the context-parallel groups of a lane. Shape [groups, CP]."""
        return self._cp_groups_of(self.lanes(stage)[lane])

    def ep_groups(self, stage: int) -> IntArray:
        """Return the groups over which a stage's tokens find their experts. Shape [groups, EP]."""
        return self.convention.ep_groups(self._stages, stage, self.strategy)

    def ep_groups_of_lane(self, stage: int, lane: int) -> IntArray:
        """Return the groups over which the tokens of a lane find their experts. Shape [groups, EP]."""
        return self.convention.ep_groups_of_lane(self._stages, self.lanes(stage)[lane], self.strategy)

    def etp_groups(self, stage: int) -> IntArray:
        """Return the ranks that hold slices of the same experts, which are next to each other. Shape [R / ETP, ETP]."""
        return self.stage_ranks(stage).reshape(-1, self.strategy.etp)

    def etp_groups_of_lane(self, stage: int, lane: int) -> IntArray:
        """Return the groups of a lane that hold slices of the same experts. Shape [groups, ETP]."""
        groups: IntArray = self.lanes(stage)[lane].reshape(-1, self.strategy.etp)
        return groups

    def dp_groups(self, stage: int) -> IntArray:
        """Return the ranks that hold the same dense weights, of all DP x CP. Shape [TP, DP * CP].

        Mirrored, a mesh has twice as many in a group.
        """
        per_tp = [self.ranks[same].reshape(-1, self.strategy.tp) for same in self.stages_with_same_layers(stage)]
        return np.ascontiguousarray(np.concatenate(per_tp).T)

    def expert_dp_groups(self, stage: int) -> IntArray:
        """Return the ranks that hold the same slices of the same experts. Shape [EP * ETP, holders].

        [R, 1] where experts span stages.
        """
        return self.convention.expert_dp_groups(self._stages, self.stages_with_same_layers(stage), stage, self.strategy)

    def stages_with_same_layers(self, stage: int) -> tuple[int, ...]:
        """Return `stage` and, in a mirrored mesh, its opposite stage, which holds the same layers; in order."""
        opposite = self.num_stages - 1 - stage
        return tuple(sorted({stage, opposite})) if self.is_mirrored else (stage,)

    @property
    def lane_size(self) -> int:
        """Number of ranks of a lane."""
        return self.convention.lane_size(self.strategy)

    @property
    def num_lanes(self) -> int:
        """Number of lanes of each stage."""
        return int(self.ranks[0].size) // self.lane_size

    @property
    def lane_positions(self) -> tuple[tuple[int, int], ...]:
        """Stage and lane of every lane."""
        return tuple((stage, lane) for stage in range(self.num_stages) for lane in range(self.num_lanes))

    def lanes(self, stage: int) -> IntArray:
        """Return the ranks of each lane of a stage. Shape [lanes, lane_size].

        >>> mesh = build_mesh(Strategy.parse("EP4_TP2_PP2_DP4"), "megatron", num_gpus=16)
        >>> mesh.lanes(1)
        array([[ 8,  9, 10, 11],
               [12, 13, 14, 15]])
        """
        return self.stage_ranks(stage).reshape(-1, self.lane_size)

    def _cp_groups_of(self, ranks: IntArray) -> IntArray:
        cp, tp = self.strategy.cp, self.strategy.tp
        groups: IntArray = ranks.reshape(-1, cp, tp).swapaxes(1, 2).reshape(-1, cp)
        return groups

    @property
    def _stages(self) -> IntArray:
        """Ranks of each stage. Shape [PP, R]."""
        return self.ranks.reshape(self.num_stages, -1)


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
    strategy
        Sizes of the axes.
    convention
        Name of the convention of EP.
    num_gpus
        GPUs of the cluster. A mesh may leave less than a node of them unused.
    gpus_per_node
        Size of a node, for that rule.
    rank_order
        Axes, fastest first; TP, CP, EP, DP keep their order, PP may stand anywhere. With EP before PP and DP after it
        the ranks of a lane follow each other, then the stages, then the other lanes.
    """
    rules = get_convention(convention)
    why = rules.why_illegal(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
    if why is not None:
        near = rules.nearest_legal(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node, count=16)
        ours = rules.meant_strategy(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        near = near if ours is None else [ours, *(other for other in near if other != ours)]
        meant = rules.what_was_meant(strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        lead = f"{meant} Nearest legal:" if meant else "Nearest legal:"
        remedies = [_named_instead(s, strategy) for s in near]
        used = _gpus_of_node_to_use(rules, strategy, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
        if used is not None:
            words = f"{strategy.name} with cluster.gpus_per_node_used: {used} of {gpus_per_node}"
            remedies.insert(0, Remedy({"cluster.gpus_per_node_used": used}, words))
        raise InvalidValueError(
            field="parallel.strategy",
            rule=f"be legal under the {convention} convention on {num_gpus} GPUs ({why})",
            value=strategy.name,
            hint=f"{lead} {', '.join(r.words for r in remedies[:4])}."
            if remedies
            else meant or "Try another convention.",
        ).with_remedies(remedies, lead=lead)
    full = replace(strategy, dp=rules.dp_of(strategy, num_gpus), sp=rules.sp_of(strategy))
    return Mesh(strategy=full, convention=rules, ranks=_number_ranks(full, rank_order, rules.lane_size(full)))


# ---- private -----------------------------------------------------------------------------------------------------


def _named_instead(near: Strategy, strategy: Strategy) -> Remedy:
    """Return the change of a scenario to a near strategy; SP that was switched off is switched on by the name."""
    switched = {"parallel.sp": None} if near.sp and strategy.sp is False else {}
    return Remedy({"parallel.strategy": near.name, **switched}, near.name)


def _gpus_of_node_to_use(rules: Convention, s: Strategy, *, num_gpus: int, gpus_per_node: int) -> int | None:
    """Return how many GPUs of each node make a strategy legal, where its groups do not divide a node (72, say)."""
    sizes = [size for size in (s.tp * s.cp, s.ep * s.etp) if size <= gpus_per_node]
    used = gpus_per_node // math.lcm(*sizes) * math.lcm(*sizes)
    if not 0 < used < gpus_per_node or num_gpus % gpus_per_node:
        return None
    why = rules.why_illegal(s, num_gpus=num_gpus // gpus_per_node * used, gpus_per_node=used)
    return used if why is None else None


def _number_ranks(s: Strategy, rank_order: tuple[str, ...], lane_size: int) -> IntArray:
    rest = tuple(axis for axis in rank_order if axis != "pp")
    if sorted(rank_order) != sorted(DEFAULT_RANK_ORDER) or rest != DEFAULT_RANK_ORDER[:-1]:
        raise InvalidValueError(
            field="parallel.rank_order",
            rule="keep tp, cp, ep, dp in this order, with pp anywhere (other orders: not supported yet)",
            value=list(rank_order),
            hint=f"Use {list(DEFAULT_RANK_ORDER)}.",
        )
    dp = s.dp or 1
    in_lane = lane_size // (s.tp * s.cp)  # replicas that one lane has parts of: EP's place is theirs
    sizes = {"tp": s.tp, "cp": s.cp, "ep": in_lane, "dp": dp // in_lane, "pp": s.pp}
    axes = rank_order[::-1]
    numbered = np.arange(math.prod(sizes.values())).reshape([sizes[axis] for axis in axes])
    by_stage = numbered.transpose([axes.index(axis) for axis in ("pp", "dp", "ep", "cp", "tp")])
    return np.ascontiguousarray(by_stage.reshape(s.pp, dp, s.cp, s.tp))
