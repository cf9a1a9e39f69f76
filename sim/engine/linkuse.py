"""What links carried, noted while the network runs and added up when it is asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.ops import Transfer
from sim.engine.trace import LinkUse

__all__ = ["LinkLog"]

FloatArray = NDArray[np.float64]
_Interval = tuple[int, int, int, Sequence[Transfer], Sequence[float] | None]
"""Start, end, links, who flowed, and their rates per flow (None: alone)."""


class LinkLog:
    """Intervals in which transfers flowed at constant rates."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        self._capacity, self._names, self._link_kinds = capacity, tuple(names), tuple(link_kinds)
        self._kinds = tuple(dict.fromkeys(link_kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in link_kinds], dtype=np.intp)
        self._intervals: list[_Interval] = []
        self._alone_use: dict[Transfer, FloatArray] = {}

    def add_alone(self, start_ns: int, end_ns: int, mask: int, transfers: Sequence[Transfer]) -> None:
        """Note transfers that had their links for themselves; their rate is what the busiest link (or bound) gives."""
        self._intervals.append((start_ns, end_ns, mask, transfers, None))

    def add_knot(
        self, start_ns: int, end_ns: int, mask: int, transfers: Sequence[Transfer], rates: Sequence[float]
    ) -> None:
        """Note transfers that shared links, with their rates per flow in bytes/s."""
        self._intervals.append((start_ns, end_ns, mask, transfers, rates))

    def summary(self, *, with_course: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out, for it takes longest) the course of utilisation."""
        time_ns, utilisation = (
            self._course() if with_course else (np.zeros(0, np.int64), np.zeros((0, len(self._kinds))))
        )
        return LinkUse(
            num_bytes=self._bytes(),
            busy_s=self._busy_s(),
            time_ns=time_ns,
            utilisation=utilisation,
            kinds=self._kinds,
            names=self._names,
            link_kinds=self._link_kinds,
            capacity_bytes_per_s=self._capacity,
        )

    # ---- private -------------------------------------------------------------------------------------------------

    def _alone_rate(self, transfer: Transfer) -> float:
        """Return the rate per flow that the busiest link gives, or its own bound."""
        return transfer.flow_bytes / transfer.alone_s(self._capacity)

    def _bytes(self) -> FloatArray:
        """Return rate x time on each link. Shape [L]."""
        flowed: dict[Transfer, float] = {}
        alone: dict[Transfer, int] = {}
        for start_ns, end_ns, _, transfers, rates in self._intervals:
            took_ns = end_ns - start_ns
            if rates is None:
                for transfer in transfers:
                    alone[transfer] = alone.get(transfer, 0) + took_ns
            else:
                for transfer, rate in zip(transfers, rates, strict=True):
                    flowed[transfer] = flowed.get(transfer, 0.0) + rate * took_ns * 1e-9
        for transfer, time_ns in alone.items():
            flowed[transfer] = flowed.get(transfer, 0.0) + self._alone_rate(transfer) * time_ns * 1e-9
        if not flowed:
            return np.zeros(self._capacity.size)
        links = np.concatenate([transfer.load.links for transfer in flowed])
        amounts = [t.load.num_bytes * (flow_bytes / t.flow_bytes) for t, flow_bytes in flowed.items()]
        return np.bincount(links, weights=np.concatenate(amounts), minlength=self._capacity.size).astype(np.float64)

    def _busy_s(self) -> FloatArray:
        size = self._capacity.size
        total = np.zeros(size, dtype=np.int64)
        busy_ns: dict[int, int] = {}
        for start_ns, end_ns, mask, _, _ in self._intervals:
            busy_ns[mask] = busy_ns.get(mask, 0) + end_ns - start_ns
        for mask, time_ns in busy_ns.items():
            bits = np.frombuffer(mask.to_bytes(-(-size // 8), "little"), dtype=np.uint8)
            total += np.unpackbits(bits, count=size, bitorder="little").astype(np.int64) * time_ns
        return total / 1e9

    def _course(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the times at which loads changed, and the load of the busiest link of each kind from then on."""
        intervals = sorted(self._intervals, key=lambda interval: interval[0])
        start = np.array([interval[0] for interval in intervals], dtype=np.int64)
        end = np.array([interval[1] for interval in intervals], dtype=np.int64)
        times = np.unique(np.concatenate([start, end]))
        use = np.zeros((times.size, len(self._kinds)))
        first, last = np.searchsorted(times, start), np.searchsorted(times, end)
        for (_, _, _, transfers, rates), low, high in zip(intervals, first.tolist(), last.tolist(), strict=True):
            np.maximum(use[low:high], self._use_of(transfers, rates), out=use[low:high])
        return times, use

    def _use_of(self, transfers: Sequence[Transfer], rates: Sequence[float] | None) -> FloatArray:
        """Return the load of the busiest link of each kind while `transfers` flow. Shape [kinds]."""
        if rates is None:  # disjoint: each its own
            return np.asarray(np.max([self._known_use(transfer) for transfer in transfers], axis=0), dtype=float)
        rate_on = np.zeros(self._capacity.size)
        for transfer, rate in zip(transfers, rates, strict=True):
            rate_on[transfer.load.links] += transfer.load.num_bytes * (rate / transfer.flow_bytes)
        return self._busiest(rate_on)

    def _known_use(self, transfer: Transfer) -> FloatArray:
        use = self._alone_use.get(transfer)
        if use is None:
            rate_on = np.zeros(self._capacity.size)
            rate_on[transfer.load.links] = transfer.load.num_bytes / transfer.alone_s(self._capacity)
            use = self._alone_use[transfer] = self._busiest(rate_on)
        return use

    def _busiest(self, rate_on: FloatArray) -> FloatArray:
        use = np.zeros(len(self._kinds))
        loaded = np.flatnonzero(rate_on)
        np.maximum.at(use, self._kind_of[loaded], rate_on[loaded] / self._capacity[loaded])
        return use
