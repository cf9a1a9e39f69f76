"""What a step of a server costs, from the composition of its batches.

Model
-----
Ranks of a group have a batch each. Between two exchanges of tokens a rank computes what depends on its own batch; at an
exchange it waits for the slowest rank::

    step     = slowest rank's own work + experts and exchanges of all layers + host
    tokens   = those of the batch; where no rank has a prompt and CUDA graphs are used, padded to a captured size
    padding  = ranks that exchange tokens are padded to the largest; one rank without a graph makes all eager

A rank without a request runs a dummy batch of one token. Who prices own work, experts and exchanges: measured times of
layers (`serving_tables`) or kernels and collectives (`serving_kernels`).

References
----------
vLLM 0.19, `vllm/v1/worker/dp_utils.py` (padding over data-parallel ranks), `vllm/v1/engine/core.py` (dummy batches).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import ServingWork
from workloads.routing import draw_counts
from workloads.serving.requests import Batch, Chunk

__all__ = ["ExpertLoads", "RankBatch", "StepCosts", "StepTime", "interpolated", "rank_batches", "sample_tokens"]

PER_OCTAVE: Final = 8
"""Classes of a number of tokens for each factor of two; times between two classes are interpolated."""


class StepTime(NamedTuple):
    """How long a step takes."""

    stage_ns: tuple[int, ...]
    """Time on each stage of the pipeline."""
    parts_ns: tuple[tuple[str, int], ...]
    """Time of all stages by part of the account."""


class StepCosts(Protocol):
    """Prices steps."""

    def step(self, batches: Sequence[Batch]) -> StepTime:
        """Return the time of a step of the ranks of a group, one batch of each."""
        ...


class RankBatch(NamedTuple):
    """The composition of a rank's batch, as kernels see it."""

    tokens: int
    """Tokens of all requests, padded."""
    chunks: tuple[Chunk, ...]
    """Parts of prompts."""
    num_decodes: int
    """Requests that are decoded."""
    num_decode_tokens: int
    """Tokens of these requests: one of each, and drafts."""
    decode_context: int
    """Tokens that they attend to, of all together."""
    num_sampled: int
    """Tokens that the output head makes: those of requests that receive any, and of drafts that it verifies."""


def rank_batches(work: ServingWork, batches: Sequence[Batch]) -> list[RankBatch]:
    """Return the compositions of the batches of a group, padded."""
    tokens = [max(batch.num_tokens, 1) for batch in batches]
    sizes = work.limits.graph_sizes
    has_graph = bool(sizes) and not any(batch.chunks for batch in batches) and max(tokens) <= sizes[-1]
    if has_graph and len(batches) > 1:
        tokens = [work.limits.padded(max(tokens))] * len(batches)
    elif has_graph:
        tokens = [work.limits.padded(tokens[0])]
    return [
        RankBatch(
            padded,
            tuple(batch.chunks),
            batch.num_decodes,
            batch.num_decode_tokens,
            batch.decode_context,
            sum(outputs for _, outputs in batch.sampled),
        )
        for padded, batch in zip(tokens, batches, strict=True)
    ]


class ExpertLoads:
    """Copies of tokens for each expert, drawn as the scenario's routing says, for each number of tokens once."""

    _NUM_DRAWS: Final = 4
    """Layers of which each number of tokens is drawn; the mean of their times stands for all layers."""

    def __init__(self, work: ServingWork) -> None:
        self._work = work
        model = work.model
        self._layers = [layer for layer in range(model.layers) if model.is_moe_layer(layer)]
        self._known: dict[int, NDArray[np.int64]] = {}

    @property
    def sampled_layers(self) -> list[int]:
        """Layers that are drawn, evenly spread over the model's."""
        count = min(self._NUM_DRAWS, len(self._layers))
        return [self._layers[position * len(self._layers) // count] for position in range(count)]

    def counts(self, tokens: int) -> NDArray[np.int64]:
        """Return the copies of `tokens` tokens for each expert in each sampled layer. Shape [layers, E]."""
        if tokens not in self._known:
            self._known[tokens] = self.draw(tokens, self.sampled_layers, 0)
        return self._known[tokens]

    def draw(self, tokens: int, layers: list[int], step: int) -> NDArray[np.int64]:
        """Return the copies of the tokens of a step, layer by layer. Shape [layers, E]."""
        work = self._work
        counts = draw_counts(
            work.routing.kind,
            num_sources=1,
            tokens=tokens,
            num_experts=work.model.experts,
            top_k=work.model.top_k,
            seed=work.seed,
            layers=layers,
            microbatches=[step],
            skew=work.routing.skew,
        )
        return counts[0, :, 0]


def sample_tokens(tokens: int) -> tuple[int, int]:
    """Return the two classes of tokens next to a number, which is one of them up to `2 * PER_OCTAVE`.

    >>> sample_tokens(7), sample_tokens(100)
    ((7, 7), (96, 104))
    """
    if tokens <= 2 * PER_OCTAVE:
        return tokens, tokens
    step = (1 << (tokens.bit_length() - 1)) // PER_OCTAVE
    low = tokens // step * step
    return low, low if low == tokens else low + step


def interpolated(tokens: int, low: int, high: int, at_low: float, at_high: float) -> float:
    """Return the value at `tokens`, on the line between two classes."""
    return at_low if low == high else at_low + (at_high - at_low) * (tokens - low) / (high - low)
