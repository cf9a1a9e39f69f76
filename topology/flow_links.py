"""Which links each flow uses, and with what share of its bytes: rows of different lengths in one array (CSR).

Model
-----
    bytes on link l = sum over flows f of share[f, l] * num_bytes[f]

A flow that is spread over S equal paths has share 1 / S on the links of each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FlowLinks"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowLinks:
    """The links of F flows; those of flow f stand at `first[f]` to `first[f + 1]`."""

    first: NDArray[np.intp]
    """Where each flow's links begin, and the end of the last. Shape [F + 1]."""
    links: NDArray[np.intp]
    """Link numbers. Shape [E]."""
    share: NDArray[np.float64]
    """Fraction of the flow's bytes that each of these links carries, above 0. Shape [E]."""

    @property
    def flow_of_entry(self) -> NDArray[np.intp]:
        """Return the flow that each entry belongs to. Shape [E].

        >>> one = FlowLinks(first=np.array([0, 2, 3]), links=np.array([5, 6, 5]), share=np.ones(3))
        >>> one.flow_of_entry.tolist()
        [0, 0, 1]
        """
        return np.repeat(np.arange(self.first.size - 1), np.diff(self.first))
