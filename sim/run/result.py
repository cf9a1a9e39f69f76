"""What comes out of a simulated scenario: Python values, and the contract's JSON."""

import html
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.engine.trace import Trace
from sim.results.catalog import CATALOG, resolve_metric
from sim.results.claims import Outcome, Verdict
from sim.results.facts import facts_of
from sim.results.quantities import format_quantity
from sim.results.uncertainty import Uncertainty
from sim.run.scenario_run import Simulated
from sim.scenario.scenario import Scenario

__all__ = ["SCHEMA_VERSION", "Result"]

SCHEMA_VERSION = 1
"""Version of the JSON's shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A scenario, simulated and judged."""

    scenario: Scenario
    """The scenario as it was loaded."""
    simulated: Simulated
    """The run of the scenario itself."""
    claims: list[Verdict]
    """Verdicts, in the order of the scenario."""
    findings: list[str]
    """Sentences on findings that no claim is about."""
    num_runs: int
    """Simulations in all: the scenario, its alternatives, rivals, seeds, probes and draws."""
    conclusion: Mapping[str, Any] = field(default_factory=lambda: {"conclusion": [], "conclusion_figures": []})
    """What the JSON has of the conclusion: its sentences, and where its figures come from."""
    sensitivity: list[dict[str, Any]] | None = None
    """For each quantitative claim the changes of assumptions that flip it; None where none were simulated."""
    uncertainty: Uncertainty | None = None
    """Intervals over draws of fitted constants; None where none were drawn."""

    @property
    def trace(self) -> Trace:
        """The record of the scenario's own run."""
        return self.simulated.run.trace

    @property
    def metrics(self) -> dict[str, float | int | bool]:
        """The contract's metrics by name, SI units."""
        return self.simulated.metrics

    @property
    def memory(self) -> dict[str, object]:
        """Peak bytes per GPU by component, capacity, whether it fits, where and when the peak is."""
        return self.simulated.memory

    @property
    def path_ns(self) -> dict[str, int]:
        """Nanoseconds of each category along the path; they sum to the step time."""
        return self.simulated.path_ns

    @property
    def stages_ns(self) -> list[dict[str, int]]:
        """Nanoseconds of each category on each stage; each sums to the step time."""
        return self.simulated.stages_ns

    @property
    def is_unfit(self) -> bool:
        """Whether the run does not fit into memory, and no claim is about that."""
        judged = any(resolve_metric(claim.metric) == "fits" for claim in self.scenario.spec.claims)
        return not judged and self.memory.get("fits") is False

    @property
    def has_failed_claims(self) -> bool:
        """Whether a claim is refuted or depends: what `--check` asks."""
        return any(verdict.verdict in ("refuted", "depends") for verdict in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON object: SI units at the end of names, no NaN."""
        simulated = self.simulated
        return {
            name: _without_nan(value)
            for name, value in {
                "schema_version": SCHEMA_VERSION,
                "scenario": self.scenario.resolved(),
                **self.conclusion,
                "assumptions": [item._asdict() for item in simulated.assumptions],
                "warnings": list(simulated.warnings),
                "findings": list(self.findings),
                "metrics": simulated.metrics,
                "path_ns": simulated.path_ns,
                "stages_ns": simulated.stages_ns,
                "memory": simulated.memory,
                "mesh": simulated.mesh,
                "conservation": self._conservation(),
                "links": self._links(),
                "collectives": [choice._asdict() for choice in simulated.choices],
                "bounds": self._bounds(),
                "claims": self._claims(),
                "facts": [fact.to_dict() for fact in facts_of(self.claims)],
                **({} if simulated.requests is None else {"requests": simulated.requests}),
                **({} if self.sensitivity is None else {"sensitivity": self.sensitivity}),
                **({} if self.uncertainty is None else {"uncertainty": self.uncertainty.to_dict()}),
                "engine": self._engine(),
            }.items()
        }

    def __repr__(self) -> str:
        name = self.scenario.spec.name or self.scenario.path or "scenario"
        step_ms = self.metrics["step_time_s"] * 1e3
        verdicts = ", ".join(f"{v.claim.id} {v.verdict}" for v in self.claims)
        return f"<Result of {name!r}: step {step_ms:.3f} ms{'; ' + verdicts if verdicts else ''}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: figures, where the time goes, verdicts; texts of the scenario are escaped."""
        return "".join(_html_of(self))

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)

    # ---- private -------------------------------------------------------------------------------------------------

    def _claims(self) -> list[dict[str, Any]]:
        """Return the claims, with intervals over draws of constants where there are some."""
        leaders = {v.claim.id: fact.leader.claim.id for fact in facts_of(self.claims) for v in fact.claims[1:]}
        claims: list[dict[str, Any]] = [
            {**_claim_dict(v), "because_of": leaders.get(v.claim.id), "assumptions": self._rests_on(v)}
            for v in self.claims
        ]
        if self.uncertainty is not None:
            for claim, sure in zip(claims, self.uncertainty.claims, strict=True):
                claim.update(sure.to_dict())
                claim["interval_runs"] = self.uncertainty.num_samples if sure.interval is not None else 0
                for outcome, interval in zip(claim["alternatives"], sure.alternatives, strict=False):
                    outcome["interval"] = None if interval is None else list(interval)
        return claims

    def _rests_on(self, verdict: Verdict) -> list[str]:
        """Return the keys of the assumptions that a verdict rests on: a mesh knows nothing of the work."""
        keys = dict.fromkeys(item.key for item in self.simulated.assumptions)
        metric = verdict.claim.metric
        if metric in ("weights", "num_params", "num_active_params", "num_params_per_gpu"):
            sections: tuple[str, ...] = ("model.", "parallel.")
        elif CATALOG[metric].group != "mesh":
            sections = ("",)
        elif "params" in metric:
            sections = ("model.", "parallel.")
        elif metric.startswith("legal") or metric.endswith("nodes"):
            sections = ("cluster.preset", "parallel.")
        else:
            sections = ("parallel.",)
        return [key for key in keys if key.startswith(sections)]

    def _conservation(self) -> dict[str, object]:
        run = self.simulated.run
        return {
            "tokens_routed": run.tokens_routed,
            "tokens_computed": run.tokens_computed,
            "tokens_dropped": run.tokens_dropped,
            "tokens_padded": run.tokens_padded,
            "tokens_rerouted": run.tokens_rerouted,
            "bytes_sent": run.bytes_sent,
            "bytes_received": run.bytes_received,
        }

    def _links(self) -> list[dict[str, object]]:
        use, step_s = self.trace.link_use, self.trace.step_ns / 1e9
        return [
            {
                "name": name,
                "kind": kind,
                "bytes": float(use.num_bytes[i]),
                "busy_s": float(use.busy_s[i]),
                "utilisation": float(use.num_bytes[i] / (use.capacity_bytes_per_s[i] * step_s)),
                "bottleneck_fraction": None if use.bottleneck_s is None else float(use.bottleneck_s[i] / step_s),
            }
            for i, (name, kind) in enumerate(zip(use.names, use.link_kinds, strict=True))
        ]

    def _bounds(self) -> dict[str, object]:
        simulated = self.simulated
        if simulated.bounds is None:
            return {}
        return {
            "batch_compute_s": simulated.bounds.compute_s,
            "batch_wires_s": simulated.bounds.wires_s,
            **{f"all_reduce_nic_{name}_s": time for name, time in simulated.wire_times_s.items()},
        }

    def _engine(self) -> dict[str, object]:
        stats = self.simulated.run.stats
        return {
            "wall_s": stats.wall_s,
            "plan_wall_s": stats.plan_wall_s,
            "runs": self.num_runs,
            "stage_ops": stats.num_stage_ops,
            "spans": stats.num_spans,
            "events": stats.num_events,
            "solves": stats.num_solves,
            "folded": self.trace.num_folded,
            "lanes": self.trace.num_stages * self.trace.num_lanes,
            **({"compiled": True} if stats.is_compiled else {}),
        }


def _claim_dict(verdict: Verdict) -> dict[str, object]:
    claim, evidence = verdict.claim, verdict.evidence
    return {
        "id": claim.id,
        "says": claim.says,
        "paraphrase": claim.paraphrase,
        "source": claim.source,
        "note": claim.note,
        "metric": claim.metric,
        "expect": dict(claim.expect) if claim.expect else {"superlative": claim.superlative},
        "value": evidence.value,
        "assumes_claim": evidence.assumes_claim,
        "interval": [min(evidence.seeds), max(evidence.seeds)] if evidence.seeds else None,
        "interval_runs": len(evidence.seeds),
        "interval_over": evidence.draws if evidence.seeds else None,
        "verdict": verdict.verdict,
        "relevance": verdict.relevance,
        "sentence": verdict.sentence,
        "relevance_reason": verdict.relevance_reason,
        "supports": claim.supports,
        "part": claim.part,
        "reason": verdict.reason,
        "bound_compute": evidence.bound_compute,
        "bound_wires": evidence.bound_wires,
        "alternatives": [
            {
                "set": dict(outcome.changes),
                "value": outcome.value,
                "verdict": _alternative_verdict(verdict, outcome),
                **({"problem": outcome.problem} if outcome.problem else {}),
            }
            for outcome in evidence.alternatives
        ],
        "rival": {"strategy": verdict.rival.name, "value": verdict.rival.value} if verdict.rival else None,
        "rivals": [
            {
                "strategy": outcome.name,
                "value": outcome.value,
                **({"problem": outcome.problem} if outcome.problem else {}),
            }
            for outcome in evidence.rivals
        ]
        if claim.superlative
        else [],
    }


def _alternative_verdict(verdict: Verdict, outcome: Outcome) -> str:
    """Return the verdict that one alternative alone would give; a superlative has no rivals there."""
    is_met = verdict.claim.is_met
    if is_met is None or outcome.value is None or outcome.assumes_claim:
        return "not_judged"
    return "holds" if is_met(outcome.value) else "refuted"


def _without_nan(value: Any) -> Any:  # noqa: ANN401  # walks any JSON value
    """Return the value with non-finite numbers as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


_SHOWN_METRICS = ("step_time_s", "tokens_per_s", "bubble_fraction", "mfu", "e2e_latency_mean_s")
_LEAST_PART = 0.01
"""Parts of the step below this fraction are not shown in a notebook."""


def _html_of(result: Result) -> Iterator[str]:
    """Yield the pieces of a result as HTML."""
    name = result.scenario.spec.name or result.scenario.path or "scenario"
    yield f"<div><b>{html.escape(str(name))}</b>"
    figures = [(key, result.metrics[key]) for key in _SHOWN_METRICS if key in result.metrics]
    shown = (f"{key} {format_quantity(float(value), CATALOG[key].unit)}" for key, value in figures)
    yield f"<p>{html.escape(' · '.join(shown))}</p>"
    step_ns = sum(result.path_ns.values())
    parts = sorted(((ns / step_ns, part) for part, ns in result.path_ns.items() if step_ns), reverse=True)
    yield "<table><tr><th>on the critical path</th><th>share</th><th></th></tr>"
    for share, part in parts:
        if share >= _LEAST_PART:
            bar = f'<div style="width:{160 * share:.0f}px;height:0.8em;background:#4c78a8"></div>'
            yield f"<tr><td>{html.escape(part.replace('_', ' '))}</td><td>{100 * share:.0f} %</td><td>{bar}</td></tr>"
    yield "</table>"
    if result.claims:
        yield "<table><tr><th>claim</th><th>verdict</th></tr>"
        for one in result.claims:
            yield f"<tr><td>{html.escape(one.claim.says)}</td><td>{html.escape(one.verdict)}</td></tr>"
        yield "</table>"
    yield "</div>"
