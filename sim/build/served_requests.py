"""The requests of a server: those of a trace, or drawn ones."""

from dataclasses import replace
from typing import Final

import numpy as np

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_REQUESTS
from sim.scenario.recordings.requests import read_requests
from sim.scenario.scenario import Scenario
from sim.scenario.serving_section import LengthsSection, RequestsSection
from workloads.serving.arrivals import arrival_times_s
from workloads.serving.lengths import Lengths
from workloads.serving.requests import Request
from workloads.serving.server import ServerLimits

__all__ = ["CLOSED_LOOPS", "check_requests", "lengths_of", "requests_of"]

CLOSED_LOOPS: Final = 10
"""Requests of a closed loop over its concurrency, where no count is given: InferenceX sends so many."""


def requests_of(scenario: Scenario, section: RequestsSection, seed: int) -> tuple[Request, ...]:
    """Return the requests of a section, each drawn quantity from a stream of its own."""
    if section.trace is not None:
        return _of_trace(scenario, section)
    streams = np.random.default_rng(np.random.SeedSequence(seed)).spawn(3)
    count = section.count or min(MAX_REQUESTS, CLOSED_LOOPS * (section.concurrency or 0))
    prompts = lengths_of("workload.requests.input", section.input).draw(streams[0], count)
    outputs = lengths_of("workload.requests.output", section.output).draw(streams[1], count)
    times = np.zeros(count)
    if section.arrival is not None:
        rate = section.rate_per_s or 1.0
        times = arrival_times_s(section.arrival, streams[2], count, rate_per_s=rate, cv=section.cv, burst=section.burst)
    shared = section.shared_prefix
    return tuple(
        Request(
            name=str(number),
            arrival_s=time,
            prompt_tokens=prompt,
            output_tokens=output,
            prefix_hashes=(0,) if 0 < shared <= prompt else (),
            hash_tokens=max(1, shared),
        )
        for number, (time, prompt, output) in enumerate(
            zip(times.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
        )
    )


def check_requests(requests: tuple[Request, ...], limits: ServerLimits) -> None:
    """Refuse a request that no cache of the server's size can hold, and parts of prompts that are no whole blocks."""
    capacity = (limits.kv_blocks or 0) * limits.block_size
    for request in requests:
        if request.total_tokens > capacity:
            raise InvalidValueError(
                "workload.server.kv_blocks",
                rule=f"hold the {request.total_tokens:,} tokens of request {request.name} "
                f"({request.prompt_tokens:,} of its prompt)",
                value=f"{limits.kv_blocks} blocks of {limits.block_size} tokens, {capacity:,} in all",
                hint="Use more memory or ranks, or shorter requests.",
            )
        if request.prefix_hashes and request.hash_tokens % limits.block_size and len(request.prefix_hashes) > 1:
            rule, hint = f"divide the {request.hash_tokens} tokens of a part of the trace's prompts", "Write 16."
            raise InvalidValueError("workload.server.block_size", rule, limits.block_size, hint)


def lengths_of(key: str, section: LengthsSection | None) -> Lengths:
    """Return the lengths that stand at a dotted key of a scenario.

    Raises
    ------
    InvalidValueError
        A value that the distribution needs is not given.
    """
    try:
        return Lengths(**(section or LengthsSection()).model_dump())
    except InvalidValueError as error:
        raise error.at(field=f"{key}.{error.field}") from None


# ---- private -----------------------------------------------------------------------------------------------------


def _of_trace(scenario: Scenario, section: RequestsSection) -> tuple[Request, ...]:
    path = scenario.file_beside("workload.requests.trace", section.trace or "")
    read = read_requests(path)
    if section.count is None and section.repeat * len(read) > MAX_REQUESTS:
        rule = f"make at most {MAX_REQUESTS:,} requests of the {len(read):,} of the trace"
        raise InvalidValueError("workload.requests.repeat", rule, section.repeat, "Repeat less, or give count.")
    last = read[-1].arrival_s
    period = last + last / max(1, len(read) - 1)
    highest = 1 + max((max(request.prefix_hashes, default=0) for request in read), default=0)
    made: list[Request] = []
    for copy in range(section.repeat):
        for request in read:
            if section.count is not None and len(made) >= section.count:
                return tuple(made)
            made.append(
                replace(
                    request,
                    name=str(len(made)),
                    arrival_s=(request.arrival_s + copy * period) / section.speed,
                    prefix_hashes=tuple(name + copy * highest for name in request.prefix_hashes),
                )
            )
    return tuple(made)
