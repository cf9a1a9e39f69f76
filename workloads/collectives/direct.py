"""Transfers without an algorithm, sent directly: point to point, and all-to-all with any rank x rank byte matrix.

Model
-----
Every pair is a flow of its own; all flows start at once, so the chain is one step and the busiest port decides the
time. For a single pair the time is

    t = latency of the path + bytes / bandwidth of the slowest link

Assumptions
-----------
In `network.fidelity: bulk` the flows of a transfer progress together (all flows end at one time): right for equal
matrices, pessimistic for the light pairs of unequal matrices. In `flow` each flow ends on its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sim.errors import InvalidValueError
from workloads.collectives.exchange import Exchange, Step

__all__ = ["all_to_all", "point_to_point"]


def all_to_all(ranks: Sequence[int], byte_matrix: ArrayLike) -> Exchange:
    """Send `byte_matrix[i, j]` bytes from rank i of the group to rank j.

    Parameters
    ----------
    ranks
        Ranks of the group. Length R.
    byte_matrix
        Bytes by sender and receiver; the diagonal is not sent and costs nothing. Shape [R, R].

    Examples
    --------
    >>> all_to_all([4, 5], [[9, 1], [2, 9]]).total_bytes
    3.0
    """
    members = np.asarray(ranks, dtype=np.intp)
    matrix = np.asarray(byte_matrix, dtype=float)
    shape = (members.size, members.size)
    if matrix.shape != shape:
        raise _matrix_error(f"have shape {list(shape)}", f"shape {list(matrix.shape)}")
    is_valid = (matrix >= 0) & (matrix < np.inf)
    if not is_valid.all():
        raise _matrix_error("hold finite entries that are not negative", matrix[~is_valid][0])
    is_sent = matrix > 0
    np.fill_diagonal(is_sent, val=False)
    i, j = np.nonzero(is_sent)
    num_bytes = matrix[is_sent]
    src, dst = members[i], members[j]
    return Exchange(
        src=src,
        dst=dst,
        num_bytes=num_bytes,
        steps=(Step(count=1, src=src, dst=dst),) if num_bytes.size else (),
        flow_bytes=float(num_bytes.mean()) if num_bytes.size else 0.0,
    )


def point_to_point(src: Sequence[int], dst: Sequence[int], num_bytes: float) -> Exchange:
    """Send `num_bytes` from `src[i]` to `dst[i]`, all pairs at once.

    >>> point_to_point([0, 1], [8, 9], 5.0).total_bytes
    10.0
    """
    senders, receivers = np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)
    if senders.shape != receivers.shape:
        raise InvalidValueError(
            subject="point_to_point",
            field="dst",
            rule=f"name one receiver for each of {senders.size} senders",
            value=receivers.size,
            hint="Give pairs.",
        )
    return Exchange(
        src=senders,
        dst=receivers,
        num_bytes=np.full(senders.shape, float(num_bytes)),
        steps=(Step(count=1, src=senders, dst=receivers),),
        flow_bytes=float(num_bytes),
    )


def _matrix_error(rule: str, value: object) -> InvalidValueError:
    hint = "Give bytes for every pair of ranks."
    return InvalidValueError(subject="all_to_all", field="byte_matrix", rule=rule, value=value, hint=hint)
