"""A measured job run again with other durations: when each operation starts and ends, by its dependencies alone.

Model
-----
    start = latest end of what it waits for                      the host's launch delays are left out
    end   = start + duration                                     of an operation of one worker
    end   = latest start of its group + time after that          of one that workers make together

The time after the last comer is what the measured operation took from then on: that of a send whose partner comes late
is not its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.studies.measured.dependencies import Dependencies, dependencies_of
from sim.studies.measured.operations import Operations

__all__ = ["Job", "Replayed"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """When operations ran."""

    start_s: FloatArray
    """Start of each, after that of its step. Shape [N]."""
    end_s: FloatArray
    """End of each. Shape [N]."""
    released_by: NDArray[np.int64]
    """What each waited for last; -1: nothing. Shape [N]."""
    step_s: float
    """Mean step time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A measured job, ready to be replayed."""

    operations: Operations
    dependencies: Dependencies
    own_s: FloatArray
    """Time that each takes once nobody is missing. Shape [N]."""

    @classmethod
    def of(cls, operations: Operations) -> "Job":
        """Return the job of measured operations; errors are those of `dependencies_of`."""
        dependencies = dependencies_of(operations)
        own_s = operations.duration_s.copy()
        for group in dependencies.groups:
            own_s[group] = np.maximum(0.0, operations.end_s[group] - operations.start_s[group].max())
        return cls(operations=operations, dependencies=dependencies, own_s=own_s)

    @property
    def measured_step_s(self) -> float:
        """Mean step time as it was measured."""
        operations = self.operations
        return float(operations.step_times_s(operations.start_s, operations.end_s).mean())

    def replay(self, own_s: FloatArray | None = None) -> Replayed:
        """Run all steps with the durations `own_s` [N], by default those that were measured."""
        wanted: list[float] = (self.own_s if own_s is None else own_s).tolist()
        before, groups, group_of = self.dependencies.before, self.dependencies.groups, self.dependencies.group_of
        start, end = [0.0] * len(wanted), [0.0] * len(wanted)
        released_by = [-1] * len(wanted)
        arrived = [0] * len(groups)
        for op in self.dependencies.order:
            for earlier in before[op]:
                if end[earlier] >= start[op]:
                    start[op], released_by[op] = end[earlier], earlier
            number = group_of.get(op)
            if number is None:
                end[op] = start[op] + wanted[op]
                continue
            arrived[number] += 1
            if arrived[number] == len(groups[number]):
                last = max(groups[number], key=start.__getitem__)
                for member in groups[number]:
                    end[member] = start[last] + wanted[member]
                    released_by[member] = released_by[last]
        starts, ends = np.array(start), np.array(end)
        return Replayed(
            start_s=starts,
            end_s=ends,
            released_by=np.array(released_by, dtype=np.int64),
            step_s=float(self.operations.step_times_s(np.zeros_like(starts), ends).mean()),
        )
