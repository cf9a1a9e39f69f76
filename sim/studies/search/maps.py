"""Max-plus maps: when a lane and its host are done, from when they could begin.

Model
-----
What a lane does next starts at the latest of some times, each of which is the lane's or the host's so far plus a
constant. So a row of ops is a matrix over (max, +) of two rows and two columns::

    lane' = max(lane + m[0][0], host + m[0][1])
    host' = max(lane + m[1][0], host + m[1][1])

and ops one after another are its product. Such a map says what the engine needs at least: it leaves out who else is on
the links, whose kernels are slowed, and what runs on streams that are awaited in another map. In the engine all of
these make times later, and later times make no time earlier; so composed maps bound the engine from below.
A transfer may end 1 ns before its time alone (see the network's ends), and is counted so.
"""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final

from sim.plan.ops import AwaitStream, Collective, Compute, HostWork, Op, Service

__all__ = ["IDENTITY", "Map", "after", "applied", "map_of", "product"]

Map = tuple[float, float, float, float]
"""Lane by lane, lane by host, host by lane, host by host: nanoseconds, or minus infinity."""

_NEVER: Final = -math.inf
IDENTITY: Final[Map] = (0.0, _NEVER, _NEVER, 0.0)


def product(maps: Iterable[Map]) -> Map:
    """Return the map of maps one after another, the first one first."""
    return reduce(after, maps, IDENTITY)


def after(first: Map, second: Map) -> Map:
    """Return the map of one map after another.

    >>> wait_5, work_3 = (5.0, -math.inf, -math.inf, 0.0), (0.0, 3.0, -math.inf, 3.0)
    >>> after(wait_5, work_3)
    (5.0, 3.0, -inf, 3.0)
    """
    a, b, c, d = first
    e, f, g, h = second
    return max(e + a, f + c), max(e + b, f + d), max(g + a, h + c), max(g + b, h + d)


def applied(one: Map, lane_ns: float, host_ns: float) -> tuple[float, float]:
    """Return when lane and host are done, which begin at these times."""
    return max(lane_ns + one[0], host_ns + one[1]), max(lane_ns + one[2], host_ns + one[3])


def map_of(ops: Sequence[Op]) -> Map:
    """Return the map of ops that a lane runs one after another."""
    by_lane, by_host = _run(ops, 0.0, _NEVER), _run(ops, _NEVER, 0.0)
    return by_lane[0], by_host[0], by_lane[1], by_host[1]


def _run(ops: Sequence[Op], lane: float, host: float) -> tuple[float, float]:
    """Return when lane and host are done with ops when nobody else is there."""
    streams: dict[str, float] = {}
    for op in ops:
        if isinstance(op, Compute):
            if op.issue_ns:
                for issue_ns, took_ns in zip(op.issue_ns, op.slowest_ns, strict=True):
                    host += issue_ns
                    lane = max(lane, host) + took_ns
            else:
                lane += sum(op.slowest_ns)
        elif isinstance(op, Collective):
            if op.issue_ns:
                host += op.issue_ns
                lane = max(lane, host)
            took_ns = max((one.latency_ns + max(0, one.alone_ns - 1) for one in op.transfers), default=0)
            if op.stream is None:
                lane += took_ns
            else:
                streams[op.stream] = max(lane, streams.get(op.stream, _NEVER)) + took_ns
        elif isinstance(op, AwaitStream):
            lane = max(lane, streams.get(op.stream, _NEVER))
        elif isinstance(op, HostWork):
            host = (max(host, lane) if op.waits else host) + op.work_ns
        elif isinstance(op, Service):
            lane += float(op.duration_ns.max(initial=0))
    return lane, host
