"""Which remedy is best at which skew, and what the remedy costs, in one sentence.

Model
-----
    candidates    remedies that are no comparison, fit into memory with every seed, and lose at most 0.1 % of the token
                  copies; where every remedy loses more, all that fit
    as fast       candidates whose mean step time is within 1 % of the minimum; or within 5 %, where the interval of the
                  paired differences contains 0 and the step times differ by at most 1 % with some seed
    best          of these, the remedies whose peak memory is within 1 % of the minimum; of these, the remedy that loses
                  the fewest copies; then the first

A token copy is lost where it is dropped, or rerouted to an expert that its token has not chosen. Losing copies buys
time with quality, which no simulation of time can weigh: a remedy that is faster at that price is named together with
the best. Remedies meet the same tokens with a seed, so paired differences have less noise than the step times. With
two or three seeds the interval of a difference is so wide that it contains 0 next to any difference: noise excuses 5 %
at most, and nothing where the remedy is slower with every seed.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from sim.results.quantities import format_quantity
from sim.studies.stress.grid import LOADS
from sim.studies.stress.summary import mean_and_interval

__all__ = ["verdict"]

_MAX_LOST: Final = 0.001
"""Largest share of lost copies of a remedy that counts as keeping all copies."""
_EQUAL: Final = 1.01
"""Largest ratio of two values that count as equal."""
_NOISE: Final = 1.05
"""Largest ratio of two mean step times that the noise of the seeds can explain."""

Row = Mapping[str, Any]


def verdict(rows: Sequence[Row]) -> str:
    """Return the sentence for the rows of `sim.studies.stress.summary`, in the order of the grid."""
    ran = [row for row in rows if row["step_time_s"] is not None and not row["is_comparison"]]
    if not ran:
        return "No point of the grid could be simulated."
    if not any(_fits(row) for row in ran):
        return "No point of the grid fits into memory."
    if len({row["remedy"] for row in ran}) == 1:
        return _single_remedy(ran)
    best = []
    for skew in dict.fromkeys(row["skew"] for row in ran):
        at_skew = [row for row in ran if row["skew"] == skew]
        best.append(_best([row for row in at_skew if _fits(row)] or at_skew))
    ranges = groupby(best, key=lambda row: (row["remedy"] if _fits(row) else None, _others_lose(row, ran)))
    sentence = "; ".join(_clause(list(rows_of_range), ran) for _, rows_of_range in ranges)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _single_remedy(rows: Sequence[Row]) -> str:
    """Return the sentence for a single remedy: what the skew costs."""
    first, worst = rows[0], max(rows, key=lambda row: float(row["step_time_s"]))
    none = (
        "Nothing was tried against skew" if first["changes_nothing"] else f'Nothing but "{first["remedy"]}" was tried'
    )
    step = f"the step takes {format_quantity(first['step_time_s'], 's')} {_at(first)}"
    times = "" if worst is first else f" and at most {_times(worst, first)} that, {_at(worst)}"
    unfit = [row for row in rows if not _fits(row)]
    places = " and ".join(_at(row) for row in unfit)
    if "load" not in first:
        places = "at skew " + ", ".join(f"{row['skew']:g}" for row in unfit)
    fit = f"; it does not fit into memory {places}" if unfit else ""
    return f"{none}: {step}{times}{fit}."


def _at(row: Row) -> str:
    """Return the words for the load of a row: its skew, or what a recording is compared with."""
    if "load" not in row:
        return f"at skew {row['skew']:g}"
    return "with the recording" if row["load"] == LOADS[1.0] else "with the same tokens balanced"


def _fits(row: Row) -> bool:
    """Return whether no seed is known with which the remedy does not fit into memory."""
    return row["fits"] is not False


def _best(rows: Sequence[Row]) -> Row:
    """Return the best remedy of one skew."""
    lossless = [row for row in rows if _lost(row) <= _MAX_LOST] or list(rows)
    fastest = min(lossless, key=lambda row: float(row["step_time_s"]))
    as_fast = [row for row in lossless if _is_as_fast(row, fastest)]
    min_peak_bytes = min(row["peak_bytes_per_gpu"] for row in as_fast)
    small = [row for row in as_fast if row["peak_bytes_per_gpu"] <= _EQUAL * min_peak_bytes]
    return min(small, key=_lost)


def _lost(row: Row) -> float:
    """Return the share of the token copies that are lost: dropped or rerouted."""
    return float(row["dropped_fraction"] + row["rerouted_fraction"])


def _others_lose(row: Row, every: Sequence[Row]) -> bool:
    """Return whether a remedy keeps all copies, and every other remedy at its skew that fits loses some."""
    at_skew = [other for other in every if other["skew"] == row["skew"] and _fits(other)]
    others = [other for other in at_skew if other["remedy"] != row["remedy"]]
    return bool(others) and _lost(row) <= _MAX_LOST and all(_lost(other) > _MAX_LOST for other in others)


def _is_as_fast(row: Row, fastest: Row) -> bool:
    """Return whether a remedy is as fast as the fastest, within 1 % or the noise of the seeds."""
    if row["step_time_s"] <= _EQUAL * fastest["step_time_s"]:
        return True
    steps = zip(row["step_times_s"], fastest["step_times_s"], strict=True)
    pairs = [(step_s, best_s) for step_s, best_s in steps if step_s is not None and best_s is not None]
    is_always_slower = all(step_s > _EQUAL * best_s for step_s, best_s in pairs)
    if is_always_slower or row["step_time_s"] > _NOISE * fastest["step_time_s"]:
        return False
    interval = mean_and_interval([step_s - best_s for step_s, best_s in pairs])[1]
    return interval is not None and interval[0] <= 0


def _clause(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Return the clause on a remedy that is best at successive skews."""
    row, first = rows[-1], every[0]
    low, high = rows[0]["skew"], rows[-1]["skew"]
    at, where = _at(rows[0]), "" if low == high else f"{_at(row)} "
    if low != high:
        at = f"{at} and {_at(row)}" if "load" in row else f"at skew {low:g} to {high:g}"
    if not _fits(row):
        return f"{at} no remedy fits into memory"
    if len({other["skew"] for other in every}) == 1:
        at, where = "", ""
        times = f'its step is {_times(row, first)} that with "{first["remedy"]}"'
    else:
        reference = "of the same tokens balanced" if "load" in first else f"of skew {first['skew']:g}"
        times = f"its step is {_times(row, first)} that {reference}"
    drops, dearer = _losses(row), _faster_at_a_price(row, every)
    if row["remedy"] == first["remedy"]:
        name = f'the scenario as it is ("{row["remedy"]}")' if row["changes_nothing"] else f'"{row["remedy"]}"'
        any_dearer = any(_faster_at_a_price(at_skew, every) for at_skew in rows)
        none = "no remedy that computes all copies as chosen" if any_dearer else "no remedy"
        faster = f"{at} {none} is faster than {name} by more than 1 % and the noise of the seeds".strip()
        if _others_lose(row, every):
            faster = f"{at} every remedy but {name} loses copies of tokens".strip()
        return f"{faster}: {where}{times}{drops}{dearer}" if at else f"{faster}{drops}{dearer}"
    best = f'{at} "{row["remedy"]}" is best: {where}{times}'.strip()
    same_skew = [other for other in every if other["skew"] == row["skew"]]
    plain = next((other for other in same_skew if other["remedy"] == first["remedy"]), None)
    if plain is None:
        return best + drops + dearer
    unfit = "" if _fits(plain) else ", which does not fit into memory"
    gained = row["peak_bytes_per_gpu"] - plain["peak_bytes_per_gpu"]
    cost = f"{format_quantity(abs(gained), 'bytes')} {'more' if gained > 0 else 'less'}" if gained else "as much"
    against = f' against {_times(plain, first)} with "{plain["remedy"]}"{unfit}' if at else unfit
    return f"{best}{against}, and it needs {cost} per GPU at the peak of memory{drops}{dearer}"


def _losses(row: Row) -> str:
    """Return the words on copies that are dropped or rerouted, where there are more than 0.1 %."""
    shares = (("dropping", row["dropped_fraction"]), ("rerouting", row["rerouted_fraction"]))
    losses = " and ".join(f"{verb} {share:.1%}" for verb, share in shares if share > _MAX_LOST)
    return f", {losses} of the copies" if losses else ""


def _faster_at_a_price(row: Row, every: Sequence[Row]) -> str:
    """Return the words on the fastest remedy at the skew of a row that loses copies, where the row keeps all copies."""
    same_skew = [other for other in every if other["skew"] == row["skew"]]
    lossy = [other for other in same_skew if _fits(other) and _lost(other) > _MAX_LOST]
    fastest = min(lossy, key=lambda other: float(other["step_time_s"]), default=row)
    if _lost(row) > _MAX_LOST or fastest["step_time_s"] * _EQUAL >= row["step_time_s"]:
        return ""
    return f' ("{fastest["remedy"]}" takes {_times(fastest, every[0])}{_losses(fastest)})'


def _times(row: Row, first: Row) -> str:
    """Return the ratio of two step times in words."""
    return f"{row['step_time_s'] / first['step_time_s']:.2f} times"
