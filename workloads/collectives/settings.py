"""How the transfers of a run are simulated, as one value: the section `network:` of a scenario.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.2: 20 SMs for the hierarchical all-to-alls.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["ALL_TO_ALLS", "DEFAULT_NETWORK", "FIDELITIES", "NetworkSettings"]

FIDELITIES: Final = ("bulk", "flow")
"""Levels of detail in which transfers are simulated."""
ALL_TO_ALLS: Final = ("direct", "hierarchical", "low_latency")
"""Algorithms of dispatch and combine."""
_DEEPSEEK_SMS: Final = 20


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
    """SMs that dispatch and combine take on each rank; None: 20 for hierarchical, else none."""

    @property
    def exchange_num_sms(self) -> int | None:
        """SMs that dispatch and combine take on each rank: 20 by default for the hierarchical exchange, else none.

        >>> NetworkSettings().exchange_num_sms, NetworkSettings(all_to_all="hierarchical").exchange_num_sms
        (None, 20)
        """
        return self.num_sms or (_DEEPSEEK_SMS if self.all_to_all == "hierarchical" else None)


DEFAULT_NETWORK: Final = NetworkSettings()
