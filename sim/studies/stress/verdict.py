"""Which remedy at which skew, and what it costs, in one sentence.

Model
-----
    can be chosen   fits into memory with every seed; drops and reroutes under 0.1 % of the copies (all, where each does
                    more)
    as fast         mean step within 1 % of the least, or 0 within the interval of the differences seed by seed
    the best        of those as fast: peak memory within 1 % of the least, then the fewest of these, then the first

Dropping, and computing by other experts than were chosen, buy time with quality, which no simulation of time can weigh.
Remedies meet the same tokens with a seed, so their differences have less noise than the steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.results.quantities import format_quantity
from sim.studies.stress.summary import mean_and_interval

__all__ = ["verdict"]

_MOST_LOST: Final = 0.001
_SAME: Final = 1.01

Row = Mapping[str, Any]


def verdict(rows: Sequence[Row]) -> str:
    """Return the sentence for rows of `sim.studies.stress.summary`, skews and remedies in the order of the grid."""
    ran = [row for row in rows if row["step_time_s"] is not None and not row["is_other_routing"]]
    if not ran:
        return "No point of the grid could be simulated."
    if not any(_fits(row) for row in ran):
        return "No point of the grid fits into memory."
    parts: list[list[Row]] = []
    for skew in dict.fromkeys(row["skew"] for row in ran):
        here = [row for row in ran if row["skew"] == skew]
        row = _best([row for row in here if _fits(row)] or here)
        if parts and _chosen(parts[-1][-1]) == _chosen(row):
            parts[-1].append(row)
        else:
            parts.append([row])
    sentence = "; ".join(_told(part, ran) for part in parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _fits(row: Row) -> bool:
    """Return whether nothing is known of a seed with which it does not fit into memory."""
    return row["fits"] is not False


def _chosen(row: Row) -> str | None:
    return str(row["remedy"]) if _fits(row) else None


def _best(rows: Sequence[Row]) -> Row:
    whole = [row for row in rows if _lost(row) <= _MOST_LOST] or list(rows)
    fastest = min(whole, key=lambda row: float(row["step_time_s"]))
    as_fast = [row for row in whole if _is_as_fast(row, fastest)]
    least = min(row["peak_bytes_per_gpu"] for row in as_fast)
    lean = [row for row in as_fast if row["peak_bytes_per_gpu"] <= _SAME * least]
    return min(lean, key=_lost)


def _lost(row: Row) -> float:
    """Return the share of the copies that the experts of their choice do not compute."""
    return float(row["dropped_fraction"] + row["rerouted_fraction"])


def _loss(row: Row) -> str:
    """Return a clause on copies that are dropped and rerouted, where there are many; else nothing."""
    if _lost(row) <= _MOST_LOST:
        return ""
    shares = {"dropping": row["dropped_fraction"], "rerouting": row["rerouted_fraction"]}
    told = " and ".join(f"{what} {share:.1%}" for what, share in shares.items() if share)
    return f", {told} of the copies"


def _is_as_fast(row: Row, fastest: Row) -> bool:
    if row["step_time_s"] <= _SAME * fastest["step_time_s"]:
        return True
    pairs = zip(row["step_times_s"], fastest["step_times_s"], strict=True)
    later = [one - other for one, other in pairs if one is not None and other is not None]
    interval = mean_and_interval(later)[1] if later else None
    return interval is not None and interval[0] <= 0


def _told(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Return a clause on a remedy that is best at skews in a row."""
    row, first = rows[-1], every[0]
    low, high = rows[0]["skew"], rows[-1]["skew"]
    at = f"at skew {low:g}" if low == high else f"at skew {low:g} to {high:g}"
    where = "" if low == high else f"at skew {high:g} "
    if not _fits(row):
        return f"{at} no remedy fits into memory"
    times = f"its step is {_times(row, first)} that of skew {first['skew']:g}"
    loss = _loss(row)
    if row["remedy"] == first["remedy"]:
        told = f'the scenario as it is ("{row["remedy"]}")' if row["changes_nothing"] else f'"{row["remedy"]}"'
        return f"{at} no remedy is faster than {told} by more than 1 % and the noise of the seeds: {where}{times}{loss}"
    best = f'{at} "{row["remedy"]}" is best: {where}{times}'
    plain = next((one for one in every if one["skew"] == row["skew"] and one["remedy"] == first["remedy"]), None)
    if plain is None:
        return best + loss
    unfit = "" if _fits(plain) else ", which does not fit into memory"
    gained = row["peak_bytes_per_gpu"] - plain["peak_bytes_per_gpu"]
    cost = f"{format_quantity(abs(gained), 'bytes')} {'more' if gained > 0 else 'less'}" if gained else "as much"
    against = f'against {_times(plain, first)} with "{plain["remedy"]}"{unfit}'
    return f"{best} {against}, and it needs {cost} per GPU at the peak of memory{loss}"


def _times(row: Row, first: Row) -> str:
    return f"{row['step_time_s'] / first['step_time_s']:.2f} times"
