"""All-to-all with any rank x rank byte matrix, sent directly.

Model
-----
Every pair is a flow of its own; all start at once, so the chain is one step and the busiest port decides the time.

Assumptions
-----------
In bulk a transfer's flows progress together (they end at one time): right for equal matrices, pessimistic for the light
pairs of unequal ones. Under `network.fidelity: flow` each ends on its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sim.errors import InvalidValueError
from workloads.collectives.exchange import Exchange, Step

__all__ = ["all_to_all"]


def all_to_all(ranks: Sequence[int], byte_matrix: ArrayLike) -> Exchange:
    """Send `byte_matrix[i, j]` bytes from rank i of the group to rank j.

    Parameters
    ----------
    ranks
        Ranks of the group. Length R.
    byte_matrix
        Bytes by sender and receiver; the diagonal stays where it is and costs nothing. Shape [R, R].

    Examples
    --------
    >>> all_to_all([4, 5], [[9, 1], [2, 9]]).total_bytes
    3.0
    """
    members = np.asarray(ranks, dtype=np.intp)
    matrix = np.asarray(byte_matrix, dtype=float)
    shape = (members.size, members.size)
    if matrix.shape != shape:
        raise _refuse(f"have shape {list(shape)}", f"shape {list(matrix.shape)}")
    is_good = (matrix >= 0) & (matrix < np.inf)
    if not is_good.all():
        raise _refuse("hold finite entries that are not negative", matrix[~is_good][0])
    wanted = matrix > 0
    np.fill_diagonal(wanted, val=False)
    i, j = np.nonzero(wanted)
    amount = matrix[wanted]
    src, dst = members[i], members[j]
    return Exchange(
        src=src,
        dst=dst,
        num_bytes=amount,
        steps=(Step(count=1, src=src, dst=dst),) if amount.size else (),
        flow_bytes=float(amount.mean()) if amount.size else 0.0,
    )


def _refuse(rule: str, value: object) -> InvalidValueError:
    hint = "Give bytes for every pair of ranks."
    return InvalidValueError(subject="all_to_all", field="byte_matrix", rule=rule, value=value, hint=hint)
