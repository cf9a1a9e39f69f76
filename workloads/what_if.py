"""What a run can be without: the names that a scenario's `what_if` lists, and what each takes away.

`moesim why` runs a scenario under each of them, and `sim.plan.what_if` changes the plan; `even_lengths` changes the
work (`sim.build.work`).
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["CAUSES", "EVENED", "EVEN_LAST_STAGE", "EVEN_LENGTHS", "EVEN_STAGES", "NO_BUBBLE", "WHAT_IFS", "WhatIf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """One thing that a run is without."""

    meaning: str
    """What is changed, as it follows `if`."""
    free_kinds: tuple[str, ...] = ()
    """Kinds of transfers that take no time."""
    without_bytes: bool = False
    """Whether transfers have no bytes."""
    without_latency: bool = False
    """Whether transfers have no latency."""


NO_BUBBLE: Final = "no_bubble"
EVEN_STAGES: Final = "even_stages"
EVEN_LAST_STAGE: Final = "even_last_stage"
EVENED: Final = (EVEN_STAGES, EVEN_LAST_STAGE)
"""Those that change how long stages compute."""
EVEN_LENGTHS: Final = "even_lengths"
CAUSES: Final = (*EVENED, EVEN_LENGTHS)
"""Those that take away a cause of straggling."""

WHAT_IFS: Final[dict[str, WhatIf]] = {
    "free_tp": WhatIf(meaning="collectives over TP took no time", free_kinds=("tp",)),
    "free_ep": WhatIf(
        meaning="exchanges of tokens with experts took no time", free_kinds=("ep_dispatch", "ep_combine", "ep_moves")
    ),
    "free_pp": WhatIf(meaning="sends between stages took no time", free_kinds=("pp",)),
    "free_dp": WhatIf(meaning="collectives of gradients and parameters took no time", free_kinds=("dp",)),
    "free_cp": WhatIf(meaning="exchanges of context parallelism took no time", free_kinds=("cp",)),
    "infinite_bandwidth": WhatIf(meaning="bytes took no time, and latencies stayed", without_bytes=True),
    "no_latency": WhatIf(meaning="latencies were 0, and bytes took their time", without_latency=True),
    NO_BUBBLE: WhatIf(meaning="no stage waited for another's output"),
    EVEN_STAGES: WhatIf(meaning="all stages computed as long as the mean stage"),
    EVEN_LAST_STAGE: WhatIf(meaning="the last stage computed as long as the mean stage"),
    EVEN_LENGTHS: WhatIf(meaning="the attention of all microbatches took as long as that of the mean one"),
}
"""Name -> what it takes away."""
