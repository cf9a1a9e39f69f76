"""How far times of kernels and links may be from the truth: what each is multiplied by, and its interval.

Model
-----
    time of a kernel     = factor of its class * what profile or closed form say
    time of a transfer   = factor of its latency * latency + factor of its bytes * what the busiest link needs

A factor of 1 is the model's own figure. Under uncertainty a factor is lognormal with median 1; `Spread.relative` is its
95th percentile less 1, and the reciprocal of that is its 5th. Each interval is

    1 + relative = exp(90th percentile of |m|)               over groups that were left out of a fit,
    m            = median over a group's rows of log(modelled / measured), with its sign

A step adds thousands of kernels, in which errors of single shapes cancel; what all kernels of a class have in common
does not. So the signed medians of groups count here, and not the errors of rows, which spread two to four times as
wide. A common bias of all groups is in it as well.

Assumptions
-----------
- Factors are independent of one another. Errors of two classes that have one cause, such as a clock under load, are
  not: intervals of a step are too narrow by that.
- A link never carries more than its datasheet says: factors below 1 end there.
- Copies between device and host, and SMs that move bytes of one collective for all kernels, have no factor.
"""

from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple

from sim.errors import InvalidValueError

__all__ = ["KERNEL_AND_LINK_SPREADS", "LINK_FACTORS", "MODEL_ITSELF", "Factors", "Spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """What times of kernels and transfers are multiplied by."""

    gemm: float = 1.0
    """Of matrix products that a device profile prices, forward and backward."""
    grouped_gemm: float = 1.0
    """Of grouped products of experts that a device profile prices."""
    attention: float = 1.0
    """Of attention kernels that a device profile prices."""
    memory_bound: float = 1.0
    """Of kernels that are bound by memory: norms, activations, permutations, the optimizer."""
    closed_form: float = 1.0
    """Of products, attention and scans that no device profile prices."""
    latency_in_node: float = 1.0
    """Of the latencies of collectives and sends inside a node."""
    latency_across_nodes: float = 1.0
    """Of the latencies of collectives and sends across nodes."""
    byte_time_in_node: float = 1.0
    """Of the time that a byte of collectives and sends takes on links inside a node: 2 is half of the bandwidth."""
    byte_time_across_nodes: float = 1.0
    """Of the time that a byte of collectives and sends takes on links between nodes: 2 is half of the bandwidth."""
    all_to_all: float = 1.0
    """Of all-to-alls, their latencies and their bytes."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise InvalidValueError(
                    f"factors.{field.name}", "be above 0", value, "Write 1 to leave times as they are."
                )

    @property
    def of_exchanges(self) -> "Factors":
        """The factors under which all-to-alls are priced: latencies and bytes have that of all-to-alls."""
        return replace(self, **dict.fromkeys(LINK_FACTORS, self.all_to_all))


MODEL_ITSELF: Final = Factors()
"""The model's own figures."""


class Spread(NamedTuple):
    """The interval of a factor."""

    relative: float
    """How far above 1 its 95th percentile is."""
    num_groups: int
    """Groups of measurements that it is the spread of."""
    source: str
    """Where these groups are, and what was left out."""


_KERNELS: Final = "`moesim validate kernels`, quarters of tables left out"
_COLLECTIVES: Final = "`moesim validate collectives`, cases left out"

KERNEL_AND_LINK_SPREADS: Final[dict[str, Spread]] = {
    "gemm": Spread(0.15, 122, f"{_KERNELS} (114: 4 %), and libraries on the same shapes (8: 20 % between two)"),
    "grouped_gemm": Spread(0.28, 81, f"{_KERNELS}, grouped and fused experts"),
    "attention": Spread(0.22, 201, f"{_KERNELS} (193: 6 %), and libraries on the same shapes (8: 31 % between two)"),
    "memory_bound": Spread(0.07, 31, _KERNELS),
    "closed_form": Spread(
        0.34, 34, "closed forms next to bundled tables of products and attention, kernels of 100 us or more"
    ),
    "latency_in_node": Spread(0.16, 20, f"{_COLLECTIVES}, the smallest size of each"),
    "latency_across_nodes": Spread(0.70, 5, "`moesim validate network`, link_latency left out"),
    "byte_time_in_node": Spread(0.06, 24, f"{_COLLECTIVES}, the largest size of each"),
    "byte_time_across_nodes": Spread(
        0.16, 4, "rates between nodes of `topology.presets.fitted`, with and without their table"
    ),
    "all_to_all": Spread(0.20, 12, f"{_COLLECTIVES}, all-to-alls and dispatchers"),
}
"""Field of `Factors` -> its interval. Of two libraries each is taken to err by their difference over the root of 2;
both sources are added as squares."""

LINK_FACTORS: Final = (
    "latency_in_node",
    "latency_across_nodes",
    "byte_time_in_node",
    "byte_time_across_nodes",
    "all_to_all",
)
"""Fields of `Factors` that are of transfers."""
