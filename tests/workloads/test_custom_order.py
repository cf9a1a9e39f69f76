"""A schedule of the user's own: read as written, checked for completeness and for deadlock with the cycle named."""

import pickle

import pytest
from schedule_runs import make

from workloads.schedules import SCHEDULES, Pair, Pass
from workloads.schedules.custom import InvalidValueError, format_step, read_custom


def written(order):
    """Return an order as text."""
    return "\n".join(" ".join(format_step(step) for step in steps) for steps in order)


@pytest.mark.parametrize("kind", [kind for kind, entry in SCHEDULES.items() if entry.layout in ("row", "round_robin")])
def test_an_order_written_out_is_read_back(kind):
    v = 2 if SCHEDULES[kind].num_chunks is None else 1
    pipeline_order = make(kind, 3, 6, v=v)
    read = read_custom(written(pipeline_order.order), num_stages=3, num_microbatches=6, num_chunks=v)
    assert read.order == pipeline_order.order


def test_comments_empty_lines_and_pairs_are_read():
    text = "# one stage\n\nF0 F1+B0  # both at a time\nB1 W1\n".replace("\nB1", " B1")
    with pytest.raises(InvalidValueError, match="no B1"):
        read_custom(text, num_stages=1, num_microbatches=2)
    read = read_custom("# one stage\n\nF0 F1+B0 B1 W1 # end\n", num_stages=1, num_microbatches=2)
    assert read.order == [[Pass("F", 0), Pair("FB", 1, 0, 0, 0), Pass("B", 1), Pass("W", 1)]]
    assert (read.is_split(0, Pass("B", 0)), read.is_split(0, Pass("B", 1))) == (False, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("F0 B0", "line 1: passes must have 2 lines, one per stage, got 1. Write one line of passes per stage."),
        (
            "\n# x\nF0 X0\nF0 B0",
            "line 3: each word must be F, B or W and a microbatch, got X0. "
            "Write for example F0, B0, W0, F0.1 for chunk 1, or F1+B0.",
        ),
        ("F0 B0\nF0", "line 2: passes must hold F and B of every microbatch and chunk, got no B0. Add it."),
        ("F0 F0 B0\nF0 B0", "line 1: passes must be there once, got F0 2 times. Remove the others."),
        (
            "F0 B0 F1\nF0 B0",
            "line 1: passes must be of microbatches below 1 and chunks below 1, got F1. "
            "Correct it, or workload.microbatches.",
        ),
        (
            "F0 B0\nB0 F0",
            "line 2: passes must not wait for each other in a cycle (stage 1 at B0 waits for F0 of stage 1), got "
            "stage 1. Move one of these passes behind the pass that it waits for.",
        ),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_its_line(text, says):
    with pytest.raises(InvalidValueError) as refusal:
        read_custom(text, num_stages=2, num_microbatches=1)
    assert str(refusal.value) == says
    assert str(pickle.loads(pickle.dumps(refusal.value))) == says


def test_a_deadlock_names_the_stages_that_wait_for_each_other():
    """Stage 1 wants F1 first, which stage 0 runs after B0, which waits for stage 1."""
    with pytest.raises(InvalidValueError) as refusal:
        read_custom("F0 B0 F1 B1\nF1 F0 B0 B1", num_stages=2, num_microbatches=2)
    assert str(refusal.value) == (
        "line 1: passes must not wait for each other in a cycle (stage 0 at B0 waits for B0 of stage 1; stage 1 at F1 "
        "waits for F1 of stage 0), got a cycle of 2 stages. Move one of these passes behind the pass that it waits for."
    )


def test_a_pair_of_a_forward_pass_with_its_own_backward_is_a_cycle_also_where_others_wait_for_it():
    with pytest.raises(InvalidValueError) as refusal:
        read_custom("F0 F1+B1 B0\nF0 B0 F1 B1", num_stages=2, num_microbatches=2)
    assert "stage 0 at F1+B1 waits for F1 of stage 0" in str(refusal.value)


@pytest.mark.parametrize("kind", [kind for kind, entry in SCHEDULES.items() if entry.layout in ("vee", "both_ways")])
def test_an_order_with_chunks_elsewhere_is_read_back(kind):
    pipeline_order = make(kind, 4, 8)
    settings = {"num_stages": 4, "num_microbatches": 8, "num_chunks": 2}
    text = written(pipeline_order.order)
    read = read_custom(text, **settings, chunk_order=SCHEDULES[kind].layout)
    assert (read.order, read.layout) == (pipeline_order.order, pipeline_order.layout)
    with pytest.raises(InvalidValueError):  # the same passes, with the parts of the model in other places
        read_custom(text, **settings)


def test_a_microbatch_in_both_of_two_pipelines_is_refused():
    with pytest.raises(InvalidValueError) as refusal:
        read_custom("F0.0 F0.1 B0.0\nF0 B0", num_stages=2, num_microbatches=1, num_chunks=2, chunk_order="both_ways")
    assert str(refusal.value).startswith("line 1: passes must keep a microbatch in one of the two pipelines, got")
