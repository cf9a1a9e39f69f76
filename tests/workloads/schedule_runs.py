"""A list executor for tests of schedules, written apart from the engine and from `ChunkLayout`."""

from collections import deque

from workloads.schedules import SCHEDULES, Pair, Pass, Pipeline, StageTimes, build_pipeline_order

__all__ = [
    "Times",
    "durations",
    "make",
    "max_in_flight",
    "route",
    "run_order",
    "spans_of",
    "split_step",
    "visits_of_stage",
]

Times = tuple[int, int, int]


def route(kind, p, v, chunk):
    """Return the (stage, chunk) that a microbatch visits in order; `chunk` tells which of two copies it takes."""
    match SCHEDULES[kind].layout:
        case "row":
            return [(stage, 0) for stage in range(p)]
        case "round_robin":
            return [(stage, c) for c in range(v) for stage in range(p)]
        case "vee":
            return [(stage, 0) for stage in range(p)] + [(stage, 1) for stage in reversed(range(p))]
        case _:
            return [(stage, chunk) for stage in (reversed(range(p)) if chunk else range(p))]


def make(kind, p, m, *, v=1, times=None, hop=0, share=0.4):
    """Return the pipeline_order of a pipeline of uniform stages."""
    known = None if times is None else (StageTimes(forward_ns=times[0], backward_ns=times[1], weight_ns=times[2]),) * p
    chunks = v if SCHEDULES[kind].num_chunks is None else 1
    return build_pipeline_order(
        kind,
        Pipeline(num_stages=p, num_microbatches=m, num_chunks=chunks, times=known, hop_ns=hop, weight_share=share),
    )


def split_step(step):
    """Return the passes of a step."""
    if isinstance(step, Pair):
        return [Pass("F", step.microbatch, step.chunk), Pass("B", step.backward_microbatch, step.backward_chunk)]
    return [step]


def needed(kind, p, v, stage, pass_):
    """Return the passes, with their stages, that must have ended before a pass."""
    if pass_.kind == "W":
        return [(stage, pass_._replace(kind="B"))]
    positions = route(kind, p, v, pass_.chunk)
    number = positions.index((stage, pass_.chunk))
    own = [] if pass_.kind == "F" else [(stage, pass_._replace(kind="F"))]
    number += -1 if pass_.kind == "F" else 1
    if not 0 <= number < len(positions):
        return own
    sender, chunk = positions[number]
    return [*own, (sender, pass_._replace(chunk=chunk))]


def durations(order, times, pair=None):
    """Return (stage, step) -> time; times are those of one chunk, B without a W of its own takes B + W."""
    forward, backward, weight = times
    split = [{(step.microbatch, step.chunk) for step in steps if step.kind == "W"} for steps in order]

    def take(stage, step):
        if isinstance(step, Pair):
            return sum(times) if pair is None else pair
        whole = backward if (step.microbatch, step.chunk) in split[stage] else backward + weight
        return {"F": forward, "B": whole, "W": weight}[step.kind]

    return take


def run_order(kind, order, take, *, v=1, hop=0):
    """Return start and end of each step by stage; raise where no stage can go on."""
    p = len(order)
    ends, waiting = {}, {}
    spans = [[] for _ in order]
    todo = deque(range(p))
    while todo:
        stage = todo.popleft()
        while len(spans[stage]) < len(order[stage]):
            step = order[stage][len(spans[stage])]
            inputs = [item for pass_ in split_step(step) for item in needed(kind, p, v, stage, pass_)]
            missing = next((item for item in inputs if item not in ends), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(stage)
                break
            free = spans[stage][-1][1] if spans[stage] else 0
            start = max([free, *(ends[item] + (hop if item[0] != stage else 0) for item in inputs)])
            spans[stage].append((start, start + take(stage, step)))
            for pass_ in split_step(step):
                ends[stage, pass_] = spans[stage][-1][1]
                todo.extend(waiting.pop((stage, pass_), ()))
    if any(len(done) < len(steps) for done, steps in zip(spans, order, strict=True)):
        raise RuntimeError(f"deadlock: stages wait at {[len(done) for done in spans]}")
    return spans


def spans_of(kind, p, m, times, *, v=1, hop=0, pair=None, share=0.4):
    """Return the pipeline_order and the spans of a schedule; times are those of a stage, which its chunks divide."""
    pipeline_order = make(kind, p, m, v=v, times=times, hop=hop, share=share)
    chunks = visits_of_stage(pipeline_order)
    assert not any(time % chunks for time in times)
    of_chunk = tuple(time // chunks for time in times)
    take = durations(pipeline_order.order, of_chunk, None if pair is None else pair // chunks)
    return pipeline_order, run_order(kind, pipeline_order.order, take, v=v, hop=hop)


def visits_of_stage(pipeline_order):
    """Return how many chunks of each stage a microbatch visits: all, or one of two copies."""
    return pipeline_order.layout.num_model_chunks // pipeline_order.layout.num_stages


def max_in_flight(order, *, weight_share):
    """Return the most chunks that any stage has in flight: 1 from F to B and `weight_share` from B to W."""
    most = 0.0
    for steps in order:
        split = {(step.microbatch, step.chunk) for step in steps if step.kind == "W"}
        in_flight = 0.0
        for step in steps:
            for pass_ in split_step(step):
                if pass_.kind == "F":
                    in_flight += 1
                elif pass_.kind == "W":
                    in_flight -= weight_share
                else:
                    in_flight -= 1 - (weight_share if (pass_.microbatch, pass_.chunk) in split else 0)
                assert in_flight > -1e-9
                most = max(most, in_flight)
        assert abs(in_flight) < 1e-9
    return most
