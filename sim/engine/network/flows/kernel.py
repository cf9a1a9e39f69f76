"""Flows that share links max-min fairly, from end to end of a flow: the kernel.

Model
-----
Links saturate one after another, in rising order of level; a flow runs at the level of the first of its links that
does, its *bottleneck*. With `weight[c, l]` the shares on link l of the flows whose bottleneck is c::

    level[l] * weight[l, l] = capacity[l] - sum over c before l of weight[c, l] * level[c]

An order of links is right when these levels rise along it and no link outside it is over its capacity: each flow then
has a full link on which none is faster, which is what max-min fair means (Bertsekas & Gallager, 1992, section 6.5.2).

How it is fast
--------------
- When a flow ends, all links before its bottleneck stay as they are; the others are taken through in the order they
  had, a vector operation each (`left` keeps what is left of all capacities before each position in the order).
- Where levels no longer rise, a link moves forward to its position, and takes over the flows that it now holds back.
- Rates are not written to flows. Each link counts the bytes that a flow of share 1 which it holds back has sent (its
  *tally*); a flow ends when its bottleneck's tally reaches the flow's mark.

Links and flows that have nothing in common belong to different *components*; links are numbered component by component.

The source is a subset of Python that runs interpreted and compiled by numba, and gives the same bits either way: no sum
is taken in an order that a compiler may choose. numba is optional (`pip install moesim[fast]`) and imported only where
compiling is worth its time. The functions are compiled one after another, each with the compiled functions before it;
the compiled code is kept on disk where there is a position for it.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.optional_numba import NoNumbaError, import_numba

__all__ = ["FUNCTIONS", "Run", "State", "choose_run", "compiled_run", "run", "solve"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_TIE = 1e-12  # relative; levels this close are equal
_NOISE = 1e-13  # of a link's capacity: what hundreds of subtractions may leave of nothing
_ROUNDING_NS = 1e-6  # float noise below this is not rounded up to a whole nanosecond, as in sim.time


class State(NamedTuple):
    """Flows and links at one time. L links in C components, F flows, E entries (flow, link)."""

    first_link: IntArray
    """First link of each component, and the number of links. Shape [C + 1]."""
    component: IntArray
    """Part of each link. Shape [L]."""
    capacity: FloatArray
    """Bytes/s. Shape [L]."""
    first: IntArray
    """First entry of each flow, and the number of entries. Shape [F + 1]."""
    links: IntArray
    """Link of each entry, by flow. Shape [E]."""
    share: FloatArray
    """Share of each entry, by flow. Shape [E]."""
    first_on: IntArray
    """First entry of each link, and the number of entries. Shape [L + 1]."""
    flows_on: IntArray
    """Flow of each entry, by link. Shape [E]."""
    owner: IntArray
    """Transfer of each flow. Shape [F]."""
    waiting: IntArray
    """Flows of each transfer that have not ended. Shape [T]."""
    bottleneck: IntArray
    """Link that holds each flow back; -1 when it has ended. Shape [F]."""
    mark: FloatArray
    """Tally of its bottleneck at which each flow ends. Shape [F]."""
    end_ns: IntArray
    """End of each flow; -1 before. Shape [F]."""
    tally: FloatArray
    """Bytes that a flow whose bottleneck is the link has sent since the start. Shape [L]."""
    level: FloatArray
    """Bytes/s of each flow that a link holds back. Shape [L]."""
    next_mark: FloatArray
    """Lowest mark of the flows that each link holds back; infinite without any. Shape [L]."""
    num_held: IntArray
    """Flows that each link holds back. Shape [L]."""
    weight: FloatArray
    """Shares on each link of its component of the flows that a link holds back. Shape [L, widest component]."""
    order: IntArray
    """Links of each component in rising order of level, those that hold back none left out. Shape [L]."""
    position: IntArray
    """Position of each link in the order of its component; -1 where it has none. Shape [L]."""
    num_ordered: IntArray
    """Links in the order of each component. Shape [C]."""
    left: FloatArray
    """Capacities of a component that are left before each position in its order. Shape [L + C, widest component]."""
    is_stale: NDArray[np.bool_]
    """Links whose `next_mark` is to be looked up again. Shape [L]."""


def run(s: State, now_ns: int, stop_ns: int) -> tuple[int, int]:
    """Let the flows go on until a transfer ends, or until `stop_ns`; return the time, and how often it was solved."""
    num_solves = 0
    dirty = np.full(s.num_ordered.size, -1, np.int64)
    while True:
        left_s = ((s.next_mark - s.tally) / s.level).min()
        step_ns = max(np.ceil(left_s * 1e9 - _ROUNDING_NS), 0.0)
        if not step_ns <= stop_ns - now_ns:
            s.tally[:] += s.level * ((stop_ns - now_ns) * 1e-9)
            return stop_ns, num_solves
        now_ns += int(step_ns)
        s.tally[:] += s.level * (step_ns * 1e-9)
        has_ended = _end_flows(s, now_ns, dirty)
        for component in np.flatnonzero(dirty >= 0):
            solve(s, int(component), int(dirty[component]))
            num_solves += 1
            dirty[component] = -1
        _look_up_marks(s)
        if has_ended:
            return now_ns, num_solves


def solve(s: State, component: int, start: int) -> None:
    """Find levels and bottlenecks of a component again, from a position in its order on."""
    position = start
    while True:
        _follow(s, component, position)
        low, high = s.first_link[component], s.first_link[component + 1]
        last = s.left[low + component + s.num_ordered[component], : high - low]
        over = np.flatnonzero((last < -_NOISE * s.capacity[low:high]) & (s.position[low:high] < 0))
        if over.size == 0:
            return
        position = _move_forward(s, component, low + over[0], s.num_ordered[component])


def _follow(s: State, component: int, start: int) -> None:
    """Take the links through in their order, and put each link at its position."""
    low, base = s.first_link[component], s.first_link[component] + component
    order, levels, left, weight, num_held = s.order, s.level, s.left, s.weight, s.num_held
    width = s.first_link[component + 1] - low
    position = start
    before = levels[order[low + position - 1]] if position > 0 else 0.0
    while position < s.num_ordered[component]:
        link = order[low + position]
        if num_held[link] == 0:
            _leave_order(s, component, position)
            continue
        level = left[base + position, link - low] / weight[link, link - low]
        if level < before and _is_below(s, link, level, before):
            earlier = _move_forward(s, component, link, position)
            if earlier < position:
                position = earlier
                before = levels[order[low + position - 1]] if position > 0 else 0.0
                continue
        levels[link] = before = level
        _subtract(left[base + position], weight[link], level, left[base + position + 1], width)
        position += 1


def _subtract(row: FloatArray, weight: FloatArray, level: float, out: FloatArray, width: int) -> None:
    """Write what is left of the capacities when flows of `weight` run at `level`."""
    out[:width] = row[:width] - weight[:width] * level


def _is_below(s: State, link: int, level: float, other: float) -> bool:
    """Tell whether a link's level is below another by more than float noise."""
    weight = s.weight[link, link - s.first_link[s.component[link]]]
    return bool(level < other * (1 - _TIE) and (other - level) * weight > _NOISE * s.capacity[link])


def _leave_order(s: State, component: int, position: int) -> None:
    """Take a link that holds back no flow out of the order."""
    low = s.first_link[component]
    link = s.order[low + position]
    s.num_ordered[component] -= 1
    for i in range(low + position, low + s.num_ordered[component]):
        s.order[i] = s.order[i + 1]
        s.position[s.order[i]] = i - low
    s.position[link] = -1
    s.level[link] = 1.0  # any: its marks are infinite
    s.weight[link, :] = 0.0


def _move_forward(s: State, component: int, link: int, position: int) -> int:
    """Move a link from `position` (or from outside) to where it saturates, and return that position."""
    low, base = s.first_link[component], s.first_link[component] + component
    own = s.weight[link, link - low] if s.position[link] >= 0 else 0.0
    total_weight = own
    target = position
    while target > 0:
        before = s.order[low + target - 1]
        total_weight += s.weight[before, link - low]
        if not s.left[base + target - 1, link - low] < s.level[before] * total_weight:
            break
        target -= 1
    if target == position and s.position[link] >= 0:
        return position
    if s.position[link] < 0:
        s.num_ordered[component] += 1
    if total_weight > own:
        _take_over(s, link, target, position)
    for i in range(low + position, low + target, -1):
        s.order[i] = s.order[i - 1]
        s.position[s.order[i]] = i - low
    s.order[low + target] = link
    s.position[link] = target
    return target


def _take_over(s: State, link: int, start: int, stop: int) -> None:
    """Let `link` hold back those of its flows whose bottleneck stands from `start` to before `stop`."""
    low = s.first_link[s.component[link]]
    flows = s.flows_on[s.first_on[link] : s.first_on[link + 1]]
    flows = flows[s.bottleneck[flows] >= 0]
    positions = s.position[s.bottleneck[flows]]
    for flow in flows[(positions >= start) & (positions < stop)]:
        old = s.bottleneck[flow]
        s.bottleneck[flow] = link
        s.mark[flow] += s.tally[link] - s.tally[old]
        s.num_held[old] -= 1
        s.num_held[link] += 1
        s.is_stale[old] = s.is_stale[link] = True
        for entry in range(s.first[flow], s.first[flow + 1]):
            column = s.links[entry] - low
            s.weight[old, column] -= s.share[entry]
            s.weight[link, column] += s.share[entry]


def _end_flows(s: State, now_ns: int, dirty: IntArray) -> bool:
    """End all flows with under a nanosecond left; note from where each component is to be solved again."""
    has_ended = False
    for link in np.flatnonzero(s.next_mark - s.tally < s.level * 1e-9):
        component = s.component[link]
        low = s.first_link[component]
        flows = s.flows_on[s.first_on[link] : s.first_on[link + 1]]
        flows = flows[s.bottleneck[flows] == link]
        flows = flows[s.mark[flows] - s.tally[link] < s.level[link] * 1e-9]
        s.bottleneck[flows] = -1
        s.end_ns[flows] = now_ns
        s.num_held[link] -= flows.size
        if s.num_held[link] == 0:
            s.weight[link, :] = 0.0
        else:
            for flow in flows:
                for entry in range(s.first[flow], s.first[flow + 1]):
                    s.weight[link, s.links[entry] - low] -= s.share[entry]
        num_ended = np.bincount(s.owner[flows], minlength=s.waiting.size)
        s.waiting[:] -= num_ended
        has_ended = has_ended or ((num_ended > 0) & (s.waiting == 0)).any()
        s.is_stale[link] = True
        if dirty[component] < 0 or s.position[link] < dirty[component]:
            dirty[component] = s.position[link]
    return has_ended


def _look_up_marks(s: State) -> None:
    """Find the next flow to end on each link where flows came or went."""
    for link in np.flatnonzero(s.is_stale):
        s.is_stale[link] = False
        s.next_mark[link] = np.inf
        if s.num_held[link] > 0:
            flows = s.flows_on[s.first_on[link] : s.first_on[link + 1]]
            s.next_mark[link] = s.mark[flows[s.bottleneck[flows] == link]].min()


FUNCTIONS = (
    _subtract,
    _is_below,
    _leave_order,
    _take_over,
    _move_forward,
    _follow,
    solve,
    _end_flows,
    _look_up_marks,
    run,
)
"""All functions, each after those that it calls: in this order they are compiled."""

# ---- compiled ----------------------------------------------------------------------------------------------------

Run = Callable[[State, int, int], tuple[int, int]]
"""The type of `run`, interpreted or compiled."""

_WORTH_STEPS = 5_000
"""Steps that take seconds interpreted (0.1 to 0.5 ms each), as compiling does (10 s once, 1 s where it is kept)."""


def choose_run(num_steps: int) -> Run:
    """Return `run`: compiled if that is worth it for so many steps, and if numba is there."""
    try:
        return compiled_run() if num_steps >= _WORTH_STEPS else run
    except NoNumbaError:
        return run


@cache
def compiled_run() -> Run:
    """Return `run` compiled by numba; the first call of it takes seconds, or less where it was kept on disk."""
    numba = import_numba()
    space: dict[str, Any] = dict(globals())
    for interpreted in FUNCTIONS:
        source = _subtract_in_a_loop if interpreted is _subtract else interpreted
        function = FunctionType(source.__code__, space, interpreted.__name__)
        try:
            space[interpreted.__name__] = numba.njit(cache=True)(function)
        except RuntimeError:  # no position to keep it: a read-only install without a home
            space[interpreted.__name__] = numba.njit(function)
    compiled: Run = space["run"]
    return compiled


def _subtract_in_a_loop(row: FloatArray, weight: FloatArray, level: float, out: FloatArray, width: int) -> None:
    """Do as `_subtract` does, in the loop that compilers like (numpy's expression makes an array first)."""
    for i in range(width):
        out[i] = row[i] - weight[i] * level
