"""A plan without some of its costs: what-ifs, as a scenario's `what_if` names them.

Model
-----
    free_tp, free_ep, ...   transfers of the kind have neither bytes nor latency, and take no SMs
    infinite_bandwidth      no transfer has bytes
    no_latency              no transfer has a latency
    no_bubble               a pass needs what its own stage made, and nothing of other stages
    even_stages, ...        kernels take what they take on the mean stage (`sim.plan.even_stages`)

All else is as it was: the order of passes, the host, and who waits for whom within a stage. Transfers that
several lanes enter still wait for the last of these. Bytes that take no time are not counted as sent.

Assumptions
-----------
An order of passes that was made from the times of passes (ZB-1p, ZB-2p) stays the order of the full costs.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from sim.plan.even_stages import EvenedPlan
from sim.plan.ops import Collective, ConcurrentPasses, Input, Op, Send, Transfer
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from topology.links import LinkLoad
from workloads.schedules import Pass, Step
from workloads.what_if import EVEN_STAGES, EVENED, NO_BUBBLE, WHAT_IFS, WhatIf

__all__ = ["ChangedPlan", "under"]


class ChangedPlan:
    """A plan whose transfers and inputs are changed; everything else is that of the plan."""

    def __init__(self, plan: PipelinePlan | PassesPlan | EvenedPlan, names: Iterable[str]) -> None:
        self._plan = plan
        self._what_ifs: list[WhatIf] = [WHAT_IFS[name] for name in names]
        self._has_bubbles = NO_BUBBLE not in names
        self._changed: dict[tuple[Transfer, str], Transfer] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the plan
        return getattr(self._plan, name)

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return the outputs that a step needs before it opens."""
        inputs = self._plan.inputs(stage, step)
        return inputs if self._has_bubbles else tuple(key for key in inputs if key.stage == stage)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step."""
        ops = self._plan.ops(stage, lane, step)
        if isinstance(ops, ConcurrentPasses):
            return ConcurrentPasses(sides=tuple((pass_, self._ops(side)) for pass_, side in ops.sides))
        return self._ops(ops)

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return what a pass hands to other stages."""
        sends = self._plan.sends(stage, lane, pass_)
        return tuple(replace(send, transfer=self._transfer(send.transfer, "pp")) for send in sends)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return what a lane starts before its first pass."""
        return self._ops(self._plan.before_passes(stage, lane))

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return what follows the last pass."""
        return self._ops(self._plan.after_passes(stage, lane))

    # ---- private -------------------------------------------------------------------------------------------------

    def _ops(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        return tuple(
            replace(op, transfers=tuple(self._transfer(one, op.kind) for one in op.transfers))
            if isinstance(op, Collective)
            else op
            for op in ops
        )

    def _transfer(self, transfer: Transfer, kind: str) -> Transfer:
        """Return a transfer of a kind as it is here: the same object each time, for rates are known by it."""
        key = (transfer, kind)
        if key not in self._changed:
            self._changed[key] = _changed(transfer, kind, self._what_ifs)
        return self._changed[key]


def under(
    plan: PipelinePlan | PassesPlan, names: Iterable[str]
) -> PipelinePlan | PassesPlan | EvenedPlan | ChangedPlan:
    """Return a plan under what-ifs, names of `workloads.what_if.WHAT_IFS`; without any it is the plan itself."""
    wanted = tuple(names)
    if not wanted:
        return plan
    evened = [name for name in wanted if name in EVENED]
    kernels = EvenedPlan(plan, last_only=EVEN_STAGES not in evened) if evened else plan
    return ChangedPlan(kernels, wanted)


# ---- private -----------------------------------------------------------------------------------------------------


def _changed(transfer: Transfer, kind: str, what_ifs: Iterable[WhatIf]) -> Transfer:
    """Return a transfer without what the what-ifs take away."""
    for what_if in what_ifs:
        is_free = kind in what_if.free_kinds
        if is_free or what_if.without_latency:
            transfer = replace(transfer, latency_ns=0)
        if is_free or what_if.without_bytes:
            transfer = _without_bytes(transfer)
        if is_free:
            transfer = replace(transfer, num_sms=0)
    return transfer


def _without_bytes(transfer: Transfer) -> Transfer:
    return replace(
        transfer,
        load=LinkLoad(links=np.zeros(0, dtype=np.intp), num_bytes=np.zeros(0)),
        overhead=None,
        alone_ns=0,
        imbalance_ns=0,
        flow_bytes=0.0,
        total_bytes=0.0,
        flows=None,
    )
