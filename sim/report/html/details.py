"""What the page shows of a run beyond its JSON object: the record of the run and the tokens of experts.

`details.npz` holds what `trace.npz` and `result.json` do not: ranks of lanes, load of links over time, tokens of ranks,
and the command. With the three files in one folder the page can be made again without a simulation.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.build import build
from sim.engine.trace import Trace
from sim.results.trace_arrays import lane_arrays
from sim.run.saved import SavedRun
from sim.run.scenario_run import Simulated
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from sim.studies.stress.report import expert_tokens

__all__ = ["RunDetails", "arrays_of", "details_of", "details_of_saved", "with_experts"]

_MOST_CELLS: Final = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunDetails:
    """The record of a run, and what its experts computed."""

    trace: Trace
    """What happened when."""
    rank_tokens: NDArray[np.int64] | None = None
    """Tokens for experts that each rank computed, over all layers, by stage and microbatch that the tokens are of.

    Shape [S, M, R]; None without experts, and where there are more than 4 million numbers.
    """
    expert_tokens: NDArray[np.int64] | None = None
    """Copies of tokens for each expert of each layer with experts, in the first microbatch. Shape [L, E]."""
    expert_layers: tuple[int, ...] = ()
    """Numbers of these layers. Length L."""
    command: str = ""
    """The command that makes the run."""
    picture: bytes = b""
    """An SVG of the cluster with the load of its links; empty where there is none."""


def details_of(simulated: Simulated, *, command: str = "", picture: bytes = b"") -> RunDetails:
    """Return what the page shows of a simulation, but for the tokens of each expert (`with_experts`)."""
    run = simulated.run
    num_microbatches = 1 + max((m for of in run.tokens_received.values() for m, _ in of), default=-1)
    num_stages, _, num_ranks = *run.trace.lane_ranks.shape[:2], int(run.trace.lane_ranks.max(initial=-1)) + 1
    tokens = None
    if 0 < num_stages * num_microbatches * num_ranks <= _MOST_CELLS:
        tokens = np.zeros((num_stages, num_microbatches, num_ranks), dtype=np.int64)
        for (stage, lane), received in run.tokens_received.items():
            for (microbatch, _), on_hosts in received.items():
                for ranks in _ranks_of_hosts(run.trace, stage, lane, on_hosts.size):
                    tokens[stage, microbatch, ranks] += np.repeat(on_hosts, ranks.size // on_hosts.size)
    return RunDetails(trace=run.trace, rank_tokens=tokens, command=command, picture=picture)


def with_experts(details: RunDetails, scenario: Scenario) -> RunDetails:
    """Return details with the tokens of each expert of a scenario, where it has some."""
    if not isinstance(scenario.spec.workload, (ForwardWorkload, TrainingWorkload)):
        return details
    model = build(scenario).work.model
    layers = tuple(layer for layer in range(model.layers) if model.is_moe_layer(layer))
    if not layers or len(layers) * model.experts > _MOST_CELLS:
        return details
    return replace(details, expert_tokens=expert_tokens(scenario), expert_layers=layers)


def _ranks_of_hosts(trace: Trace, stage: int, lane: int, num_hosts: int) -> list[NDArray[np.intp]]:
    """Return the ranks of a lane's expert hosts, and of those of lanes that it stands for; a host may be several."""
    world = np.arange(int(trace.lane_ranks.max()) + 1)
    if num_hosts == world.size:  # experts serve all stages
        return [world] * trace.num_of[lane]
    of = np.arange(trace.num_lanes) if trace.lane_of is None else trace.lane_of
    ranks = [np.sort(trace.lane_ranks[stage, number]) for number in np.flatnonzero(of == lane).tolist()]
    return [members for members in ranks if num_hosts and members.size % num_hosts == 0]


def arrays_of(details: RunDetails) -> dict[str, NDArray[Any]]:
    """Return the arrays of `details.npz`."""
    arrays = lane_arrays(details.trace) | {
        "command": np.array(details.command),
        "picture": np.frombuffer(details.picture, dtype=np.uint8),
    }
    if details.rank_tokens is not None:
        arrays["rank_tokens"] = details.rank_tokens
    if details.expert_tokens is not None:
        arrays["expert_tokens"] = details.expert_tokens
        arrays["expert_layers"] = np.array(details.expert_layers, dtype=np.int64)
    return arrays


def details_of_saved(run: SavedRun) -> RunDetails | None:
    """Return the record of a run that was saved; None where its arrays are not there.

    Raises
    ------
    InvalidValueError
        The arrays are there and cannot be used.
    """
    trace, arrays = run.trace, run.arrays
    if trace is None or arrays is None:
        return None
    return RunDetails(
        trace=trace,
        rank_tokens=arrays.get("rank_tokens"),
        expert_tokens=arrays.get("expert_tokens"),
        expert_layers=tuple(arrays["expert_layers"].tolist()) if "expert_layers" in arrays else (),
        command=str(arrays["command"].item()) if "command" in arrays else "",
        picture=arrays["picture"].tobytes() if "picture" in arrays else b"",
    )
