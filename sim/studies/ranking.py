"""Whether a model puts strategies into the order in which they were measured: Kendall's tau, and regret.

Model
-----
A group is the figures of one metric of strategies for the same work on the same cluster: those that differ in keys of
the strategy alone, or that name one `group`. The cost of a strategy is its time, or one over its throughput or MFU::

    tau = (concordant - discordant) / pairs,     over pairs whose measured costs differ by more than 10 %
    regret = measured cost of the strategy that is modelled as best / measured cost of the best - 1

A pair that the model does not separate is neither concordant nor discordant. Of strategies that are modelled as
equally good the slowest as measured counts for the regret. `tau_all` is over all pairs that were measured differently.

References
----------
Kendall, "A new measure of rank correlation", Biometrika 30, 1938 (tau a).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from sim.results.catalog import CATALOG
from sim.scenario.claims_section import is_rival_key
from sim.studies.figures import Figure, summarise

__all__ = ["Ranking", "rank_groups", "summarise_rankings"]

_CLEAR: Final = 1.1
"""Measured costs of a factor above this are clearly different: runs of one strategy differ by several percent."""
_RATES: Final = frozenset({"tokens/s", "FLOP/s", "bytes/s"})
"""Units of metrics of which more is better."""
_SHARES_OF_PEAK: Final = frozenset({"mfu", "mfu_causal", "hfu"})
"""Ratios of which more is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How well the order of a group is modelled."""

    name: str
    """The group."""
    figures: tuple[Figure, ...]
    """Its strategies, all with a modelled value, in the order in which they were measured, the best first."""
    num_pairs: int
    """Pairs whose measured costs differ by more than 10 %."""
    kendall_tau: float | None
    """Tau over these pairs; None where there is none."""
    kendall_tau_all: float | None
    """Tau over all pairs that were measured differently; None where there is none."""
    regret_pct: float
    """How much slower the strategy that is modelled as best is than the best."""
    best_modelled: Figure
    """The strategy that is modelled as best."""

    def to_dict(self) -> dict[str, object]:
        """Return the contract's group, with what explains it."""
        return {
            "num": len(self.figures),
            "num_pairs": self.num_pairs,
            "kendall_tau": self.kendall_tau,
            "kendall_tau_all": self.kendall_tau_all,
            "regret_pct": self.regret_pct,
            "median_pct": summarise(self.figures).median_pct,
            "suite": self.figures[0].suite,
            "system": self.figures[0].system,
            "best_measured": _strategy(self.figures[0]),
            "best_modelled": _strategy(self.best_modelled),
            "measured_cost": [_measured_cost(figure) for figure in self.figures],
            "modelled_cost": [_cost(figure, figure.modelled) for figure in self.figures],
        }


def rank_groups(figures: Iterable[Figure]) -> list[Ranking]:
    """Return the rankings of all groups of at least two strategies; figures apart must be left out before."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.modelled is not None and figure.modelled > 0 and not figure.at_most:
            groups.setdefault(_group_of(figure), []).append(figure)
    return [_ranking(name, group) for name, group in groups.items() if len(group) > 1]


def summarise_rankings(rankings: Sequence[Ranking]) -> dict[str, object]:
    """Return the number of groups, the medians of tau and regret, and the worst of both.

    Examples
    --------
    >>> summarise_rankings([])["num_groups"]
    0
    """
    taus = [ranking.kendall_tau for ranking in rankings if ranking.kendall_tau is not None]
    regrets = [ranking.regret_pct for ranking in rankings]
    return {
        "num_groups": len(rankings),
        "median_tau": float(np.median(taus)) if taus else None,
        "worst_tau": min(taus) if taus else None,
        "median_regret_pct": float(np.median(regrets)) if regrets else None,
        "worst_regret_pct": max(regrets) if regrets else None,
    }


# ---- private -----------------------------------------------------------------------------------------------------


def _ranking(name: str, group: Sequence[Figure]) -> Ranking:
    """Return the ranking of a group."""
    figures = sorted(group, key=_measured_cost)
    best = min(figures, key=lambda figure: (_cost(figure, figure.modelled), -_measured_cost(figure)))
    pairs = [(a, b) for a, b in combinations(figures, 2) if _measured_cost(a) < _measured_cost(b)]
    clear = [(a, b) for a, b in pairs if _measured_cost(b) > _CLEAR * _measured_cost(a)]
    return Ranking(
        name=name,
        figures=tuple(figures),
        num_pairs=len(clear),
        kendall_tau=_tau(clear),
        kendall_tau_all=_tau(pairs),
        regret_pct=100 * (_measured_cost(best) / _measured_cost(figures[0]) - 1),
        best_modelled=best,
    )


def _tau(pairs: Sequence[tuple[Figure, Figure]]) -> float | None:
    """Return Kendall's tau over pairs of which the first was measured as better."""
    if not pairs:
        return None
    signs = [np.sign(_cost(b, b.modelled) - _cost(a, a.modelled)) for a, b in pairs]
    return float(np.mean(signs))


def _measured_cost(figure: Figure) -> float:
    return _cost(figure, figure.published)


def _cost(figure: Figure, value: float | None) -> float:
    """Return what is less for the better strategy; a value that is missing, which no group has, is the worst."""
    if value is None:
        return float("inf")
    more_is_better = CATALOG[figure.metric].unit in _RATES or figure.metric in _SHARES_OF_PEAK
    return 1 / value if more_is_better else value


def _group_of(figure: Figure) -> str:
    """Return the name of the group of a figure: its own, or its case with what is not of the strategy."""
    if figure.group is not None:
        return figure.group
    facts = {key.rpartition(".")[2]: value for key, value in figure.changes.items() if not is_rival_key(key)}
    return ", ".join([figure.case, *(f"{key} {value}" for key, value in facts.items())])


def _strategy(figure: Figure) -> str:
    """Return a strategy by its name, or by its keys."""
    keys = {key.rpartition(".")[2]: value for key, value in figure.changes.items() if is_rival_key(key)}
    return figure.name or ", ".join(f"{key} {value}" for key, value in keys.items()) or figure.case
