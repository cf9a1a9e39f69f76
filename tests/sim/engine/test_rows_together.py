"""Rates of transfers in a large cluster, from rows without links that hold nobody back: those of all links."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import PATIENT

from sim.engine.network.fluid import _Row, _rows_together
from sim.engine.network.maxmin import few_max_min_rates

WEIGHTS = st.dictionaries(st.integers(0, 11), st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0, 7.0]), min_size=1, max_size=6)


@PATIENT
@given(st.lists(WEIGHTS, min_size=1, max_size=5))
def test_links_that_one_transfer_has_for_itself_count_once(loads):
    """To the last digit, in the same order of bottlenecks."""
    dense, rows = [], []
    for load in loads:
        columns = np.array(sorted(load), dtype=np.intp)
        each = np.array([load[column] for column in columns.tolist()])
        rows.append(_Row(each, columns, float(each.max())))
        dense.append(np.zeros(12))
        dense[-1][columns] = each
    together = _rows_together(rows)
    assert few_max_min_rates(together) == few_max_min_rates(dense)
    shared = np.sum([row > 0 for row in dense], axis=0) > 1
    assert together[0].size <= shared.sum() + len(loads)
