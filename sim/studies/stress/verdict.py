"""Which remedy at which skew, and what it costs, in one sentence.

Model
-----
    can be chosen   no comparison; fits into memory with every seed; drops or reroutes under 0.1 % of the copies (all,
                    where each does more)
    as fast         mean step within 1 % of the least; or within 5 %, with 0 in the interval of the differences seed by
                    seed and no more than 1 % between the two with some seed
    the best        of those as fast: peak memory within 1 % of the least, then the fewest of these, then the first

To drop copies, or to send them to experts that their tokens have not chosen, buys time with quality, which no
simulation of time can weigh: one that is faster at that price is named beside the best. Remedies meet the same tokens
with a seed, so their differences have less noise than the steps. With two or three seeds their interval is so wide that
it holds 0 next to any difference: noise excuses 5 % at most, and nothing where every seed tells the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.results.quantities import format_quantity
from sim.studies.stress.summary import mean_and_interval

__all__ = ["verdict"]

_MOST_LOST: Final = 0.001
_SAME: Final = 1.01
_NOISE: Final = 1.05
"""How much slower a remedy may be that is as fast but for the noise of the seeds."""

Row = Mapping[str, Any]


def verdict(rows: Sequence[Row]) -> str:
    """Return the sentence for rows of `sim.studies.stress.summary`, skews and remedies in the order of the grid."""
    ran = [row for row in rows if row["step_time_s"] is not None and not row["is_comparison"]]
    if not ran:
        return "No point of the grid could be simulated."
    if not any(_fits(row) for row in ran):
        return "No point of the grid fits into memory."
    if len({row["remedy"] for row in ran}) == 1:
        return _told_alone(ran)
    parts: list[list[Row]] = []
    kinds: list[object] = []
    for skew in dict.fromkeys(row["skew"] for row in ran):
        here = [row for row in ran if row["skew"] == skew]
        row = _best([row for row in here if _fits(row)] or here)
        kind = (_chosen(row), _others_lose(row, ran))
        if parts and kinds[-1] == kind:
            parts[-1].append(row)
        else:
            parts.append([row])
            kinds.append(kind)
    sentence = "; ".join(_told(part, ran) for part in parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _told_alone(rows: Sequence[Row]) -> str:
    """Return the sentence where there is one remedy, or none: what skew costs."""
    first, worst = rows[0], max(rows, key=lambda row: float(row["step_time_s"]))
    none = (
        "Nothing was tried against skew" if first["changes_nothing"] else f'Nothing but "{first["remedy"]}" was tried'
    )
    step = f"the step takes {format_quantity(first['step_time_s'], 's')} at skew {first['skew']:g}"
    times = "" if worst is first else f" and at most {_times(worst, first)} that, at skew {worst['skew']:g}"
    unfit = [f"{row['skew']:g}" for row in rows if not _fits(row)]
    fit = f"; it does not fit into memory at skew {', '.join(unfit)}" if unfit else ""
    return f"{none}: {step}{times}{fit}."


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
    """Return the share of the copies that the experts chosen by their tokens do not compute."""
    return float(row["dropped_fraction"] + row["rerouted_fraction"])


def _others_lose(row: Row, every: Sequence[Row]) -> bool:
    """Return whether it keeps all copies and no other that fits into memory at its skew does."""
    others = [one for one in every if one["skew"] == row["skew"] and one["remedy"] != row["remedy"] and _fits(one)]
    return bool(others) and _lost(row) <= _MOST_LOST and all(_lost(one) > _MOST_LOST for one in others)


def _is_as_fast(row: Row, fastest: Row) -> bool:
    if row["step_time_s"] <= _SAME * fastest["step_time_s"]:
        return True
    steps = zip(row["step_times_s"], fastest["step_times_s"], strict=True)
    pairs = [(one, other) for one, other in steps if one is not None and other is not None]
    if row["step_time_s"] > _NOISE * fastest["step_time_s"] or all(one > _SAME * other for one, other in pairs):
        return False
    interval = mean_and_interval([one - other for one, other in pairs])[1]
    return interval is not None and interval[0] <= 0


def _told(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Return a clause on a remedy that is best at skews in a row."""
    row, first = rows[-1], every[0]
    low, high = rows[0]["skew"], rows[-1]["skew"]
    at = f"at skew {low:g}" if low == high else f"at skew {low:g} to {high:g}"
    where = "" if low == high else f"at skew {high:g} "
    if not _fits(row):
        return f"{at} no remedy fits into memory"
    if len({one["skew"] for one in every}) == 1:
        at, where = "", ""
        times = f'its step is {_times(row, first)} that with "{first["remedy"]}"'
    else:
        times = f"its step is {_times(row, first)} that of skew {first['skew']:g}"
    drops, dearer = _losses(row), _faster_at_a_price(row, every)
    if row["remedy"] == first["remedy"]:
        told = f'the scenario as it is ("{row["remedy"]}")' if row["changes_nothing"] else f'"{row["remedy"]}"'
        any_dearer = any(_faster_at_a_price(one, every) for one in rows)
        none = "no remedy that computes all copies as chosen" if any_dearer else "no remedy"
        faster = f"{at} {none} is faster than {told} by more than 1 % and the noise of the seeds".strip()
        if _others_lose(row, every):
            faster = f"{at} every remedy but {told} loses copies of tokens".strip()
        return f"{faster}: {where}{times}{drops}{dearer}" if at else f"{faster}{drops}{dearer}"
    best = f'{at} "{row["remedy"]}" is best: {where}{times}'.strip()
    plain = next((one for one in every if one["skew"] == row["skew"] and one["remedy"] == first["remedy"]), None)
    if plain is None:
        return best + drops + dearer
    unfit = "" if _fits(plain) else ", which does not fit into memory"
    gained = row["peak_bytes_per_gpu"] - plain["peak_bytes_per_gpu"]
    cost = f"{format_quantity(abs(gained), 'bytes')} {'more' if gained > 0 else 'less'}" if gained else "as much"
    against = f' against {_times(plain, first)} with "{plain["remedy"]}"{unfit}' if at else unfit
    return f"{best}{against}, and it needs {cost} per GPU at the peak of memory{drops}{dearer}"


def _losses(row: Row) -> str:
    """Return a clause on copies that are dropped and rerouted, where there are many; else nothing."""
    shares = (("dropping", row["dropped_fraction"]), ("rerouting", row["rerouted_fraction"]))
    told = " and ".join(f"{doing} {share:.1%}" for doing, share in shares if share > _MOST_LOST)
    return f", {told} of the copies" if told else ""


def _faster_at_a_price(row: Row, every: Sequence[Row]) -> str:
    """Return what is said of the fastest remedy at the row's skew that loses copies, where the row's does not."""
    here = [one for one in every if one["skew"] == row["skew"] and _fits(one) and _lost(one) > _MOST_LOST]
    fastest = min(here, key=lambda one: float(one["step_time_s"]), default=row)
    if _lost(row) > _MOST_LOST or fastest["step_time_s"] * _SAME >= row["step_time_s"]:
        return ""
    return f' ("{fastest["remedy"]}" takes {_times(fastest, every[0])}{_losses(fastest)})'


def _times(row: Row, first: Row) -> str:
    return f"{row['step_time_s'] / first['step_time_s']:.2f} times"
