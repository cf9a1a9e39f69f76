"""What a step of a server costs, from the composition of its batches.

Model
-----
Ranks of a group have a batch each. Between two exchanges of tokens a rank computes what depends on its own batch; at an
exchange it waits for the slowest rank::

    step     = slowest rank's own work + experts and exchanges of all layers + host
    tokens   = those of the batch; where no rank has a prompt and CUDA graphs are used, padded to a captured size
    padding  = ranks that exchange tokens are padded to the largest where all run graphs, or all batches are cut in two;
               one rank without a graph makes all eager

A rank without a request runs a dummy batch of one token. Who prices own work, experts and exchanges: measured times of
layers (`serving_tables`) or kernels and collectives (`serving_kernels`).

References
----------
vLLM 0.19, `vllm/v1/worker/dp_utils.py` (padding over data-parallel ranks), `vllm/v1/engine/core.py` (dummy batches).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from sim.build.serving import ServingWork
from workloads.serving.requests import Batch, Chunk

__all__ = ["RankBatch", "StepCosts", "StepTime", "cuts_in_two", "interpolated", "rank_batches", "sample_tokens"]

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
    if has_graph:
        tokens = [work.limits.padded(max(tokens))] * len(batches)
    elif cuts_in_two(work, batches):
        tokens = [max(tokens)] * len(batches)
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


def cuts_in_two(work: ServingWork, batches: Sequence[Batch]) -> bool:
    """Tell whether the batches of a group are cut in two, so that one half computes while tokens of the other travel.

    As in vLLM's dual batch overlap all ranks agree: each must have as many tokens as the threshold says.
    """
    overlap = work.limits.two_batch_overlap
    if overlap is None or not work.ranks_meet:
        return False
    least = overlap[1] if any(batch.chunks for batch in batches) else overlap[0]
    return min(batch.num_tokens for batch in batches) >= least


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
