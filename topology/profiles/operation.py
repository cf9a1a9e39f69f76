"""What an operation of a profile is: sizes, FLOPs, bytes, the directions in which shapes differ, and substitutes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from topology.profiles.formats import Format

__all__ = ["Coordinate", "Fallback", "Floats", "Operation", "Shape"]

Floats = NDArray[np.float64]
Shape = Mapping[str, Floats]
"""Sizes of shapes by field, arrays of one length."""
Default = str | float | Callable[[Shape], Floats]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """One direction in which shapes differ."""

    of: Callable[[Shape], Floats]
    """The size, above 0, whose logarithm is the coordinate."""
    spread: float
    """Octaves over which a measured point speaks for its neighbours."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """An operation that answers for another one."""

    operation: str
    """Its name."""
    slowdown: float = 1.0
    """Ratio to the roofline of the other one over that of this one."""
    shape: Callable[[Shape], Shape] = dict
    """The shape of this one that answers for a shape of the other one."""
    slowdown_of: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Ratio in formats whose ratio is another one, by format."""

    def slowdown_in(self, fmt: str) -> float:
        """Return the ratio of slowdowns in a format."""
        return self.slowdown_of.get(fmt, self.slowdown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the profiles."""

    fields: tuple[str, ...]
    """Sizes of a shape, in the order of the CSV file's columns."""
    coordinates: tuple[Coordinate, ...]
    """Directions in which shapes differ."""
    group: tuple[str, ...]
    """Fields whose values make a group of shapes: a table measures the other fields as a series of each group."""
    flops: Callable[[Shape], Floats]
    """FLOPs that are executed."""
    num_bytes: Callable[[Shape, Format], Floats]
    """Bytes read and written."""
    optional: Mapping[str, Default] = field(default_factory=lambda: MappingProxyType({}))
    """Fields that may be left out: a number, the field whose value they take, or what they follow from."""
    fallbacks: tuple[Fallback, ...] = ()
    """Operations whose measured points answer where a profile has none of this one: that with the least slowdown."""
    meaning: str
    """What the operation is, for documents."""

    def complete(self, shape: Mapping[str, object]) -> Shape:
        """Return the sizes of all fields, those that were left out filled in, as arrays of one length.

        >>> from topology.profiles.operations import OPERATIONS
        >>> {name: size.tolist() for name, size in OPERATIONS["mla_decode"].complete({"batch": [1, 2], "heads": 128,
        ...  "length": 64}).items()}
        {'batch': [1.0, 2.0], 'heads': [128.0, 128.0], 'length': [64.0, 64.0]}
        """
        given = {name: np.asarray(size, dtype=np.float64) for name, size in shape.items()}
        for name in self.fields:
            if name not in given:
                default = self.optional[name]
                given[name] = default(given) if callable(default) else _looked_up(default, given)
        sizes = np.broadcast_arrays(*(given[name] for name in self.fields))
        return {name: np.atleast_1d(size) for name, size in zip(self.fields, sizes, strict=True)}

    def point(self, shape: Shape) -> Floats:
        """Return the coordinates of shapes. Shape [N, C]."""
        return np.stack([np.log2(item.of(shape)) / item.spread for item in self.coordinates], axis=-1)


def _looked_up(default: str | float, given: Shape) -> Floats:
    return given[default] if isinstance(default, str) else np.asarray(default, dtype=np.float64)
