"""Conventions of expert parallelism: how EP shares the GPUs with the other axes, and what follows from that.

Model
-----
A strategy such as `EP64_TP16_PP4` does not say how EP combines with TP, PP and DP. A convention does::

    megatron   world = TP x CP x DP x PP and world % (ETP x EP x PP) = 0; EP inside a stage; TP > 1 with EP > 1 needs SP
    vllm       EP x ETP = TP x DP of a stage, never PP; tokens are replicated over TP
    spanning   EP = TP x PP x DP: a GPU holds its experts for *all* layers, a layer's experts lie on all stages

A convention answers for the legality of a strategy, for the sizes of DP and SP that a name leaves open, for the groups
of the expert exchange, and for what the rest of the program has to know: who owns a token, whether experts serve all
stages, whether training is possible. Code elsewhere asks these properties and never compares a convention's name.

Contents
--------
- `workloads.conventions.base`: what a convention answers for.
- `workloads.conventions.megatron`: parallel folding, as in Megatron-LM.
- `workloads.conventions.serving`: as in vLLM and SGLang.
- `workloads.conventions.spread`: what serving and spanning have in common: EP is the size of a set of ranks.
- `workloads.conventions.spanning`: experts on the GPUs of all stages.
- `workloads.conventions.registry`: the conventions by name.

References
----------
Megatron-LM `parallel_state` (expert groups); vLLM documentation, expert parallel deployment.
"""

from workloads.conventions.base import EXCHANGE_MODES, Convention, IntArray
from workloads.conventions.megatron import MEGATRON, Megatron
from workloads.conventions.registry import CONVENTIONS, get_convention
from workloads.conventions.serving import Vllm
from workloads.conventions.spanning import Spanning

__all__ = [
    "CONVENTIONS",
    "EXCHANGE_MODES",
    "MEGATRON",
    "Convention",
    "IntArray",
    "Megatron",
    "Spanning",
    "Vllm",
    "get_convention",
]
