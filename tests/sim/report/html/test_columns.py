"""Columns as text: whatever is packed is unpacked, and packs to the same text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.report.html.columns import pack_columns, unpack_columns

WHOLE = st.lists(st.integers(-(2**52), 2**52), max_size=20)
FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), max_size=20)


@given(whole=WHOLE, floats=FLOATS, deltas=st.booleans())
def test_what_is_packed_is_unpacked(whole, floats, deltas):
    columns = {"whole": np.array(whole, dtype=np.int64), "floats": np.array(floats, dtype=np.float64)}
    packed = pack_columns(columns, deltas=frozenset({"whole"}) if deltas else frozenset())
    unpacked = unpack_columns(packed)
    assert unpacked["whole"].tolist() == whole
    assert unpacked["floats"].tolist() == floats
    assert pack_columns(columns, deltas=frozenset({"whole"}) if deltas else frozenset()) == packed


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0, 255], "uint8"), ([-1, 5], "int8"), ([0, 256], "uint16"), ([0, 2**32 - 1], "uint32"), ([2**40], "float64")],
)
def test_a_column_is_stored_in_the_narrowest_type_that_holds_it(values, kind):
    assert pack_columns({"a": np.array(values)}).index[0]["type"] == kind


def test_few_different_values_become_positions_in_a_table():
    packed = pack_columns({"bytes": np.array([0.5, 1e12, 0.5, 0.5])})
    assert (packed.index[0]["encoding"], packed.index[0]["type"]) == ("table", "uint8")
    assert packed.index[0]["values"] == [0.5, 1e12]
