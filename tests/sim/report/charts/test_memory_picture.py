"""The picture of memory over time."""

import re
from itertools import combinations, pairwise

import pytest

from sim.report.charts.memory import COMPONENT_COLOURS, draw_memory
from sim.report.palette import grey_of
from sim.results.memory import MEMORY_COMPONENTS

COURSE = {
    "time_s": [0.0, 1.0, 2.0],
    "held_bytes": {"weights": 4_000_000_000, "optimizer": 6_000_000_000},
    "varying_bytes": {"activations": [1_000_000_000, 3_000_000_000, 0]},
}


def memory(**more):
    """Return the memory of a run of two stages."""
    parts = {"weights": 4_000_000_000, "optimizer": 6_000_000_000, "activations": 3_000_000_000}
    return {
        "peak_bytes_per_gpu": {**dict.fromkeys(MEMORY_COMPONENTS, 0), **parts, "total": 13_000_000_000},
        "capacity_bytes": 20_000_000_000,
        "fits": True,
        "peak_stage": 0,
        "peak_time_s": 1.0,
        "timeline": [{"stage": 0, **COURSE}, {"stage": 1, **COURSE}],
        **more,
    }


def drawn(tmp_path, **more):
    """Return an SVG of it."""
    path = tmp_path / "memory.svg"
    draw_memory(memory(**more), path, title="mine", end_s=2.5)
    return path.read_text()


def test_every_part_of_memory_has_a_colour():
    """A part that is added has to be drawn."""
    assert set(COMPONENT_COLOURS) == set(MEMORY_COMPONENTS)


def test_a_part_has_a_bar_for_each_time_in_the_fullest_stage_and_in_the_others(tmp_path):
    """Three times, three parts that are not empty; a part that another stage alone has is in the legend too."""
    other = {"stage": 1, **COURSE, "varying_bytes": {"logits": [0, 10**9, 0], **COURSE["varying_bytes"]}}
    text = drawn(tmp_path, timeline=[{"stage": 0, **COURSE}, other])
    for part in ("weights", "optimizer", "activations"):
        for place in ("moesim-memory", "moesim-memory-stage1"):
            group = re.search(rf'<g id="{place}:{part}">(.*?)</g>', text, re.DOTALL)
            assert group is not None
            assert group[1].count("<path") == 3
    assert 'id="moesim-memory-stage0' not in text
    assert 'id="moesim-key:logits"' in text
    assert 'id="moesim-memory:gradients"' not in text


@pytest.mark.parametrize(("capacity", "is_drawn"), [(20_000_000_000, True), (80_000_000_000, False)])
def test_the_memory_of_the_device_is_a_line_where_it_is_near(tmp_path, capacity, is_drawn):
    """Far above, it would press the parts flat: the heading says it."""
    assert ("moesim-memory-capacity" in drawn(tmp_path, capacity_bytes=capacity)) is is_drawn


def test_parts_of_memory_keep_apart_in_grey_print():
    """Neighbours, and any two of those that change over time: by 8 steps of L* at least."""
    colours = list(COMPONENT_COLOURS.values())
    varying = [COMPONENT_COLOURS[name] for name in ("kv_cache", "activations", "expert_activations", "logits")]
    for a, b in [*pairwise(colours), *combinations(varying, 2)]:
        assert abs(grey_of(a) - grey_of(b)) >= 8, (a, b)
