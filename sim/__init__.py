"""When it happens, and what people see: engine, results, studies, report, scenario files and the command line.

>>> import sim
>>> result = sim.simulate("ep16_tp16_pp4", overrides=["workload.microbatches=4", "claims=[]"])
>>> 0.0 <= result.metrics["bubble_fraction"] < 1.0
True

Contents
--------
- `sim.errors`, `sim.time`: what the program refuses; whole nanoseconds.
- `sim.scenario`: files and arguments become a scenario; `build`: a scenario becomes domain values.
- `sim.plan`: work becomes operations; `engine`: operations become a trace; `results`: a trace becomes metrics.
- `sim.run`: one scenario, one result; `studies`: many runs.
- `sim.report`: what people see; `cli`: the commands.

Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.errors import InvalidValueError, MoesimError, OutputError, SimulationError
    from sim.run.result import Result
    from sim.scenario.load import load_scenario
    from sim.studies.claims import simulate

__all__ = [
    "InvalidValueError",
    "MoesimError",
    "OutputError",
    "Result",
    "SimulationError",
    "__version__",
    "load_scenario",
    "simulate",
]

__version__ = "0.1.0"

_HOMES = {
    "InvalidValueError": "sim.errors",
    "MoesimError": "sim.errors",
    "OutputError": "sim.errors",
    "Result": "sim.run.result",
    "SimulationError": "sim.errors",
    "load_scenario": "sim.scenario.load",
    "simulate": "sim.studies.claims",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
