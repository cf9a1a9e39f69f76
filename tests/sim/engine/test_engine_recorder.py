"""Rows made from entries, against rows written by hand."""

import numpy as np
import pytest
from handmade import kernel, make_transfer

from sim.engine.recorder import Recorder
from sim.engine.trace import KINDS, STREAMS
from sim.plan.ops import Collective, Compute, Service
from workloads.schedules import Pass

PLACE, PASS = (1, 0), Pass("F", 3)


def two_kernels(first_ns, second_ns):
    """Two kernels on one rank of a lane of two, the other rank idle: their mean is half."""
    kernels = [kernel(first_ns, 0).kernels[0], kernel(second_ns, 0, kind="expert").kernels[0]]
    return Compute(kernels=tuple(kernels))


def column(recorder, name):
    """Return a column as a list."""
    return recorder.columns()[name].tolist()


def test_kernels_of_an_op_follow_each_other_and_release_each_other():
    """Two kernels of 10 and 4 ns from 100 on; their imbalance is what the slow rank takes over the mean."""
    recorder = Recorder()
    before = recorder.add(stage=0, lane=0, stream="comm", kind="tp", start_ns=0, end_ns=100, released_by=-1)
    op = two_kernels(10, 4)
    last = recorder.add_compute(op, PASS, PLACE, rank=5, start_ns=100, took_ns=(10, 4), released_by=before)
    recorder.add(stage=0, lane=0, stream="comm", kind="tp", start_ns=114, end_ns=120, released_by=last)
    assert column(recorder, "start_ns") == [0, 100, 110, 114]
    assert column(recorder, "end_ns") == [100, 110, 114, 120]
    assert column(recorder, "released_by") == [-1, 0, 1, 2]
    assert column(recorder, "imbalance_ns") == [0, 5, 2, 0]
    assert column(recorder, "base_ns") == [100, 5, 2, 6]
    assert [KINDS[code] for code in column(recorder, "kind")] == ["tp", "other_compute", "expert", "tp"]
    assert column(recorder, "rank") == [-1, 5, 5, -1]
    assert column(recorder, "microbatch") == [-1, 3, 3, -1]


def test_a_collective_splits_each_transfer_and_is_followed_by_the_one_that_ended_last():
    """Alone 40 ns after 7 of latency: ends at 47 and 60 leave 0 and 13 ns of contention."""
    recorder = Recorder()
    transfers = tuple(make_transfer({link: 40.0}, [1.0, 1.0], latency_ns=7, group=link) for link in (0, 1))
    op = Collective(kind="tp", layer=2, transfers=transfers)
    last = recorder.add_collective(op, PASS, PLACE, start_ns=0, end_ns=[47, 60], released_by=-1)
    recorder.add(stage=0, lane=0, stream="pass", kind="F", start_ns=0, end_ns=60, released_by=last)
    assert column(recorder, "contention_ns") == [0, 13, 0]
    assert column(recorder, "latency_ns") == [7, 7, 0]
    assert column(recorder, "base_ns") == [40, 40, 60]
    assert column(recorder, "group") == [0, 1, -1]
    assert column(recorder, "bytes") == [40.0, 40.0, 0.0]
    assert column(recorder, "released_by")[2] == 1


@pytest.mark.parametrize("ends", [[60, 60], [60, 47]])
def test_of_transfers_that_end_together_the_first_is_the_last_row(ends):
    """Ties go to the lowest number."""
    recorder = Recorder()
    transfers = tuple(make_transfer({link: 40.0}, [1.0, 1.0]) for link in (0, 1))
    op = Collective(kind="tp", layer=2, transfers=transfers)
    last = recorder.add_collective(op, PASS, PLACE, start_ns=0, end_ns=ends, released_by=-1)
    recorder.add(stage=0, lane=0, stream="pass", kind="F", start_ns=0, end_ns=60, released_by=last)
    assert column(recorder, "released_by")[2] == 0


def test_a_service_has_a_row_on_each_rank_that_got_tokens_and_knows_whose_rank_it_is():
    """Ranks 0 and 2 serve stage 1: rank 0 belongs to stage 0, so that its row is foreign work."""
    recorder = Recorder(homes=np.array([[0, 0, 1], [0, 0, 0]]))
    op = Service(
        kind="expert",
        layer=4,
        ranks=np.array([0, 1, 2]),
        duration_ns=np.array([9, 0, 6]),
        flops=np.array([90.0, 0.0, 60.0]),
    )
    before = recorder.add(stage=1, lane=0, stream="comm", kind="tp", start_ns=0, end_ns=5, released_by=-1)
    recorder.add_service(
        op,
        PASS,
        PLACE,
        served=np.array([0, 2]),
        start_ns=np.array([5, 5]),
        end_ns=np.array([14, 11]),
        released_by=np.array([before, before]),
        last=0,
    )
    assert column(recorder, "rank") == [-1, 0, 2]
    assert column(recorder, "stage") == [1, 0, 1]
    assert [STREAMS[code] for code in column(recorder, "stream")] == ["comm", "foreign", "compute"]
    assert column(recorder, "imbalance_ns") == [0, 4, 1]  # over the mean of all three, 5 ns
    assert column(recorder, "flops") == [0.0, 90.0, 60.0]
    assert column(recorder, "released_by") == [-1, 0, 0]


def test_rows_keep_the_order_of_their_entries_whatever_made_them():
    """Entries of different makes, noted in turn, come out in turn."""
    recorder = Recorder()
    op = two_kernels(1, 1)
    for number in range(4):
        recorder.add_compute(op, PASS, PLACE, rank=0, start_ns=10 * number, took_ns=(1, 1), released_by=-1)
        recorder.add(stage=0, lane=0, stream="pass", kind="F", start_ns=10 * number, end_ns=3, released_by=-1)
    assert column(recorder, "start_ns") == [0, 1, 0, 10, 11, 10, 20, 21, 20, 30, 31, 30]


def test_a_record_without_entries_has_empty_columns():
    """Nothing happened."""
    assert all(values.size == 0 for values in Recorder().columns().values())
