"""The flows of several transfers run until one of the transfers ends; what the links carried meanwhile.

Model
-----
Flows advance as `sim.engine.network.flows.kernel` says; a transfer ends when the last of its flows does. A transfer
without flows of its own is one flow, with share bytes on the link / `flow_bytes` on each of its links; where its rate
is bounded, it has a link of that capacity for itself. Flows of their own may have links for themselves as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.joined import Carried, JoinedFlows, LinkGroups, table_of
from sim.engine.network.flows.kernel import Run
from sim.engine.network.flows.state import FirstState
from sim.plan.ops import Transfer

__all__ = ["NO_STOP", "FlowInterval", "first_remaining", "join", "run_flows"]

FloatArray = NDArray[np.float64]
NO_STOP = 2**62
_LEAST_BYTES = 1e-300  # left of a flow that float noise would have ended before its time: it ends at the next step


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowInterval:
    """What happened to flows in an interval."""

    elapsed_ns: int
    """Length of the interval."""
    remaining: tuple[FloatArray, ...]
    """Bytes left of each flow, by transfer; 0 where it has ended."""
    groups: LinkGroups
    """Links that flows use, in groups that carry the same."""
    carried: Carried
    """What each group carried."""
    ends_ns: NDArray[np.int64]
    """When each flow ended since the start, those of all transfers one after another; -1 if it has not. Shape [F]."""
    num_solves: int
    """How often rates were solved."""

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes."""
        return 3 * self.ends_ns.nbytes + 3 * self.carried.busy_ns.nbytes

    def on(self, groups: LinkGroups) -> "FlowInterval":
        """Return the same on other links."""
        return replace(self, groups=groups)

    def has_ended(self, position: int) -> bool:
        """Tell whether a transfer has ended."""
        return not self.remaining[position].any()


def first_remaining(transfer: Transfer) -> FloatArray:
    """Return the bytes of each flow of a transfer."""
    return np.array([transfer.flow_bytes]) if transfer.flows is None else transfer.flows.num_bytes


def join(transfers: Sequence[Transfer], capacity: FloatArray) -> JoinedFlows:
    """Return the flows of transfers over links of `capacity` [L] bytes/s; infinite: the link holds no flow back."""
    return JoinedFlows([table_of(transfer, capacity) for transfer in transfers], capacity)


def run_flows(
    flows: JoinedFlows,
    remaining: Sequence[FloatArray],
    run: Run,
    *,
    stop_ns: int = NO_STOP,
    first: FirstState | None = None,
) -> FlowInterval:
    """Let the flows of several transfers run until one of these ends, or for `stop_ns`.

    Parameters
    ----------
    flows
        The flows of the transfers, each with a link at least.
    remaining
        Bytes left of each of their flows, by transfer.
    run
        The kernel, interpreted or compiled.
    first
        The first state of those that have something left; None: it is looked for.
    """
    before = remaining[0] if len(remaining) == 1 else np.concatenate(remaining)
    if not all(num_bytes.any() for num_bytes in remaining):  # a transfer whose end and another's start fall together
        return FlowInterval(
            elapsed_ns=0,
            remaining=tuple(remaining),
            groups=flows.groups,
            carried=flows.nothing_carried(),
            ends_ns=np.where(before > 0, -1, 0),
            num_solves=0,
        )
    state = (flows.first_state(before) if first is None else first).begin(before)
    elapsed_ns, num_solves = run(state, 0, stop_ns)
    is_active = state.bottleneck >= 0
    after = np.zeros(before.size)
    after[is_active] = np.maximum(state.mark - state.tally[state.bottleneck], _LEAST_BYTES)[is_active]
    return FlowInterval(
        elapsed_ns=elapsed_ns,
        remaining=tuple(np.split(after, flows.splits)),
        groups=flows.groups,
        carried=flows.carried(before - after, np.where(is_active, elapsed_ns, state.end_ns)),
        ends_ns=state.end_ns,
        num_solves=num_solves,
    )
