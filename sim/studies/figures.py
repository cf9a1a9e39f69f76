"""A published figure with the modelled figure, and the summary of the errors of several figures.

Model
-----
    error_pct = 100 (modelled - published) / published

A figure is within its tolerance if `|error_pct| <= tolerance_pct`, one that is a limit (`at_most`) if `error_pct <=
tolerance_pct`; one without a modelled value is not. Summaries are over `|error_pct|` of figures that are no limits:
median, 90th percentile (linear between figures), worst. The signed median is that of `error_pct`: whether a table is
modelled too fast or too slow as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Figure", "Summary", "summarise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One published figure and the modelled figure."""

    suite: str
    """Name of its suite."""
    case: str
    """Name of its case."""
    system: str
    """The group it is summarised in."""
    metric: str
    """Name in the catalogue."""
    unit: str | None
    """SI unit of both values; None for counts and ratios around 1."""
    published: float
    """The published value, in `unit`."""
    modelled: float | None
    """The simulated value, in `unit`; None where it could not be simulated."""
    source: str
    """Paper and table, or address."""
    tolerance_pct: float
    """How far the model may be from it."""
    at_most: bool = False
    """Whether the figure is a limit, and anything below it is as good."""
    changes: dict[str, object]
    """The figure's own keys."""
    apart: str | None
    """Why it is counted in nothing."""
    note: str | None
    """A remark for readers."""
    problem: str | None
    """Why there is no modelled value."""
    name: str | None = None
    """What the figure is called."""
    group: str | None = None
    """The strategies it is ranked with; None: those of the same work on the same cluster."""
    is_fitted: bool = False
    """Whether the suite says that constants may be fitted to it."""
    parts_s: dict[str, float] = field(default_factory=dict)
    """Where the modelled step goes, averaged over stages, by category; empty where the figure is a difference."""

    @property
    def error_pct(self) -> float | None:
        """Return the error relative to the published figure."""
        return None if self.modelled is None else 100 * (self.modelled - self.published) / self.published

    @property
    def is_within(self) -> bool:
        """Return whether the error is within the tolerance; below a limit everything is."""
        if self.error_pct is None:
            return False
        return (self.error_pct if self.at_most else abs(self.error_pct)) <= self.tolerance_pct

    def to_dict(self) -> dict[str, object]:
        """Return the contract's row, with what explains it."""
        row: dict[str, object] = {
            "suite": self.suite,
            "case": self.case,
            "name": self.name,
            "group": self.group,
            "system": self.system,
            "set": self.changes,
            "metric": self.metric,
            "unit": self.unit,
            "published": self.published,
            "at_most": self.at_most,
            "modelled": self.modelled,
            "error_pct": self.error_pct,
            "source": self.source,
            "tolerance_pct": self.tolerance_pct,
            "within": self.is_within,
            "fitted": self.is_fitted,
            "note": self.note,
        }
        row |= {"problem": self.problem} if self.problem else {}
        return row | ({"reason": self.apart} if self.apart else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The errors of some figures."""

    num_rows: int
    """Figures, limits and those without a modelled value included."""
    num_within: int
    """Those within their tolerance."""
    median_pct: float | None
    """Median of |error|; None where there is none."""
    signed_median_pct: float | None
    """Median of the errors with their signs: below 0 where most are modelled too small."""
    p90_pct: float | None
    """90th percentile of |error|."""
    worst_pct: float | None
    """Largest |error|; None where there is none."""

    def to_dict(self) -> dict[str, object]:
        """Return the contract's summary."""
        return {
            "median_pct": self.median_pct,
            "signed_median_pct": self.signed_median_pct,
            "p90_pct": self.p90_pct,
            "worst_pct": self.worst_pct,
            "num_rows": self.num_rows,
            "num_within": self.num_within,
        }


def summarise(figures: Iterable[Figure]) -> Summary:
    """Return median, 90th percentile and worst of the absolute errors; figures apart must be left out before.

    Examples
    --------
    >>> summarise([])
    Summary(num_rows=0, num_within=0, median_pct=None, signed_median_pct=None, p90_pct=None, worst_pct=None)
    """
    rows = list(figures)
    counted = [row.error_pct for row in rows if row.error_pct is not None and not row.at_most]
    errors = np.array(counted, dtype=float)
    median, p90, worst = (float(np.percentile(np.abs(errors), q)) if errors.size else None for q in (50, 90, 100))
    return Summary(
        num_rows=len(rows),
        num_within=sum(row.is_within for row in rows),
        median_pct=median,
        signed_median_pct=float(np.median(errors)) if errors.size else None,
        p90_pct=p90,
        worst_pct=worst,
    )
