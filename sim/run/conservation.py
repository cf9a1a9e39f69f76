"""The law of tokens: no rank holds or computes more copies of tokens than exist, checked on every run.

Model
-----
    copies that a lane sends in a microbatch   = mean copies of a host * hosts      as the account of memory counts them
    copies that all hosts hold                <= copies that are sent + padding

A run that breaks the law is a defect of the program and not of its input. Such a run is stopped.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError

__all__ = ["check_expert_tokens"]

_RowsOfLanes = Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]]
_TOLERANCE = 1e-9
"""Relative rounding of a mean over hosts."""


def check_expert_tokens(
    received: _RowsOfLanes,
    sent: Mapping[tuple[int, int], Mapping[tuple[int, int], int]],
    expected_copies: Sequence[Sequence[float]],
    *,
    num_padded: int,
) -> None:
    """Refuse a run in which hosts of experts hold more copies of tokens than exist.

    Parameters
    ----------
    received, sent
        (stage, lane) -> (microbatch, chunk) -> rows on each host [R], and copies that the sources have.
    expected_copies
        Copies on a host that the account of memory takes a microbatch to have, mean of the hosts: stage -> chunk.
    num_padded
        Empty rows among those on hosts, over the whole run.

    Raises
    ------
    SimulationError
        The law is broken; the message names stage, lane and microbatch.

    Examples
    --------
    >>> rows = {(0, 0): {(3, 0): np.array([6, 2])}}
    >>> check_expert_tokens(rows, {(0, 0): {(3, 0): 8}}, [[4.0]], num_padded=0)
    >>> check_expert_tokens(rows, {(0, 0): {(3, 0): 8}}, [[16.0]], num_padded=0)
    Traceback (most recent call last):
    sim.errors.SimulationError: defect of moesim: memory counts 32 copies of tokens of microbatch 3 on the 2 hosts ...
    """
    for (stage, lane), units in sent.items():
        for (microbatch, chunk), num_sent in units.items():
            rows = received[stage, lane][microbatch, chunk]
            num_computed = int(rows.sum())
            counted = expected_copies[stage][chunk] * rows.size
            where = f"of microbatch {microbatch} on the {rows.size} hosts of stage {stage}, lane {lane}"
            if abs(counted - num_sent) > _TOLERANCE * num_sent:
                raise _broken(f"memory counts {counted:,.10g} copies of tokens {where}, and {num_sent:,} exist")
            if num_computed > num_sent + num_padded:
                raise _broken(f"{num_computed:,} copies of tokens {where} are computed, and {num_sent:,} exist")


def _broken(what: str) -> SimulationError:
    return SimulationError(f"defect of moesim: {what}. Please report the scenario.")
