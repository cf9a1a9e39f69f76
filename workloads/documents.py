"""Documents packed into sequences: microbatches of equally many tokens whose attention takes unequal time.

Model
-----
    sequence          documents one after another; a document that does not fit is cut, and goes on in the next sequence
    attention         within the piece of a document in the sequence, so that no token sees another document
    attended length   sum of s^2 / sum of s over the pieces s of a microbatch

The FLOPs of attention under a causal mask are linear in the length of a piece and its square, so that a microbatch
takes the time of one whose sequences all have its attended length. Everything else counts tokens, of which every
microbatch has equally many. The lengths of documents are drawn (`workloads.serving.lengths`) for each replica and
microbatch by a stream of its own.

Assumptions
-----------
Replicas and microbatches take documents as they come; data loaders that balance them err to the other side.
Attention with a window is priced as one of the attended length, which overstates how uneven it is.

References
----------
Lin et al., "Understanding Stragglers in Large Model Training Using What-if Analysis", OSDI 2025: the lengths of
documents have a long tail, the time of a microbatch follows the sum of their squares, and uneven lengths slow 21 % of
the jobs that straggle.
Megatron-LM, option `--reset-attention-mask`: documents are cut at the end of a sequence, and attend to themselves.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workloads.serving.lengths import Lengths

__all__ = ["attended_lengths"]

IntArray = NDArray[np.int64]

_STREAM = 0x444F
"""Tells the stream of these draws from other streams of a seed."""
_BLOCK = 4096
"""Most documents that are drawn at once."""


@lru_cache(maxsize=16)
def attended_lengths(
    documents: Lengths, *, num_replicas: int, num_microbatches: int, sequences: int, sequence_length: int, seed: int
) -> IntArray:
    """Return the attended length of each microbatch of each replica, rounded to a token. Shape [DP, M].

    Parameters
    ----------
    documents
        How long documents are.
    num_replicas, num_microbatches
        Data-parallel replicas, and microbatches of each.
    sequences, sequence_length
        Sequences of a microbatch, and tokens of each.
    seed
        Seed of the draws.

    Examples
    --------
    Sequences of 8 tokens, of documents of 3: pieces of 3, 3 and 2, then 1, 3, 3 and 1; (22 + 20) / 16 = 2.6.

    >>> attended_lengths(
    ...     Lengths(tokens=3), num_replicas=1, num_microbatches=1, sequences=2, sequence_length=8, seed=1
    ... )
    array([[3]])
    """
    attended = np.empty((num_replicas, num_microbatches), dtype=np.int64)
    for replica, microbatch in np.ndindex(*attended.shape):
        random = np.random.default_rng((seed, _STREAM, replica, microbatch))
        pieces = _pieces(documents, random, sequences * sequence_length, sequence_length).astype(np.float64)
        attended[replica, microbatch] = max(1, round(float(np.square(pieces).sum()) / float(pieces.sum())))
    attended.setflags(write=False)
    return attended


# ---- private -----------------------------------------------------------------------------------------------------


def _pieces(documents: Lengths, random: np.random.Generator, num_tokens: int, sequence_length: int) -> IntArray:
    """Return the lengths of the pieces of documents in sequences that have so many tokens together."""
    drawn: list[IntArray] = []
    left = num_tokens
    while left > 0:
        drawn.append(documents.draw(random, min(_BLOCK, left)))
        left -= int(drawn[-1].sum())
    ends = np.cumsum(np.concatenate(drawn))
    cuts = np.union1d(ends[ends < num_tokens], np.arange(sequence_length, num_tokens + 1, sequence_length))
    return np.diff(cuts, prepend=0)
