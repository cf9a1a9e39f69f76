"""The parts of time, and how a row of the trace falls into them."""

from sim.engine.trace import KINDS, PASS_KINDS

__all__ = ["COMMUNICATION_PARTS", "COMPUTE_PARTS", "PARTS", "empty_account"]

COMPUTE_PARTS = ("attention", "dense_ffn", "expert", "other_compute", "optimizer")
"""Own kernels."""

COMMUNICATION_PARTS = ("tp", "ep_dispatch", "ep_combine", "ep_moves", "pp", "dp", "cp")
"""Transfers, as they would be alone and without latency and imbalance."""

PARTS = (*COMPUTE_PARTS, *COMMUNICATION_PARTS, "imbalance", "contention", "latency", "stalled", "foreign", "idle")
"""All parts of both accounts, in the order in which they are printed."""

if {*COMPUTE_PARTS, *COMMUNICATION_PARTS} != set(KINDS) - set(PASS_KINDS):
    raise RuntimeError("every kind of row needs its part of the account")


def empty_account() -> dict[str, int]:
    """Return an account of nothing."""
    return dict.fromkeys(PARTS, 0)
