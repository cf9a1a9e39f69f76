"""Colours that must be distinguishable keep their distance in grey print."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from sim.report.palette import CATEGORY_COLOURS, KIND_COLOURS, LINK_COLOURS, MICROBATCH_HUES, grey_of, pass_colours
from sim.report.timeline.spent import STACKED
from sim.results.accounts import COMMUNICATION_CATEGORIES, COMPUTE_CATEGORIES, SLOWDOWNS


@pytest.mark.parametrize(
    ("categories", "least"), [(COMPUTE_CATEGORIES, 12), (COMMUNICATION_CATEGORIES, 6), (SLOWDOWNS, 12)]
)
def test_kinds_of_one_strip_differ_in_lightness(categories, least):
    """Every two of them, by so many steps of L*."""
    for a, b in combinations(categories, 2):
        assert abs(grey_of(CATEGORY_COLOURS[a]) - grey_of(CATEGORY_COLOURS[b])) >= least, (a, b)


def test_neighbours_in_the_stacked_strip_differ_in_lightness():
    """Where nothing lies between them; `stalled` is hatched."""
    stacked = [category for category in STACKED if category != "stalled"]
    for a, b in pairwise(stacked):
        assert abs(grey_of(CATEGORY_COLOURS[a]) - grey_of(CATEGORY_COLOURS[b])) >= 5, (a, b)


def test_kinds_of_links_differ_in_lightness():
    """NVLink and xGMI are one kind of two vendors."""
    for a, b in combinations(sorted({*LINK_COLOURS.values()}), 2):
        assert abs(grey_of(a) - grey_of(b)) >= 10, (a, b)


@pytest.mark.parametrize("microbatch", range(len(MICROBATCH_HUES)))
def test_passes_of_a_microbatch_darken_from_f_over_b_to_w(microbatch):
    """By at least 8 steps of L*, and the black O is far from all."""
    colours = pass_colours(np.array(["F", "B", "W", "O"]), np.full(4, microbatch))
    forward, backward, weight, after = (grey_of(to_hex(colour)) for colour in colours)
    assert forward - backward >= 8
    assert backward - weight >= 8
    assert weight - after >= 30
    assert to_hex(colours[3]) == KIND_COLOURS["optimizer"]
