"""`engine:` of a scenario: what runs the events of a simulation. Results are the same to the nanosecond."""

from collections.abc import Mapping
from typing import Final

__all__ = ["AUTO_ENGINE", "DEFAULT_ENGINE", "ENGINES"]

DEFAULT_ENGINE: Final = "simpy"
AUTO_ENGINE: Final = "auto"
ENGINES: Final[Mapping[str, str]] = {
    DEFAULT_ENGINE: "SimPy's processes: the reference, and the default of a single run",
    "compiled": "the same events in arrays, compiled by numba; SimPy's processes for what it cannot run",
    AUTO_ENGINE: "compiled where that saves more time than it takes to begin: the default of studies",
}
"""Name -> what it is."""
