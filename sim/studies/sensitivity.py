"""Which assumption must change by how much before the verdict on a quantitative claim flips.

Model
-----
Each number among the assumptions of a scenario is changed alone, and so are the times of all kernels, of all bytes on
links and of all latencies, by factors of 1/8 to 8 in steps of 2. A claim flips at the smallest change under which the
metric meets the claim where it did not, or no longer meets it. Between two steps the change lies anywhere: the row
gives both.

Assumptions
-----------
One thing changes at a time. A changed count that the strategy does not allow (a mesh that is illegal, heads that TP
does not divide) is left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sim.build.build import check_values
from sim.errors import InvalidValueError
from sim.results.claims import Claim, Verdict
from sim.run.scenario_run import Value
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload

__all__ = ["MOST", "Change", "Flip", "changes_of", "flips_of"]

_STEPS: Final = (1, 2, 3)
"""Powers of two that a value is multiplied with and divided by."""
MOST: Final = 2 ** max(_STEPS)
"""The largest factor."""
_TIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "time of all kernels": ("gemm", "grouped_gemm", "attention", "memory_bound", "closed_form"),
    "time of bytes on all links": ("byte_time_in_node", "byte_time_across_nodes"),
    "latency of all transfers": ("latency_in_node", "latency_across_nodes"),
}
"""Name of what is changed -> its keys below `factors`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One assumption, changed by a factor."""

    key: str
    """The key that is changed, or a name of `_TIMES`."""
    own: float
    """Its value in the scenario; 1 for times."""
    value: float
    """Its value here."""
    scenario: Scenario
    """What is simulated."""

    @property
    def factor(self) -> float:
        """How many times its own value it has."""
        return self.value / self.own


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """The smallest change of an assumption under which a claim flips."""

    claim: str
    """Id of the claim."""
    key: str | None
    """The assumption; None: no change of any assumption flips the claim."""
    closest: str | None = None
    """Where none flips it, the assumption whose change to `after` brings the metric closest to the expected value."""
    own: float | None = None
    """Its value in the scenario."""
    before: float | None = None
    """Its value at the last step at which the claim has not flipped."""
    after: float | None = None
    """Its value at the step at which it has."""
    metric: float | None = None
    """The claim's metric there."""

    def to_dict(self) -> dict[str, Any]:
        """Return the row of the JSON."""
        return {name: getattr(self, name) for name in ("claim", "key", "closest", "own", "before", "after", "metric")}


def changes_of(scenario: Scenario) -> list[Change]:
    """Return each numeric assumption changed by each factor, without those that make no valid scenario.

    >>> from sim.scenario.load import load_scenario
    >>> changes = changes_of(load_scenario("ep64_tp16_pp4"))
    >>> [change.value for change in changes if change.key == "model.top_k"]
    [1, 4, 8, 16]
    """
    spec = scenario.spec
    if not isinstance(spec.workload, (ForwardWorkload, TrainingWorkload)):
        return []
    resolved = scenario.resolved()
    found: list[Change] = []
    factors = [2.0 ** (sign * step) for sign in (-1, 1) for step in _STEPS]
    for key in spec.assumed:
        own = _look_up(resolved, key)
        if isinstance(own, int) and not isinstance(own, bool) and own > 0:
            values = sorted({max(1, round(own * factor)) for factor in factors} - {own})
            found += [c for value in values if (c := _change(scenario, key, own, value, {key: value})) is not None]
    for name, fields in _TIMES.items():
        for factor in sorted(factors):
            changes = {f"factors.{field}": factor * getattr(spec.factors, field) for field in fields}
            change = _change(scenario, name, 1.0, factor, changes)
            found += [change] if change is not None else []
    return found


def flips_of(
    verdicts: Sequence[Verdict], changes: Sequence[Change], values: Sequence[Mapping[str, Value]]
) -> list[Flip]:
    """Return for each quantitative claim the smallest changes that flip it, the smallest factor first.

    `values` are the figures of the run of each change, empty where it could not be run.
    """
    rows: list[Flip] = []
    for verdict in verdicts:
        claim, own = verdict.claim, verdict.evidence.value
        is_quantity = claim.is_simulated and own is not None and not isinstance(own, bool)
        if claim.is_met is None or not is_quantity or own is None or verdict.evidence.assumes_claim:
            continue
        met_here = bool(claim.is_met(own))
        flips = []
        for key in dict.fromkeys(change.key for change in changes):
            runs = [
                (c, v[claim.metric]) for c, v in zip(changes, values, strict=True) if c.key == key and claim.metric in v
            ]
            for direction in (-1, 1):
                side = [(c, value) for c, value in runs if direction * math.log(c.factor) > 0]
                side.sort(key=lambda run: abs(math.log(run[0].factor)))
                at = next((i for i, (_, value) in enumerate(side) if bool(claim.is_met(value)) != met_here), None)
                if at is not None:
                    flips.append((side[at - 1][0].value if at else side[at][0].own, *side[at]))
        flips.sort(key=lambda flip: abs(math.log(flip[1].factor)))
        rows += [
            Flip(claim=claim.id, key=c.key, own=c.own, before=before, after=c.value, metric=float(value))
            for before, c, value in flips
        ] or [_closest(claim, changes, values)]
    return rows


# ---- private -----------------------------------------------------------------------------------------------------


def _closest(claim: Claim, changes: Sequence[Change], values: Sequence[Mapping[str, Value]]) -> Flip:
    """Return the change that brings a claim's metric closest to the expected value."""
    wanted = float(claim.expected_value or 0)
    runs = [(c, float(v[claim.metric])) for c, v in zip(changes, values, strict=True) if claim.metric in v]
    if not runs:
        return Flip(claim=claim.id, key=None)
    c, value = min(runs, key=lambda run: abs(run[1] - wanted))
    return Flip(claim=claim.id, key=None, closest=c.key, own=c.own, after=c.value, metric=value)


def _change(scenario: Scenario, key: str, own: float, value: float, changes: Mapping[str, object]) -> Change | None:
    """Return a changed scenario; None where the change makes no valid scenario."""
    try:
        varied = scenario.without_judgement().variant(changes)
        check_values(varied)
    except InvalidValueError:
        return None
    return Change(key=key, own=own, value=value, scenario=varied)


def _look_up(data: Mapping[str, Any], key: str) -> object:
    node: object = data
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
