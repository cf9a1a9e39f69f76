"""Small sets of numbers (links, ranks) as bits of an integer, so that to meet is an `&`."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["bits_of"]


def bits_of(numbers: NDArray[np.intp]) -> int:
    """Return numbers, none negative, as bits of an integer.

    >>> bin(bits_of(np.array([0, 3])))
    '0b1001'
    """
    return _bits_of(numbers.tobytes())


@lru_cache(maxsize=1024)
def _bits_of(numbers: bytes) -> int:
    """Do so for the numbers' memory: most sets come again."""
    places = np.frombuffer(numbers, dtype=np.intp)
    bits = np.zeros(int(places.max()) + 1 if places.size else 0, dtype=np.uint8)
    bits[places] = 1
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
