"""`engine:` of a scenario: what runs the events of a simulation. Results are the same to the nanosecond."""

from collections.abc import Mapping
from typing import Final

__all__ = ["DEFAULT_ENGINE", "ENGINES", "SIMPY_ENGINE"]

SIMPY_ENGINE: Final = "simpy"
DEFAULT_ENGINE: Final = "auto"
ENGINES: Final[Mapping[str, str]] = {
    SIMPY_ENGINE: "SimPy's processes: the reference",
    "compiled": "the same events in arrays, compiled by numba; SimPy's processes for what it cannot run",
    DEFAULT_ENGINE: "compiled where that saves more time than it takes to begin: the default",
}
"""Name -> what it is."""
