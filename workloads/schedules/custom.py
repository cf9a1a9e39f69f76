"""A schedule of the user's own: a text of passes, one line for each stage, checked before anything runs.

Model
-----
    # two stages, three microbatches
    F0 F1 B0 W0 F2 B1 W1 B2 W2
    F0 B0 F1 B1 W0 F2 B2 W1 W2

`F0.1` is chunk 1 of microbatch 0; `chunk_order` says where the chunks stand (`ChunkLayout`), round robin by default.
`F3+B1` runs both passes at the same time. A B without a W is the whole backward pass. `#` begins a comment.

Every stage must run F and B of every microbatch and chunk once, and W at most once and only after its B; where two
pipelines run in opposite directions (both_ways), F and B of every microbatch in one of the two. The order must end:
each pass runs as soon as the passes that it waits for have run, and where no stage can go on, the error names the cycle
of stages.
"""

import re
from collections import Counter
from typing import NoReturn

from sim.errors import InvalidValueError
from workloads.schedules.passes import Order, Pair, Pass, Step, passes_of
from workloads.schedules.pipeline import DEFAULT_CHUNK_ORDER, ChunkLayout, PipelineOrder
from workloads.schedules.registry import CUSTOM, schedule_kind_of

__all__ = ["format_step", "read_custom"]

_MAX_SHOWN = 8  # stages of a cycle
_PASS = re.compile(r"([FBW])(\d{1,7})(?:\.(\d{1,4}))?")


def read_custom(
    text: str,
    *,
    num_stages: int,
    num_microbatches: int,
    num_chunks: int = 1,
    chunk_order: str = DEFAULT_CHUNK_ORDER,
    forward: bool = False,
) -> PipelineOrder:
    r"""Return the steps of every stage that a text gives, with the layout of the chunks.

    Parameters
    ----------
    text
        The order.
    num_stages, num_microbatches
        Stages and microbatches of the pipeline.
    num_chunks
        Chunks of each stage, where `chunk_order` takes any number of chunks.
    chunk_order
        Where the chunks stand: one of `CHUNK_ORDERS`.
    forward
        Whether an order without any B is complete.

    Examples
    --------
    >>> pipeline_order = read_custom("F0 B0\nF0 B0", num_stages=2, num_microbatches=1)
    >>> pipeline_order.order[1]
    [Pass(kind='F', microbatch=0, chunk=0), Pass(kind='B', microbatch=0, chunk=0)]

    Raises
    ------
    InvalidValueError
        A word is no pass, a pass is missing or occurs twice, or the stages wait for each other for ever.
    """
    layout = schedule_kind_of(CUSTOM, chunk_order).layout_on(num_stages, num_chunks)
    rows = [(number, row.partition("#")[0].split()) for number, row in enumerate(text.splitlines(), 1)]
    rows = [(number, words) for number, words in rows if words]
    if len(rows) != num_stages:
        line = rows[-1][0] if rows else 1
        hint = "Write one line of passes per stage."
        raise InvalidValueError("passes", f"have {num_stages} lines, one per stage", len(rows), hint, line=line)
    lines = [number for number, _ in rows]
    order = [[_step(word, number) for word in words] for number, words in rows]
    has_no_backward = forward and all(step.kind == "F" for steps in order for step in steps)
    for line, steps in zip(lines, order, strict=True):
        _check_complete(line, steps, num_microbatches, layout, kinds="F" if has_no_backward else "FB")
    _check_ends(order, layout, lines)
    return PipelineOrder(order=order, layout=layout)


def format_step(step: Step) -> str:
    """Return a step as it is written in the text.

    >>> format_step(Pass("F", 3, 1)), format_step(Pair("FB", 3, 0, 1, 0))
    ('F3.1', 'F3+B1')
    """
    return "+".join(
        f"{pass_.kind}{pass_.microbatch}" + (f".{pass_.chunk}" if pass_.chunk else "") for pass_ in passes_of(step)
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _step(word: str, line: int) -> Step:
    matches = [_PASS.fullmatch(pass_) for pass_ in word.split("+")]
    passes = [Pass(match[1], int(match[2]), int(match[3] or 0)) for match in matches if match]
    if len(passes) == len(matches) == 1:
        return passes[0]
    if [pass_.kind for pass_ in passes] == ["F", "B"] and len(matches) == len(passes):
        forward, backward = passes
        return Pair("FB", forward.microbatch, forward.chunk, backward.microbatch, backward.chunk)
    rule, hint = "be F, B or W and a microbatch", "Write for example F0, B0, W0, F0.1 for chunk 1, or F1+B0."
    raise InvalidValueError("each word", rule, word, hint, line=line)


def _check_complete(line: int, steps: list[Step], num_microbatches: int, layout: ChunkLayout, *, kinds: str) -> None:
    """Refuse the steps of a stage that lack a pass of `kinds`, or have a pass that cannot be there."""
    counted = Counter(pass_ for step in steps for pass_ in passes_of(step))
    chunk_taken = {pass_.microbatch: pass_.chunk for pass_ in counted if pass_.kind == "F"}
    is_one_of_two = layout.num_copies == 2
    for pass_, number in counted.items():
        if pass_.microbatch >= num_microbatches or pass_.chunk >= layout.num_chunks:
            rule = f"be of microbatches below {num_microbatches} and chunks below {layout.num_chunks}"
            raise InvalidValueError(
                "passes", rule, format_step(pass_), "Correct it, or workload.microbatches.", line=line
            )
        if number > 1:
            rule, value = "be there once", f"{format_step(pass_)} {number} times"
            raise InvalidValueError("passes", rule, value, "Remove the others.", line=line)
        if is_one_of_two and pass_.chunk != chunk_taken.get(pass_.microbatch, pass_.chunk):
            rule = "keep a microbatch in one of the two pipelines"
            value = f"{format_step(pass_)} and F of another chunk"
            raise InvalidValueError("passes", rule, value, "Leave one of the two out.", line=line)
    for kind in kinds:
        for i in range(num_microbatches):
            for chunk in (chunk_taken.get(i, 0),) if is_one_of_two else range(layout.num_chunks):
                if Pass(kind, i, chunk) not in counted:
                    rule = f"hold {' and '.join(kinds)} of every microbatch and chunk"
                    value = f"no {format_step(Pass(kind, i, chunk))}"
                    raise InvalidValueError("passes", rule, value, "Add it.", line=line)


def _check_ends(order: Order, layout: ChunkLayout, lines: list[int]) -> None:
    """Run the passes without time; where no stage can go on, refuse the order with the cycle of stages."""
    done: set[tuple[int, Pass]] = set()
    position, ready = [0] * len(order), list(range(len(order)))
    waiting: dict[tuple[int, Pass], list[int]] = {}
    while ready:
        stage = ready.pop()
        while position[stage] < len(order[stage]):
            passes = passes_of(order[stage][position[stage]])
            missing = [needed for pass_ in passes for needed in layout.dependencies(stage, pass_) if needed not in done]
            if missing:
                waiting.setdefault(missing[0], []).append(stage)
                break
            position[stage] += 1
            for pass_ in passes:
                done.add((stage, pass_))
                ready += waiting.pop((stage, pass_), [])
    if waiting:
        missing_of = {stage: needed for needed, stages in waiting.items() for stage in stages}
        _refuse_cycle(missing_of, order, position, lines)


def _refuse_cycle(
    missing_of: dict[int, tuple[int, Pass]], order: Order, position: list[int], lines: list[int]
) -> NoReturn:
    """Refuse an order whose stages wait for each other; `missing_of` is what each stage waits for."""
    chain = [min(missing_of)]
    while missing_of[chain[-1]][0] not in chain:
        chain.append(missing_of[chain[-1]][0])
    cycle = chain[chain.index(missing_of[chain[-1]][0]) :]
    waits = "; ".join(
        f"stage {stage} at {format_step(order[stage][position[stage]])} waits for "
        f"{format_step(missing_of[stage][1])} of stage {missing_of[stage][0]}"
        for stage in cycle[:_MAX_SHOWN]
    )
    rule = f"not wait for each other in a cycle ({waits}{'; ...' if len(cycle) > _MAX_SHOWN else ''})"
    value = f"a cycle of {len(cycle)} stages" if len(cycle) > 1 else f"stage {cycle[0]}"
    hint = "Move one of these passes behind the pass that it waits for."
    raise InvalidValueError("passes", rule, value, hint, line=lines[cycle[0]])
