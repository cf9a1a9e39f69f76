"""Measured times of one operation, and the time of a shape between them.

Model
-----
With the coordinates `x` of the shapes and `y = log(measured / roofline)`, the estimate at `q` is the value there of a
plane fitted to all measured points, near ones counting most::

    w = exp(-|x - q|^2 / 2), over the largest of them
    a, b minimise sum w (y - a - b (x - q))^2 + RIDGE sum(w) |b|^2
    time(q) = roofline(q) * exp(a)

`a` is kept inside the range of `y` among the points with `w` of at least `NEIGHBOUR`. Outside of the measured range,
`q` is moved to the nearest point of the range: the roofline there keeps the efficiency of the rim, and the estimate
says that it is extrapolated. So does an estimate whose nearest measured point is more than `FAR` spreads away.

References
----------
- Cleveland, Devlin, "Locally weighted regression", 1988.
"""

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Final

import numpy as np
from numpy.typing import NDArray

from topology.device import Device
from topology.profiles.operation import Shape
from topology.profiles.operations import OPERATIONS, roofline_s

__all__ = ["FAR", "NEIGHBOUR", "RIDGE", "MeasuredTable"]

Floats = NDArray[np.float64]

RIDGE: Final = 0.01
"""Weight of the slopes' squares: the plane is level where the neighbours do not say how it slopes."""
NEIGHBOUR: Final = 0.01
"""Least weight of a point whose efficiency bounds the estimate."""
FAR: Final = 3.0
"""Distance, in spreads, from which the nearest measured point says nothing."""

_CHUNK: Final = 1 << 17
"""Pairs of a shape and a measured point that are worked on at once: 10 MB."""


class MeasuredTable:
    """Measured times of one operation in one format by one kernel, as ratios to a roofline."""

    def __init__(
        self,
        operation: str,
        fmt: str,
        shapes: Mapping[str, Floats],
        time_s: Floats,
        device: Device,
    ) -> None:
        """Take the times of `shapes` on the device that they were measured on."""
        self._operation = OPERATIONS[operation]
        shape = self._operation.complete(shapes)
        self._points = self._operation.point(shape)
        self._ratios = np.log(np.asarray(time_s, dtype=np.float64) / roofline_s(operation, fmt, shape, device))
        self._lowest, self._highest = self._points.min(axis=0), self._points.max(axis=0)

    def __len__(self) -> int:
        return len(self._ratios)

    def slowdown(self, shape: Shape) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the time of complete shapes over the roofline [N], and which of them are extrapolated [N]."""
        wanted = self._operation.point(shape)
        inside = np.clip(wanted, self._lowest, self._highest)
        extrapolated: NDArray[np.bool_] = np.any(np.abs(wanted - inside) > 1e-9, axis=-1)
        ratios = np.empty(len(inside))
        step = max(1, _CHUNK // len(self._ratios))
        for first in range(0, len(inside), step):
            part = slice(first, first + step)
            ratios[part], distance = self._interpolated(inside[part])
            extrapolated[part] |= distance > FAR
        return np.exp(ratios), extrapolated

    def _interpolated(self, wanted: Floats) -> tuple[Floats, Floats]:
        """Return log ratios at coordinates [Q, C], and the distance to the nearest measured point [Q]."""
        offsets = self._points.T[:, np.newaxis, :] - wanted.T[:, :, np.newaxis]  # [C, Q, P]
        squares = np.square(offsets).sum(axis=0)
        nearest = squares.min(axis=-1)
        weights = np.exp((nearest[:, np.newaxis] - squares) / 2)  # [Q, P]
        total = weights.sum(axis=-1)
        weighted = offsets * weights
        num = len(offsets)
        normal = np.empty((len(wanted), num + 1, num + 1))
        normal[:, 0, 0] = total
        normal[:, 0, 1:] = normal[:, 1:, 0] = weighted.sum(axis=-1).T
        for row, column in combinations_with_replacement(range(num), 2):
            moments = np.einsum("qp,qp->q", weighted[row], offsets[column])
            normal[:, 1 + row, 1 + column] = normal[:, 1 + column, 1 + row] = moments
        normal[:, range(1, num + 1), range(1, num + 1)] += RIDGE * total[:, np.newaxis]
        right = np.concatenate([(weights @ self._ratios)[np.newaxis], weighted @ self._ratios]).T
        value = np.linalg.solve(normal, right[..., np.newaxis])[:, 0, 0]
        near = weights >= NEIGHBOUR
        low = np.where(near, self._ratios, np.inf).min(axis=-1)
        high = np.where(near, self._ratios, -np.inf).max(axis=-1)
        return np.clip(value, low, high), np.sqrt(nearest)
