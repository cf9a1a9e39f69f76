"""Which lane waits for which, when events run out while a lane still waits.

The error names the cycle of waiting lanes; without a cycle it names the lanes that wait for what no lane makes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Wait", "describe_deadlock", "find_cycle"]

Lane = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A lane that waits."""

    lane: Lane
    """(stage, lane) that waits."""
    during: str
    """The pass it is in or wants to open, for example `F0`."""
    what: str
    """What it waits for, in words."""
    needs: tuple[Lane, ...]
    """Lanes that would have to act first."""


def describe_deadlock(waits: Sequence[Wait], now_ns: int) -> str:
    """Return the message that names who waits for whom.

    >>> stuck = [
    ...     Wait(lane=(0, 0), during="B0", what="B0 of stage 1", needs=((1, 0),)),
    ...     Wait(lane=(1, 0), during="F0", what="F0 of stage 0", needs=((0, 0),)),
    ... ]
    >>> print(describe_deadlock(stuck, 1500))
    deadlock at 0.002 ms: stage 0 -> stage 1 -> stage 0.
    stage 0 in B0 waits for B0 of stage 1; stage 1 in F0 waits for F0 of stage 0.
    """
    needs: dict[Lane, dict[Lane, None]] = {}
    for wait in waits:
        needs.setdefault(wait.lane, {}).update(dict.fromkeys(wait.needs))
    cycle = find_cycle(needs)
    if not cycle:
        shown = list(waits)
        head = f"stuck at {now_ns / 1e6:.3f} ms: a lane waits for what nobody makes."
    else:
        edges = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
        shown = [next(wait for wait in waits if wait.lane == a and b in wait.needs) for a, b in edges]
        several = len({wait.lane[1] for wait in waits}) > 1
        names = " -> ".join(_name(lane, several) for lane in [*cycle, cycle[0]])
        head = f"deadlock at {now_ns / 1e6:.3f} ms: {names}."
    several = len({wait.lane[1] for wait in waits}) > 1
    tail = "; ".join(f"{_name(w.lane, several)} in {w.during} waits for {w.what}" for w in shown[:8])
    return f"{head} {tail}."


def find_cycle(needs: Mapping[Lane, Iterable[Lane]]) -> list[Lane]:
    """Return the first cycle that a search in depth finds, in the order of `needs`; none: an empty list.

    >>> find_cycle({(0, 0): [(1, 0)], (1, 0): [(3, 0), (2, 0)], (2, 0): [(1, 0)]})
    [(1, 0), (2, 0)]
    """
    done: set[Lane] = set()
    for start in needs:
        if start in done:
            continue
        path, ahead = [start], [iter(needs[start])]
        while path:
            for lane in ahead[-1]:
                if lane in path:
                    return path[path.index(lane) :]
                if lane not in done:
                    path.append(lane)
                    ahead.append(iter(needs.get(lane, ())))
                    break
            else:
                done.add(path.pop())
                ahead.pop()
    return []


def _name(lane: Lane, several: bool) -> str:
    return f"stage {lane[0]} lane {lane[1]}" if several else f"stage {lane[0]}"
