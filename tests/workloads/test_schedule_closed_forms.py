"""Published closed forms, exactly, inside the domains that the schedules' modules state: at least 500 cases per form.

Cases are drawn once from a fixed seed, after all corners of the grid.
"""

import random
from itertools import product

import pytest
from schedule_runs import spans_of

CASES = 500


def cases(name, stages, microbatches, times, *, chunks=(1,)):
    """Return (p, m, v, times): corners of the grid, then draws; the ranges of m and times may depend on p and m."""
    draw = random.Random(name)
    found = []
    for p, v in product((stages[0], stages[-1]), (chunks[0], chunks[-1])):
        options = microbatches(p)
        found += [(p, m, v, times(draw)) for m in (options[0], options[-1]) for _ in range(4)]
    while len(found) < CASES:
        p = draw.choice(stages)
        found.append((p, draw.choice(microbatches(p)), draw.choice(chunks), times(draw)))
    return found


def any_times(draw):
    return draw.randint(1, 30), draw.randint(1, 30), draw.randint(0, 30)


def makespan(spans):
    return max(stage[-1][1] for stage in spans)


def longest_span(spans):
    return max(stage[-1][1] - stage[0][0] for stage in spans)


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
def test_gpipe_and_1f1b_take_m_plus_p_minus_1_pairs_of_passes(kind):
    """Huang et al. 2019, section 2; Narayanan et al. 2021, section 2.2: bubble (p - 1)(F + B), everywhere."""
    for p, m, _, times in cases(kind, range(1, 9), lambda p: range(1, 21), any_times):
        assert makespan(spans_of(kind, p, m, times)[1]) == (m + p - 1) * sum(times)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("interleaved", lambda p: range(p, 4 * p + 1, p)), ("breadth_first", lambda p: range(p, 2 * p + 5))],
)
def test_interleaving_divides_the_bubble_by_v(kind, options):
    """Narayanan et al. 2021, section 2.2; Lamy-Poirier 2023, section 4: (p - 1)(F + B) / v."""
    for p, m, v, times in cases(kind, range(1, 8), options, any_times, chunks=(1, 2, 3, 5)):
        whole = [time * v for time in times]
        assert makespan(spans_of(kind, p, m, whole, v=v)[1]) == m * sum(whole) + (p - 1) * sum(times)


def h1_times(draw):
    forward, backward = draw.randint(1, 30), draw.randint(1, 30)
    return forward, backward, draw.randint(0, backward)


def test_zb_h1_has_the_bubble_of_its_paper_where_w_is_no_longer_than_b():
    """Qi et al. 2023, table 1: (p - 1)(F + B - W), for W <= F; where F < W <= B the first B is what all wait for."""
    for p, m, _, times in cases("zb_h1", range(1, 9), lambda p: range(p, p + 17), h1_times):
        forward, backward, weight = times
        bubble = (p - 1) * max(backward, forward + backward - weight)
        assert makespan(spans_of("zb_h1", p, m, times)[1]) == m * sum(times) + bubble


def short_w(draw):
    forward, backward = draw.randint(1, 30), draw.randint(1, 30)
    return forward, backward, draw.randint(0, min(forward, backward))


def test_with_few_microbatches_only_the_last_w_is_left_over():
    """Qi et al. 2023, appendix H: (m + p - 1)(F + B) + W for m <= p and W <= F, B."""
    for p, m, _, times in cases("few", range(1, 9), lambda p: range(1, p + 1), short_w):
        assert makespan(spans_of("zb_h1", p, m, times)[1]) == (m + p - 1) * (times[0] + times[1]) + times[2]


def h2_times(draw):
    forward = draw.randint(1, 30)
    return forward, draw.randint(1, 30), draw.randint(0, forward)


def test_zb_h2_leaves_the_bubble_of_its_paper_on_the_stage_with_the_longest_span():
    """Qi et al. 2023, table 1: (p - 1)(F + B - 2 W), for W <= F and m >= 2 p - 1; none where that is negative."""
    for p, m, _, times in cases("zb_h2", range(1, 8), lambda p: range(2 * p - 1, 2 * p + 15), h2_times):
        forward, backward, weight = times
        bubble = (p - 1) * max(0, forward + backward - 2 * weight)
        assert longest_span(spans_of("zb_h2", p, m, times)[1]) == m * sum(times) + bubble


def test_chimera_has_the_bubble_of_its_paper():
    """Li and Hoefler 2021, table 2: (p - 2) / (2 m + p - 2) of the time, for F = B and m a multiple of p."""

    def alike(draw):
        forward = draw.randint(1, 30)
        weight = draw.randint(0, forward)
        return forward, forward - weight, weight

    for p, m, _, times in cases("chimera", range(2, 11, 2), lambda p: range(p, 3 * p + 1, p), alike):
        assert makespan(spans_of("chimera", p, m, times)[1]) == (2 * m + p - 2) * times[0]


@pytest.mark.parametrize(
    ("kind", "stages", "options", "halves", "v"),
    [
        ("dualpipe", range(2, 11, 2), lambda p: range(2 * p, 2 * p + 9, 2), lambda p: p // 2, 1),
        ("dualpipe_v", range(1, 7), lambda p: range(2 * p, 2 * p + 7), lambda p: p, 2),
    ],
)
def test_dualpipe_has_the_bubble_of_its_paper(kind, stages, options, halves, v):
    """DeepSeek-V3 2024, table 2: (PP / 2 - 1)(F&B + B - 3 W), B the whole backward pass, for B = F + W and W <= F."""

    def alike(draw):
        forward = draw.randint(1, 30)
        return forward, forward, draw.randint(0, forward)

    draw = random.Random(kind)
    for p, m, _, (forward, backward, weight) in cases(kind, stages, options, alike):
        pair = draw.randint(backward + weight, forward + backward + weight)
        whole = [v * time for time in (forward, backward, weight)]
        pipeline_order, spans = spans_of(kind, p, m, whole, pair=v * pair)
        idle = [makespan(spans) - sum(end - start for start, end in stage) for stage in spans]
        assert len(pipeline_order.order) == p
        assert max(idle) == (halves(p) - 1) * (pair + backward + weight - 3 * weight)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("p", [2, 3, 4, 7, 8])
def test_zb_v_never_waits_within_a_stage_where_all_passes_take_as_long(p, share):
    """Qi et al. 2024: no bubble for F = B = W, within the memory of 1F1B, whatever W holds."""
    for m in range(2 * p, 4 * p, 3):
        assert longest_span(spans_of("zb_v", p, m, (2, 2, 2), share=share)[1]) == 6 * m


@pytest.mark.parametrize(("kind", "share"), [("v_half", 1 / 2), ("v_min", 2 / 3)])
@pytest.mark.parametrize("p", [2, 3, 4, 7, 8, 9, 16, 17])
def test_v_half_and_v_min_wait_for_no_more_than_the_published_share_of_1f1bs_bubble(kind, share, p):
    """Qi et al. 2024: p / (2 m) and 2 p / (3 m) of the time, 1F1B p / m, for F = B = W."""
    for m in (p, 2 * p + 1, 4 * p):
        bubble = makespan(spans_of(kind, p, m, (2, 2, 2))[1]) - m * 6
        assert bubble <= share * (p - 1) * 6
