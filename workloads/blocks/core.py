"""The core of a mixer: the kernels of a layer that need other tokens of a sequence than their own.

Projections before and after the core work on each token alone. Whoever splits a sequence over ranks (context
parallelism) leaves these as they are, and has to bring together what goes into the core.
"""

from dataclasses import dataclass
from typing import NamedTuple

from workloads.kernels import Kernel

__all__ = ["CoreTensors", "MixerKernels"]


class MixerKernels(NamedTuple):
    """The forward kernels of a mixer on one rank."""

    before: list[Kernel]
    """Projections of each token."""
    core: list[Kernel]
    """What needs the tokens of a sequence: attention, or convolution and scan of a state."""
    after: list[Kernel]
    """Gate and projection of the output of each token."""

    @property
    def all(self) -> list[Kernel]:
        """All kernels, in the order in which they run."""
        return [*self.before, *self.core, *self.after]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTensors:
    """What goes into the core of a mixer and comes out, in elements of a token on one tensor-parallel rank.

    >>> CoreTensors(inputs=(8.0, 2.0, 2.0), output=8.0, is_attention=True).kv_elements
    4.0
    """

    inputs: tuple[float, ...]
    """Queries, keys and values of attention, in this order; of a recurrent state all that the scan reads."""
    output: float
    """What the core gives to the projection of the output."""
    is_attention: bool
    """Whether the core is softmax attention, whose keys and values may be met part by part."""

    @property
    def kv_elements(self) -> float:
        """Elements of keys and values of attention."""
        return self.inputs[1] + self.inputs[2]
