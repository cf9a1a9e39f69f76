"""How the transfers of a run are simulated, as one value: the section `network:` of a scenario.

The all-to-alls of experts are entered in `ALL_TO_ALLS`: the values of `network.all_to_all` and all that the program
knows about an all-to-all follow from its entry.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.2: 20 SMs for the hierarchical all-to-alls.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["ALL_TO_ALLS", "ARRIVALS", "DEFAULT_NETWORK", "FIDELITIES", "AllToAll", "NetworkSettings"]

FIDELITIES: Final = ("bulk", "flow")
"""Levels of detail in which transfers are simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllToAll:
    """An algorithm of dispatch and combine."""

    protocol: str
    """Name that `topology.presets.protocols` has for the algorithm."""
    default_num_sms: int | None = None
    """SMs that dispatch and combine take on each rank unless the scenario gives their number; None: no SMs."""
    arrival: str = "chunks"
    """A key of `ARRIVALS`: how copies of tokens lie where they arrive."""
    relays_by_node: bool = False
    """Whether a token crosses to each node once, and a rank of the node passes the token on."""
    is_of_nccl: bool = False
    """Whether it is NCCL's, whose kernels take the SMs of `runtime.collective_sms` next to others."""
    keeps_buffers: bool = False
    """Whether its buffers take memory for good, as `workloads.memory.reserved` has it."""
    waits_for_counts: bool = True
    """Whether the host waits for the numbers of tokens that arrive, unless experts are padded to a capacity."""
    sm_rate: str = "DeepEP SM rate"
    """Name that `topology.presets.protocols` has for what one of its SMs moves on one node."""
    sm_rate_across: str | None = None
    """The same of ranks on several nodes; None: as on one node."""


ARRIVALS: Final[dict[str, str]] = {
    "chunks": "a chunk from each rank, which the rank has sorted by expert before (NCCL's all-to-all, Megatron-LM)",
    "tokens": "as the senders have them: they are copied to their experts' rows there, and back (DeepEP)",
    "experts": "in the rows of their experts (DeepEP's low-latency kernels; tokens that every rank has)",
}
"""How copies of tokens lie where they arrive, by name."""

ALL_TO_ALLS: Final[dict[str, AllToAll]] = {
    "direct": AllToAll(protocol="direct", is_of_nccl=True),
    "hierarchical": AllToAll(
        protocol="hierarchical_all_to_all", default_num_sms=20, arrival="tokens", relays_by_node=True
    ),
    "low_latency": AllToAll(protocol="low_latency", arrival="experts", waits_for_counts=False),
    "deepep": AllToAll(
        protocol="deepep",
        keeps_buffers=True,
        default_num_sms=20,
        arrival="tokens",
        relays_by_node=True,
        sm_rate="DeepEP normal SM rate",
        sm_rate_across="DeepEP normal SM rate across",
    ),
    "hybridep": AllToAll(
        protocol="hybridep", default_num_sms=16, arrival="tokens", relays_by_node=True, sm_rate="HybridEP SM rate"
    ),
}
"""Algorithm of dispatch and combine by name; hierarchical: DeepEP's kernels of version 2, without a start; deepep: the
normal kernels of version 1, which take 30 to 60 us for any number of tokens; hybridep: NVIDIA's, which move by TMA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Algorithms of the collectives, and the detail in which transfers are simulated."""

    fidelity: str = "bulk"
    """`bulk`: a collective is one transfer; `flow`: each pair of ranks ends on its own."""
    all_reduce: str = "auto"
    """Algorithm of all-reduce, all-gather and reduce-scatter; auto: NCCL's cheapest, with its protocol."""
    all_to_all: str = "direct"
    """Algorithm of the experts' dispatch and combine; hierarchical: a token crosses to each node once."""
    num_sms: int | None = None
    """SMs that dispatch and combine take on each rank; None: 20 for hierarchical and deepep, 16 for hybridep."""

    @property
    def exchange_num_sms(self) -> int | None:
        """SMs that dispatch and combine take on each rank: as the scenario says, or the default of the algorithm.

        >>> NetworkSettings().exchange_num_sms, NetworkSettings(all_to_all="hierarchical").exchange_num_sms
        (None, 20)
        """
        return self.num_sms or self.all_to_all_algorithm.default_num_sms

    @property
    def all_to_all_algorithm(self) -> AllToAll:
        """The entry of dispatch and combine in `ALL_TO_ALLS`."""
        return ALL_TO_ALLS[self.all_to_all]


DEFAULT_NETWORK: Final = NetworkSettings()
