"""What cluster and workload refuse gets its place in the scenario's file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sim.errors import InputError
from sim.scenario.parallel_section import AXES
from sim.scenario.scenario import Scenario
from topology.errors import TopologyError
from workloads.errors import WorkloadError

__all__ = ["located_errors"]

_SUBJECT_PATHS = {
    "strategy": "parallel.strategy",
    "cluster": "cluster.preset",
    "device": "cluster.device.preset",
    "routing": "routing.kind",
    "placement": "placement.kind",
    "schedule": "schedule.kind",
}


@contextmanager
def located_errors(scenario: Scenario) -> Iterator[None]:
    """Give what cluster and workload refuse its place in the scenario."""
    try:
        yield
    except (WorkloadError, TopologyError) as error:
        raise _placed(scenario, error) from None


def _placed(scenario: Scenario, error: WorkloadError | TopologyError) -> InputError:
    """Return the error with file and line."""
    path = error.field if "." in error.field else f"{error.subject}.{error.field}"
    subject = error.subject.split(" ")[0]
    if error.field in ("preset", "name", "kind") and subject in _SUBJECT_PATHS:
        path = _SUBJECT_PATHS[subject]
    elif subject == "cluster":
        path = f"cluster.{error.field}"
    elif subject == "device":
        path = "model.dtype" if error.field == "dtype" else f"cluster.device.{error.field}"
    value = error.value if _is_said(scenario, path) else f"nothing, which is {error.value}"
    return scenario.error_at(path, rule=error.rule, value=value, cure=error.cure)


def _is_said(scenario: Scenario, path: str) -> bool:
    """Tell whether a strategy's axis stands in the scenario, by key or in the strategy's name; other keys do."""
    axis = path.removeprefix("parallel.")
    if axis == path or axis not in AXES or scenario.is_given(path):
        return True
    return re.search(rf"(?<![A-Z]){axis.upper()}\d", (scenario.spec.parallel.strategy or "").upper()) is not None
