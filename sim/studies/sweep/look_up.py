"""Keys of the points of a study, and which of them the store has: block by block, so that no study waits for all."""

import time
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import numpy as np

from sim.errors import InvalidValueError
from sim.scenario.scenario import Scenario
from sim.studies.executors.chunk import variant_of
from sim.studies.store.keys import point_key, refused_key
from sim.studies.store.store import Store

__all__ = ["LookUp", "PointKeys", "Points"]

_BLOCK: Final = 500
"""Points that are looked up together."""
_BLOCK_S: Final = 0.1
"""A block ends after so long, whatever a key costs: chunks of a second end meanwhile."""
_KEY_BYTES: Final = 16


class Points(Protocol):
    """The points of a study."""

    @property
    def num_points(self) -> int:
        """How many there are."""

    def changes(self, number: int) -> Mapping[str, object]:
        """Return the dotted keys and values of a point that differ from the study's scenario."""


class PointKeys:
    """The key of each point, in 16 bytes; none where a point has not been looked up.

    Examples
    --------
    >>> keys = PointKeys(2)
    >>> keys.set(1, "00ff" * 8)
    >>> keys.of(0), keys.of(1)
    (None, '00ff00ff00ff00ff00ff00ff00ff00ff')
    """

    def __init__(self, num_points: int) -> None:
        """Know no key yet."""
        self._bytes = bytearray(_KEY_BYTES * num_points)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self._bytes) // _KEY_BYTES

    def set(self, number: int, key: str) -> None:
        """Enter the key of a point."""
        self._bytes[_KEY_BYTES * number : _KEY_BYTES * (number + 1)] = bytes.fromhex(key)

    def of(self, number: int) -> str | None:
        """Return the key of a point."""
        found = self._bytes[_KEY_BYTES * number : _KEY_BYTES * (number + 1)]
        return found.hex() if any(found) else None

    def num_different(self) -> int:
        """Return how many different keys are known."""
        different = np.unique(np.frombuffer(self._bytes, dtype=f"S{_KEY_BYTES}"))
        return int(np.count_nonzero(different))


class LookUp:
    """What is known of the points of a study: their keys, and which the store has."""

    def __init__(self, scenario: Scenario, points: Points, store: Store, wanted: frozenset[str]) -> None:
        """Know nothing yet."""
        self._scenario, self._points, self._store, self._wanted = scenario, points, store, wanted
        self._own_key = point_key(scenario, wanted=wanted)
        self.keys = PointKeys(points.num_points)
        self.num_seen = 0
        """Points that were looked up."""
        self.time_s = 0.0
        """What that took."""

    @property
    def num_unseen(self) -> int:
        """Points that were not looked up yet."""
        return self._points.num_points - self.num_seen

    @property
    def cost_s(self) -> float:
        """Seconds that a point took, on average."""
        return self.time_s / max(self.num_seen, 1)

    def block(self, numbers: Iterator[int]) -> list[int] | None:
        """Look up the next of some points; return those that the store does not have, or None at the end."""
        began, keys = time.perf_counter(), dict[int, str]()
        for number in numbers:
            keys[number] = self._key(number)
            self.keys.set(number, keys[number])
            if len(keys) == _BLOCK or time.perf_counter() - began > _BLOCK_S:
                break
        if not keys:
            return None
        finished = self._store.finished(set(keys.values()))
        self.num_seen += len(keys)
        self.time_s += time.perf_counter() - began
        return [number for number, key in keys.items() if key not in finished]

    def _key(self, number: int) -> str:
        """Return the key of a point; a point whose changes are refused has that of its changes."""
        changes = self._points.changes(number)
        try:
            return point_key(variant_of(self._scenario, changes), wanted=self._wanted)
        except InvalidValueError:
            return refused_key(self._own_key, changes)
