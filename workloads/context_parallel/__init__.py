"""Context parallelism (CP): the tokens of a sequence are split over ranks, which compute what mixes them together.

Contents
--------
- `workloads.context_parallel.kinds`: the kinds by name, what each can split, and a kind with its sizes as one value.
- `workloads.context_parallel.steps`: kernels and transfers of the core of a layer, step by step.

Everything else in a layer works on the tokens that a rank owns, 1 / CP of them, as it does without CP. The ranks of a
group hold the same weights, whose gradients are summed over DP x CP.
"""

from workloads.context_parallel.kinds import CP_KINDS, DEFAULT_CP_KIND, ContextParallel, CpKind
from workloads.context_parallel.steps import CoreOfRank, CpBuffers, CpExchange, CpSizes, CpStep

__all__ = [
    "CP_KINDS",
    "DEFAULT_CP_KIND",
    "ContextParallel",
    "CoreOfRank",
    "CpBuffers",
    "CpExchange",
    "CpKind",
    "CpSizes",
    "CpStep",
]
