"""The largest cluster that is simulated, and the largest count that an input may hold."""

from typing import Final

__all__ = ["MAX_COUNT", "MAX_GPUS"]

MAX_GPUS: Final = 65_536
"""GPUs of the largest cluster."""
MAX_COUNT: Final = 10**12
"""The largest seed, and the largest count that has no limit of its own."""
