"""Which experts the tokens of a server's steps need: copies of tokens in each slot, under plans that age.

Model
-----
Without `server.routing_steps` the popularity of the experts never changes. With it, popularity is that of a microbatch
of the routing for so many steps of a group, and of the next one after them::

    microbatch = step // routing_steps
    plan       = microbatch // placement.every        made of loads before it: placement.window, placement.stale

A plan is made of the loads of microbatches before it, so that a popularity that drifts leaves it behind. Replicas of an
expert share its copies evenly.

Assumptions
-----------
The loads that a plan is made of are those of `_PLANNED_TOKENS` tokens for each microbatch of the window. New plans take
no time: vLLM and SGLang move experts layer by layer next to steps.

References
----------
vLLM 0.19, `vllm/distributed/eplb/eplb_state.py` (`window_size` 1,000 and `step_interval` 3,000 steps); DeepSeek-AI,
EPLB.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import ServingWork
from sim.plan.expert_routing import experts_on_ranks
from workloads.placement import split_over_replicas
from workloads.routing import draw_counts

__all__ = ["ExpertLoads"]

Ints = NDArray[np.int64]
_NUM_DRAWS: Final = 4
"""Layers of which each number of tokens is drawn; the mean of their times stands for all layers."""
_PLANNED_TOKENS: Final = 8192
"""Tokens of which the loads of a microbatch are drawn that plans are made of: a step of vLLM's budget."""


class ExpertLoads:
    """Copies of tokens for each slot of experts, drawn as the routing says, for each number of tokens once."""

    def __init__(self, work: ServingWork) -> None:
        self._work = work
        model = work.model
        self._layers = [layer for layer in range(model.layers) if model.is_moe_layer(layer)]
        self._known: dict[tuple[int, int], Ints] = {}
        self._slots: dict[tuple[int, int], NDArray[np.intp]] = {}

    @property
    def sampled_layers(self) -> list[int]:
        """Layers that are drawn, evenly spread over the model's."""
        count = min(_NUM_DRAWS, len(self._layers))
        return [self._layers[position * len(self._layers) // count] for position in range(count)]

    def microbatch_of(self, step: int) -> int:
        """Return the microbatch of the routing whose popularity of experts a step of a group has."""
        every = self._work.limits.routing_steps
        return 0 if every is None else step // every

    def counts(self, tokens: int, microbatch: int = 0) -> Ints:
        """Return the copies of `tokens` tokens for each slot in each sampled layer. Shape [layers, ranks x slots]."""
        if (tokens, microbatch) not in self._known:
            self._known[tokens, microbatch] = self.draw(tokens, self.sampled_layers, microbatch)
        return self._known[tokens, microbatch]

    def draw_step(self, tokens: int, layers: list[int], step: int) -> Ints:
        """Return the copies of a step's own tokens, drawn anew where popularity never changes. [layers, R x C]."""
        every = self._work.limits.routing_steps
        return self.draw(tokens, layers, step if every is None else step // every, placed_at=self.microbatch_of(step))

    def draw(self, tokens: int, layers: list[int], microbatch: int, *, placed_at: int | None = None) -> Ints:
        """Return the copies of tokens for each slot, layer by layer. Shape [layers, ranks x slots].

        `placed_at` is the microbatch whose plan places the experts; None: that of the tokens.
        """
        counts: Ints = self._drawn(tokens, layers, [microbatch], self._work.seed)[0]
        if self._work.placement.is_contiguous:
            return counts
        plan = self._work.placement.plan_at(microbatch if placed_at is None else placed_at)
        slots = [self._slots_of(layer, plan) for layer in layers]
        split = [split_over_replicas(of_layer[None], at)[0] for of_layer, at in zip(counts, slots, strict=True)]
        placed: Ints = np.stack(split).reshape(len(layers), -1)
        return placed

    # ---- private -------------------------------------------------------------------------------------------------

    def _drawn(self, tokens: int, layers: list[int], microbatches: list[int], seed: int) -> Ints:
        """Return the copies of tokens for each expert. Shape [microbatches, layers, E]."""
        work = self._work
        nodes, _ = work.cluster.node_positions(work.mesh.ep_groups(0)[0])
        counts = draw_counts(
            work.routing.kind,
            num_sources=1,
            tokens=tokens,
            num_experts=work.model.experts,
            top_k=work.model.top_k,
            seed=seed,
            layers=layers,
            microbatches=microbatches,
            skew=work.routing.skew,
            num_nodes=int(nodes.max()) + 1,
            max_nodes=work.routing.max_nodes_per_token,
        )
        return counts[:, :, 0]

    def _slots_of(self, layer: int, plan: int) -> NDArray[np.intp]:
        """Return the expert in each slot of each rank, under a plan by its number. Shape [R, C]."""
        if (layer, plan) not in self._slots:
            self._slots[layer, plan] = experts_on_ranks(self._work, 0, layer, lambda: self._loads_before(layer, plan))
        return self._slots[layer, plan]

    def _loads_before(self, layer: int, plan: int) -> NDArray[np.float64]:
        """Return the tokens of each expert in the window before a plan begins. Shape [E]."""
        rule = self._work.placement
        last = plan * (rule.every or 0) - rule.stale
        window = list(range(last - rule.window, last))
        seed = self._work.seed if rule.plan_seed is None else rule.plan_seed
        return np.asarray(self._drawn(_PLANNED_TOKENS, [layer], window, seed)[:, 0].sum(axis=0), dtype=float)
