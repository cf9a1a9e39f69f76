"""A schedule of the user's own: a text of passes, one line per stage, checked before anything runs.

Model
-----
    # two stages, three microbatches
    F0 F1 B0 W0 F2 B1 W1 B2 W2
    F0 B0 F1 B1 W0 F2 B2 W1 W2

`F0.1` is chunk 1 of microbatch 0; where chunks stand is said apart (`workloads.schedules.chunk_layout`), round robin if
nothing is. `F3+B1` runs both at a time. A B whose W is not written is whole. `#` begins a comment.

Every stage must run F and B of every microbatch and chunk once, and W at most once and after nothing but its B; where
two pipelines run in opposite directions (both_ways), of every microbatch in one of the two. The order must end: each
pass is run as soon as what it needs has run, and where that stops the cycle of stages is named.
"""

import re
from collections import Counter
from typing import NoReturn

from sim.errors import InvalidValueError
from workloads.schedules.base import Order, Pair, Pass, Step, parts_of
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.pipeline_order import PipelineOrder

__all__ = ["read_custom"]

_MOST_TOLD = 8  # stages of a circle
_PASS = re.compile(r"([FBW])(\d{1,7})(?:\.(\d{1,4}))?")


def read_custom(
    text: str,
    *,
    num_stages: int,
    num_microbatches: int,
    num_chunks: int = 1,
    chunk_order: str = "round_robin",
    forward: bool = False,
) -> PipelineOrder:
    r"""Return the pipeline_order of a text.

    Parameters
    ----------
    text
        The order.
    num_stages, num_microbatches, num_chunks
        Of the pipeline; chunks of each stage.
    chunk_order
        Where these stand: round_robin, vee or both_ways.
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
        A word is no pass, a pass is missing or there twice, or the stages wait for each other for ever.
    """
    rows = [(number, row.partition("#")[0].split()) for number, row in enumerate(text.splitlines(), 1)]
    rows = [(number, words) for number, words in rows if words]
    if len(rows) != num_stages:
        line = rows[-1][0] if rows else 1
        hint = "Write one line of passes per stage."
        raise InvalidValueError("passes", f"have {num_stages} lines, one per stage", len(rows), hint, line=line)
    lines = [number for number, _ in rows]
    order = [[_step(word, number) for word in words] for number, words in rows]
    no_backward = forward and all(step.kind == "F" for steps in order for step in steps)
    for line, steps in zip(lines, order, strict=True):
        chunks = range(num_chunks) if chunk_order != "both_ways" else None
        _check_complete(line, steps, num_microbatches, num_chunks, asked=("F" if no_backward else "FB", chunks))
    kind = "row" if num_chunks == 1 else chunk_order
    layout = ChunkLayout(kind=kind, num_stages=num_stages, num_chunks=num_chunks)
    _check_ends(order, layout, lines)
    return PipelineOrder(order=order, layout=layout)


def shown(one: Pass) -> str:
    """Return a pass as it is written.

    >>> shown(Pass("F", 3, 1)), shown(Pass("W", 0))
    ('F3.1', 'W0')
    """
    return f"{one.kind}{one.microbatch}" + (f".{one.chunk}" if one.chunk else "")


# ---- private -----------------------------------------------------------------------------------------------------


def _step(word: str, line: int) -> Step:
    found = [_PASS.fullmatch(part) for part in word.split("+")]
    passes = [Pass(match[1], int(match[2]), int(match[3] or 0)) for match in found if match]
    if len(passes) == len(found) == 1:
        return passes[0]
    if [one.kind for one in passes] == ["F", "B"] and len(found) == len(passes):
        forward, backward = passes
        return Pair("FB", forward.microbatch, forward.chunk, backward.microbatch, backward.chunk)
    rule, hint = "be F, B or W and a microbatch", "Write for example F0, B0, W0, F0.1 for chunk 1, or F1+B0."
    raise InvalidValueError("each word", rule, word, hint, line=line)


def _check_complete(
    line: int, steps: list[Step], num_microbatches: int, num_chunks: int, *, asked: tuple[str, range | None]
) -> None:
    """Check one stage's steps; `asked` are the kinds, and the chunks of each microbatch (None: one of the two)."""
    kinds, chunks = asked
    counted = Counter(part for step in steps for part in parts_of(step))
    taken = {one.microbatch: one.chunk for one in counted if one.kind == "F"}
    every = (
        Pass(kind, i, chunk)
        for kind in kinds
        for i in range(num_microbatches)
        for chunk in ((taken.get(i, 0),) if chunks is None else chunks)
    )
    for one, number in counted.items():
        if one.microbatch >= num_microbatches or one.chunk >= num_chunks:
            rule = f"be of microbatches below {num_microbatches} and chunks below {num_chunks}"
            raise InvalidValueError("passes", rule, shown(one), "Correct it, or workload.microbatches.", line=line)
        if number > 1:
            raise InvalidValueError(
                "passes", "be there once", f"{shown(one)} {number} times", "Remove the others.", line=line
            )
        if chunks is None and one.chunk != taken.get(one.microbatch, one.chunk):
            rule, got = "keep a microbatch in one of the two pipelines", f"{shown(one)} beside another chunk's F"
            raise InvalidValueError("passes", rule, got, "Leave one of the two out.", line=line)
    for one in every:
        if one not in counted:
            rule = f"hold {' and '.join(kinds)} of every microbatch and chunk"
            raise InvalidValueError("passes", rule, f"no {shown(one)}", "Add it.", line=line)


def _check_ends(order: Order, layout: ChunkLayout, lines: list[int]) -> None:
    """Run the passes without time; where no stage can go on, name who waits for whom."""
    done: set[tuple[int, Pass]] = set()
    position, todo = [0] * len(order), list(range(len(order)))
    waiting: dict[tuple[int, Pass], list[int]] = {}
    while todo:
        stage = todo.pop()
        while position[stage] < len(order[stage]):
            parts = parts_of(order[stage][position[stage]])
            needs = [need for part in parts for need in layout.needs(stage, part) if need not in done]
            if needs:
                waiting.setdefault(needs[0], []).append(stage)
                break
            position[stage] += 1
            for part in parts:
                done.add((stage, part))
                todo += waiting.pop((stage, part), [])
    if waiting:
        _refuse_cycle({stage: need for need, stages in waiting.items() for stage in stages}, order, position, lines)


def _refuse_cycle(needs: dict[int, tuple[int, Pass]], order: Order, position: list[int], lines: list[int]) -> NoReturn:
    """Refuse an order in which each stage of `needs` waits for a pass of another, or of its own further on."""
    chain = [min(needs)]
    while needs[chain[-1]][0] not in chain:
        chain.append(needs[chain[-1]][0])
    cycle = chain[chain.index(needs[chain[-1]][0]) :]
    said = "; ".join(
        f"stage {stage} at {'+'.join(map(shown, parts_of(order[stage][position[stage]])))} waits for "
        f"{shown(needs[stage][1])} of stage {needs[stage][0]}"
        for stage in cycle[:_MOST_TOLD]
    )
    rule = f"not wait for each other in a circle ({said}{'; ...' if len(cycle) > _MOST_TOLD else ''})"
    got = f"a circle of {len(cycle)} stages" if len(cycle) > 1 else f"stage {cycle[0]}"
    raise InvalidValueError(
        "passes", rule, got, "Move one of these passes behind what it waits for.", line=lines[cycle[0]]
    )
