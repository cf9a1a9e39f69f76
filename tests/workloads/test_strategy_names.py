"""Names of strategies: what is read is what is written, and what cannot be read is refused with the part that fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.strategy import Strategy

SIZE = st.integers(1, 9_999_999)
NAMED = st.builds(
    Strategy,
    tp=SIZE,
    pp=SIZE,
    ep=SIZE,
    cp=SIZE,
    etp=SIZE,
    vpp=SIZE,
    dp=st.none() | st.integers(2, 9_999_999),
    sp=st.none() | st.just(True),
)
"""Strategies that a name can tell: DP1 and `sp: false` are not written, for they are what no name says too."""


@given(NAMED)
def test_a_name_reads_back_as_its_strategy(strategy):
    assert Strategy.parse(strategy.name) == strategy


@given(NAMED, st.randoms())
def test_order_and_case_of_the_parts_do_not_matter(strategy, random):
    parts = strategy.name.lower().split("_")
    random.shuffle(parts)
    assert Strategy.parse(f" {'_'.join(parts)} ") == strategy


@given(NAMED)
def test_a_name_says_what_is_not_1_and_ep_tp_pp_always(strategy):
    parts = strategy.name.split("_")
    assert [part[:2] for part in parts[:3]] == ["EP", "TP", "PP"]
    assert "1" not in [part.strip("CDETVP") for part in parts[3:]]


@given(NAMED, NAMED)
def test_differences_count_axes_both_ways_and_are_zero_for_oneself(one, other):
    assert one.differences(one) == 0
    assert one.differences(other) == other.differences(one) <= 7


def test_the_documents_name():
    assert Strategy.parse("EP64_TP16_PP4") == Strategy(ep=64, tp=16, pp=4)


@pytest.mark.parametrize(
    ("name", "joined"),
    [
        ("tp2pp2ep4", "TP2_PP2_EP4"),
        ("EP16TP1", "EP16_TP1"),
        ("TP2-PP2-EP4-DP4", "TP2_PP2_EP4_DP4"),
        ("TP-2", "TP2"),
        ("tp=8", "TP8"),
        ("tp=8, etp=2 sp", "TP8_ETP2_SP"),
        ("TP2 x PP2", None),
        ("TP2TP4", None),
    ],
)
def test_a_name_with_other_separators_is_answered_with_the_joined_name(name, joined):
    with pytest.raises(InvalidValueError) as refusal:
        Strategy.parse(name)
    assert [remedy.changes for remedy in refusal.value.remedies] == [{"parallel.strategy": joined}] * (
        joined is not None
    )
    assert refusal.value.hint == f"Write {joined}." or joined is None


@pytest.mark.parametrize("part", ["XP4", "TP", "TP2.5", "TP12345678", "4", "SP2", ""])
def test_a_part_that_is_no_axis_is_refused(part):
    with pytest.raises(InvalidValueError) as refusal:
        Strategy.parse(f"EP8_{part}")
    assert str(refusal.value) == (
        f"parallel.strategy must be made of known parts, not {part!r}, got 'EP8_{part}'. "
        "Join axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP SP)."
    )


@pytest.mark.parametrize("part", ["TP0", "EP00", "VPP0"])
def test_a_degree_of_0_is_refused_as_such(part):
    with pytest.raises(InvalidValueError) as refusal:
        Strategy.parse(f"EP8_{part}" if part[:2] != "EP" else part)
    assert refusal.value.rule == f"have degrees of at least 1, not {part}"
    assert refusal.value.hint == f"Write {part.rstrip('0')}1, or leave it out."


@pytest.mark.parametrize(("name", "axis"), [("TP2_TP2", "TP"), ("EP8_TP2_ep4", "EP"), ("SP_TP2_SP", "SP")])
def test_an_axis_named_twice_is_refused(name, axis):
    with pytest.raises(InvalidValueError) as refusal:
        Strategy.parse(name)
    assert str(refusal.value) == f"parallel.strategy must name {axis} once, got {name!r}. Drop one of the {axis} parts."


@pytest.mark.parametrize("axis", ["tp", "pp", "ep", "dp", "cp", "etp", "vpp"])
def test_an_axis_below_1_is_refused(axis):
    with pytest.raises(InvalidValueError) as refusal:
        Strategy(**{axis: 0})
    assert str(refusal.value) == f"parallel.{axis} must be at least 1, got 0. Leave it out for size 1."
