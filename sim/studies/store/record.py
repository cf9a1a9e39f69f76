"""What is kept of one simulation: its values, its account of time, its tokens, or why it could not be run."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sim.run.model_run import EXCHANGE
from sim.run.parallel_runs import Observation
from sim.run.scenario_run import Value

__all__ = ["Record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The result of one simulation, without its trace."""

    values: Mapping[str, Value]
    """Metrics, memory and mesh by name; empty where it could not be run."""
    parts_s: Mapping[str, float] = field(default_factory=dict)
    """Account of time by part, averaged over stages."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Token copies that were routed, computed, dropped, padded and rerouted."""
    problem: str | None = None
    """Why it could not be run."""
    is_final: bool = True
    """Whether it follows from the scenario alone: not where memory ran out, so that a later study tries it again."""
    cost_s: float = 0.0
    """Seconds that the simulation took."""

    @classmethod
    def of(cls, observation: Observation, cost_s: float) -> Self:
        """Return what is kept of an observation that took `cost_s`."""
        refused, deadlocks = observation.num_runs == 0, observation.values.get(EXCHANGE) is False
        return cls(
            values=observation.values,
            parts_s=observation.parts_s,
            tokens=observation.tokens,
            problem=observation.problem,
            is_final=observation.problem is None or refused or deadlocks,
            cost_s=cost_s,
        )

    def to_json(self) -> str:
        """Return the text that a store keeps; what is no finite number is left out, as JSON has no word for it."""
        values = {name: value for name, value in self.values.items() if math.isfinite(value)}
        parts_s, tokens = dict(self.parts_s), dict(self.tokens)
        kept = {"values": values, "parts_s": parts_s, "tokens": tokens, "problem": self.problem}
        return json.dumps({key: value for key, value in kept.items() if value}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, cost_s: float) -> Self:
        """Return the record of a text that `to_json` made.

        Raises
        ------
        ValueError
            The text is none of ours.
        """
        data: dict[str, Any] = json.loads(text)
        known = {"values", "parts_s", "tokens", "problem"}
        if not isinstance(data, dict) or not set(data) <= known:
            raise ValueError("a record has other parts")
        return cls(**{"values": {}, **data}, cost_s=cost_s)
