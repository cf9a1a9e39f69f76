"""The largest cluster that is simulated."""

from typing import Final

__all__ = ["MAX_GPUS"]

MAX_GPUS: Final = 65_536
"""GPUs of the largest cluster."""
