"""Runs of flows that are kept, for the same comes again: in the next microbatch, and on the next stage.

Model
-----
What becomes of flows depends on the *pattern* of their links (which flows share which, in which shares, what those
links reach) and on what they have left, and not on which links these are. Patterns and bytes are compared by value: a
stage whose nodes are wired as those of another finds what was worked out for the other. The result is that of working
it out anew, to the last bit.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.interval import NO_STOP, FlowInterval, first_remaining, run_flows
from sim.engine.network.flows.joined import FlowTable, JoinedFlows, LinkGroups, table_of
from sim.engine.network.flows.kernel import Run
from sim.engine.network.flows.state import FirstState
from sim.plan.ops import Transfer

__all__ = ["FlowRuns"]

FloatArray = NDArray[np.float64]
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")
_MOST_BYTES: Final = 1 << 27
"""Memory of what is kept of each kind: tables, sets of transfers, first states, intervals."""
_LINKS_A_STEP: Final = 20
"""Links that take the interpreted kernel about as long, when their flows end, as a step."""


class _Kept(Generic[_Key, _Value]):
    """Values that are kept, up to an amount of memory; those that have not been used for longest go first."""

    def __init__(self) -> None:
        self._values: dict[_Key, tuple[_Value, int]] = {}
        self._num_bytes = 0

    def get(self, key: _Key) -> _Value | None:
        """Return a value, or None where it is not kept."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self._values[key] = found  # behind those that were used before
        return found[0]

    def put(self, key: _Key, value: _Value, num_bytes: int) -> _Value:
        """Keep a value, which takes about `num_bytes`; return it."""
        self._values[key] = (value, num_bytes)
        self._num_bytes += num_bytes
        while self._num_bytes > _MOST_BYTES and len(self._values) > 1:
            self._num_bytes -= self._values.pop(next(iter(self._values)))[1]
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self._num_bytes = 0


class _Set(NamedTuple):
    """Flows of a set of transfers."""

    flows: JoinedFlows
    """Flows of the same pattern, over these links or others."""
    groups: LinkGroups
    """Their links."""


class FlowRuns:
    """Flows of sets of transfers, run over links that hold them back at given rates."""

    def __init__(self, limits: FloatArray, choose: Callable[[int], Run]) -> None:
        """Run over links of `limits` [L] bytes/s (infinite: none); `choose` says by which kernel so many steps run."""
        self._limits, self._choose, self._num_steps = limits, choose, 0
        self._tables = _Kept[Transfer, tuple[FlowTable, FloatArray]]()
        self._first = _Kept[bytes, FloatArray]()
        self._sets = _Kept[tuple[Transfer, ...], _Set]()
        self._patterns = _Kept[bytes, JoinedFlows]()
        self._states = _Kept[tuple[bytes, bytes], FirstState]()
        self._intervals = _Kept[tuple[bytes, int, tuple[int, ...]], tuple[FlowInterval, Sequence[FloatArray]]]()
        self.num_solves = 0

    def remaining(self, transfer: Transfer) -> FloatArray:
        """Return the bytes of each flow of a transfer that starts: the same array for equal bytes."""
        return self._table(transfer)[1]

    def run(
        self, transfers: tuple[Transfer, ...], remaining: Sequence[FloatArray], stop_ns: int = NO_STOP
    ) -> FlowInterval:
        """Let flows run until one of the transfers ends, or for `stop_ns`.

        Parameters
        ----------
        transfers
            Transfers, each with a link at least.
        remaining
            Bytes left of the flows of each: what `remaining` gave, or an interval; nobody may write to them.
        """
        flows, groups = self._set(transfers)
        key = (flows.pattern, stop_ns, tuple(map(id, remaining)))
        kept = self._intervals.get(key)
        if kept is None:
            interval = self._run(flows, remaining, stop_ns)
            # with what was left before, so that its ids stay its own
            kept = self._intervals.put(key, (interval, remaining), interval.nbytes)
        return kept[0] if kept[0].groups is groups else kept[0].on(groups)

    def forget(self) -> None:
        """Forget all that is kept."""
        for kept in (self._tables, self._first, self._sets, self._patterns, self._states, self._intervals):
            kept.clear()

    # ---- private -------------------------------------------------------------------------------------------------

    def _run(self, flows: JoinedFlows, remaining: Sequence[FloatArray], stop_ns: int) -> FlowInterval:
        before = remaining[0] if len(remaining) == 1 else np.concatenate(remaining)
        key = (flows.narrow_pattern, np.packbits(before > 0).tobytes())
        state = self._states.get(key)
        if state is None and all(num_bytes.any() for num_bytes in remaining):
            state = flows.first_state(before)
            self._states.put(key, state, state.nbytes)
        self._num_steps += sum(np.unique(num_bytes).size for num_bytes in remaining)  # equal flows end in one step
        self._num_steps += 0 if state is None else state.state.capacity.size // _LINKS_A_STEP
        interval = run_flows(flows, remaining, self._choose(self._num_steps), stop_ns=stop_ns, first=state)
        self.num_solves += interval.num_solves
        return interval

    def _table(self, transfer: Transfer) -> tuple[FlowTable, FloatArray]:
        known = self._tables.get(transfer)
        if known is None:
            table, num_bytes = table_of(transfer, self._limits), first_remaining(transfer)
            value = num_bytes.tobytes()
            first = self._first.get(value)
            if first is None:
                first = self._first.put(value, num_bytes, 2 * num_bytes.nbytes)
            known = self._tables.put(transfer, (table, first), table.nbytes)
        return known

    def _set(self, transfers: tuple[Transfer, ...]) -> _Set:
        known = self._sets.get(transfers)
        if known is None:
            flows = JoinedFlows([self._table(transfer)[0] for transfer in transfers], self._limits)
            groups = flows.groups
            alike = self._patterns.get(flows.pattern)
            if alike is None:
                alike = self._patterns.put(flows.pattern, flows, flows.nbytes)
            known = self._sets.put(transfers, _Set(alike, groups), groups.links.nbytes + groups.group.nbytes)
        return known
