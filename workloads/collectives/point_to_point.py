"""Point to point: each sender has one receiver.

Model
-----
    t = latency of the path + bytes / bandwidth of the slowest link
"""

from collections.abc import Sequence

import numpy as np

from sim.errors import InvalidValueError
from workloads.collectives.exchange import Exchange, Step

__all__ = ["point_to_point"]


def point_to_point(src: Sequence[int], dst: Sequence[int], num_bytes: float) -> Exchange:
    """Send `num_bytes` from `src[i]` to `dst[i]`, all pairs at once.

    >>> point_to_point([0, 1], [8, 9], 5.0).total_bytes
    10.0
    """
    a, b = np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)
    if a.shape != b.shape:
        raise InvalidValueError(
            subject="point_to_point",
            field="dst",
            rule=f"name one receiver for each of {a.size} senders",
            value=b.size,
            hint="Give pairs.",
        )
    return Exchange(
        src=a,
        dst=b,
        num_bytes=np.full(a.shape, float(num_bytes)),
        steps=(Step(count=1, src=a, dst=b),),
        flow_bytes=float(num_bytes),
    )
