"""Which states of training data-parallel replicas split, and over how many ranks: ZeRO and FSDP in one form.

Model
-----
The ranks that hold the same parameters form `num_instances` groups; the ranks of a group split the states, and the
groups hold copies of each other (HSDP). One group is ZeRO, and FSDP over all replicas::

    shards = replicas / num_instances

References
----------
Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, section 3.1, figure 1.
Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", 2023, section 3.2.2 (hybrid sharding).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FSDP_KINDS", "ZERO_LEVELS", "Fsdp", "Sharding"]

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """Which states data-parallel replicas split."""

    optimizer: bool = False
    """Whether master weights and moments are split."""
    gradients: bool = False
    """Whether a rank keeps its share of the gradients alone."""
    weights: bool = False
    """Whether a rank keeps its share of the weights alone, and gathers a layer when the layer is computed."""
    num_instances: int = 1
    """Groups of replicas that each hold all states."""
    keeps_gathered: bool = False
    """Whether gathered weights stay from a forward pass to the backward pass (FSDP without resharding)."""
    gathers_ends_once: bool = False
    """Whether embedding and output head stay gathered through a forward and a backward pass (FSDP's root)."""

    def num_shards(self, num_replicas: int) -> int:
        """Return over how many of the ranks that hold the same parameters the states are split.

        >>> Sharding(optimizer=True, num_instances=4).num_shards(32)
        8
        """
        return max(1, num_replicas // self.num_instances) if self.optimizer else 1

    def shard_groups(self, groups: Ranks) -> Ranks:
        """Return the ranks that split states among them, of `groups` [G, D] that hold the same parameters.

        >>> Sharding(optimizer=True, num_instances=2).shard_groups(np.array([[0, 1, 2, 3]]))
        array([[0, 1],
               [2, 3]])
        """
        return groups.reshape(-1, max(1, groups.shape[1] // self.num_instances))

    def instance_groups(self, groups: Ranks) -> Ranks:
        """Return the ranks that hold the same share in different instances, of `groups` [G, D].

        >>> Sharding(optimizer=True, num_instances=2).instance_groups(np.array([[0, 1, 2, 3]]))
        array([[0, 2],
               [1, 3]])
        """
        num_instances = min(self.num_instances, groups.shape[1])
        return groups.reshape(len(groups), num_instances, -1).swapaxes(1, 2).reshape(-1, num_instances)


ZERO_LEVELS: Final[dict[int, Sharding]] = {
    0: Sharding(),
    1: Sharding(optimizer=True),
    2: Sharding(optimizer=True, gradients=True),
    3: Sharding(optimizer=True, gradients=True, weights=True),
}
"""What each level of ZeRO splits over the replicas."""

FSDP_KINDS: Final = ("none", "full", "hybrid")
"""Values of `parallel.fsdp`: no FSDP, FSDP over all replicas, FSDP inside of groups of replicas (HSDP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fsdp:
    """Fully sharded data parallelism: each rank keeps a share of all states, and gathers weights layer by layer."""

    num_instances: int = 1
    """Groups of replicas that each hold all states; 1: FSDP over all replicas."""
    reshards_after_forward: bool = True
    """Whether a layer's gathered weights are freed after its forward pass, and gathered again for its backward pass."""
    reduces_every_microbatch: bool = True
    """Whether gradients are reduce-scattered after each microbatch's backward pass, or after the last one's alone."""

    @property
    def sharding(self) -> Sharding:
        """What the replicas split."""
        return Sharding(
            optimizer=True,
            gradients=self.reduces_every_microbatch,
            weights=True,
            num_instances=self.num_instances,
            keeps_gathered=not self.reshards_after_forward,
            gathers_ends_once=True,
        )
