"""Which remedy is best at which skew, and what the remedy costs, in a few sentences.

Model
-----
    candidates    remedies that are no comparison, fit into memory with every seed, and lose at most 0.1 % of the token
                  copies; where every remedy loses more, all that fit
    as fast       candidates whose mean step time is within 1 % of the minimum; or within 5 %, where the interval of the
                  paired differences contains 0 and the step times differ by at most 1 % with some seed
    best          of these, the remedies whose peak memory is within 1 % of the minimum; of these, the remedy that loses
                  the fewest copies; then the first

A token copy is lost where it is dropped, or rerouted to an expert that its token has not chosen. A remedy that loses
copies shortens the step and does less: it is named after the best with its useful tokens/s, which count no lost copy,
and with its loss, whose harm to the model's quality no simulation of time can weigh. Remedies meet the same tokens with
a seed, so paired differences have less noise than the step times. With two or three seeds the interval of a difference
is so wide that it contains 0 next to any difference: noise excuses 5 % at most, and nothing where the remedy is slower
with every seed.

A plan that is made from the popularity that it is tested on is called so, with the step under an outdated plan.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from sim.results.quantities import format_quantity
from sim.studies.stress.grid import LOADS, OUTDATED
from sim.studies.stress.summary import mean_and_interval

__all__ = ["conclusion"]

_MAX_LOST: Final = 0.001
"""Largest share of lost copies of a remedy that counts as keeping all copies."""
_EQUAL: Final = 1.01
"""Largest ratio of two values that count as equal."""
_NOISE: Final = 1.05
"""Largest ratio of two mean step times that the noise of the seeds can explain."""

Row = Mapping[str, Any]


def conclusion(rows: Sequence[Row]) -> list[str]:
    """Return sentences on the rows of `sim.studies.stress.summary`, in the order of the grid."""
    ran = [row for row in rows if row["step_time_s"] is not None and not row["is_comparison"]]
    if not ran:
        return ["No point of the grid could be simulated."]
    if not any(_fits(row) for row in ran):
        return ["No point of the grid fits into memory."]
    if len({row["remedy"] for row in ran}) == 1:
        return _single_remedy(ran)
    best = []
    for skew in dict.fromkeys(row["skew"] for row in ran):
        at_skew = [row for row in ran if row["skew"] == skew]
        best.append(_best([row for row in at_skew if _fits(row)] or at_skew))
    said = _cost_of_skew(ran)
    for _, rows_of_range in groupby(best, key=lambda row: (_fits(row) and row["remedy"], _others_lose(row, ran))):
        said.append(_on_range(list(rows_of_range), ran))
    if _fits(best[-1]):
        said += _on_plan(best[-1], rows, ran[0])
        said += _on_losses(best[-1], ran)
    return said


# ---- private -----------------------------------------------------------------------------------------------------


def _single_remedy(rows: Sequence[Row]) -> list[str]:
    """Return the sentences for a single remedy: what the skew costs."""
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
    return [f"{none}: {step}{times}.", *([f"It does not fit into memory {places}."] if unfit else [])]


def _cost_of_skew(rows: Sequence[Row]) -> list[str]:
    """Return the sentence on what the largest skew costs under the first remedy."""
    first = rows[0]
    mine = [row for row in rows if row["remedy"] == first["remedy"]]
    last = mine[-1]
    if last["skew"] == first["skew"]:
        return []
    what = "The recording makes" if "load" in last else f"Skew {last['skew']:g} makes"
    than = "with the same tokens balanced" if "load" in last else f"at skew {first['skew']:g}"
    return [f'{what} the step {_times(last, first)} as long as {than}, with "{first["remedy"]}".']


def _at(row: Row) -> str:
    """Return the words for the load of a row: its skew, or what a recording is compared with."""
    if "load" not in row:
        return f"at skew {row['skew']:g}"
    return "with the recording" if row["load"] == LOADS[1.0] else "with the same tokens balanced"


def _that_of(first: Row) -> str:
    """Return the words for the step of the first row."""
    return "that of the same tokens balanced" if "load" in first else f"that of skew {first['skew']:g}"


def _fits(row: Row) -> bool:
    """Return whether no seed is known with which the remedy does not fit into memory."""
    return row["fits"] is not False


def _best(rows: Sequence[Row]) -> Row:
    """Return the best remedy of one skew."""
    lossless = [row for row in rows if row["lost_fraction"] <= _MAX_LOST] or list(rows)
    fastest = min(lossless, key=lambda row: float(row["step_time_s"]))
    as_fast = [row for row in lossless if _is_as_fast(row, fastest)]
    min_peak_bytes = min(row["peak_bytes_per_gpu"] for row in as_fast)
    small = [row for row in as_fast if row["peak_bytes_per_gpu"] <= _EQUAL * min_peak_bytes]
    return min(small, key=lambda row: float(row["lost_fraction"]))


def _others_lose(row: Row, every: Sequence[Row]) -> bool:
    """Return whether a remedy keeps all copies, and every other remedy at its skew that fits loses some."""
    others = [other for other in _of_skew(row, every) if _fits(other) and other["remedy"] != row["remedy"]]
    keeps_all = row["lost_fraction"] <= _MAX_LOST
    return bool(others) and keeps_all and all(other["lost_fraction"] > _MAX_LOST for other in others)


def _of_skew(row: Row, every: Sequence[Row]) -> list[Row]:
    return [other for other in every if other["skew"] == row["skew"]]


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


def _on_range(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Return the sentence on a remedy that is best at successive skews."""
    row, first = rows[-1], every[0]
    low, high = rows[0]["skew"], rows[-1]["skew"]
    at = _at(rows[0])
    if low != high:
        at = f"{at} and {_at(row)}" if "load" in row else f"at skew {low:g} to {high:g}"
    at = at[0].upper() + at[1:] if len({other["skew"] for other in every}) > 1 else ""
    if not _fits(row):
        return f"{at} no remedy fits into memory."
    if row["remedy"] == first["remedy"]:
        if _others_lose(row, every):
            return _begun(f'{at} every remedy but "{row["remedy"]}" loses token copies.')
        loses = any(other["lost_fraction"] > _MAX_LOST for each in rows for other in _of_skew(each, every))
        none = "no remedy that keeps all token copies" if loses else "no remedy"
        return _begun(f'{at} {none} is faster than "{row["remedy"]}".')
    where = f"; {_at(row)}" if low != high else ":"
    plain = next((other for other in _of_skew(row, every) if other["remedy"] == first["remedy"]), None)
    if not at:
        words = [f'its step takes {_times(row, first)} as long as with "{first["remedy"]}"']
    else:
        words = [f"its step takes {_times(row, first)} {_that_of(first)}"]
        words += [f'against {_times(plain, first)} with "{plain["remedy"]}"'] if plain is not None else []
    if plain is not None and not _fits(plain):
        words[-1] += ", which does not fit into memory"
    words += [_price(row, plain)] if plain is not None else []
    words += [_losses(row)] if row["lost_fraction"] > _MAX_LOST else []
    return _begun(f'{at} "{row["remedy"]}" is best{where} {", ".join(words)}.')


def _begun(sentence: str) -> str:
    text = sentence.strip()
    return text[0].upper() + text[1:]


def _price(row: Row, plain: Row) -> str:
    """Return the memory of a remedy against that of the first."""
    gained = row["peak_bytes_per_gpu"] - plain["peak_bytes_per_gpu"]
    if not gained:
        return "for as much memory"
    return f"for {format_quantity(abs(gained), 'bytes')} {'more' if gained > 0 else 'less'} memory per GPU"


def _losses(row: Row) -> str:
    """Return the words on copies that are dropped or rerouted."""
    shares = (("dropping", row["dropped_fraction"]), ("rerouting", row["rerouted_fraction"]))
    losses = " and ".join(f"{verb} {100 * share:.1f} %" for verb, share in shares if share > _MAX_LOST)
    return f"{losses} of the token copies"


def _on_plan(row: Row, rows: Sequence[Row], first: Row) -> list[str]:
    """Return the sentence on what the plan of the best remedy is made from, where it knows what it is tested on."""
    if row["plan"] != "own":
        return []
    known = "Its plan is made from the very popularity that it is tested on"
    outdated = [other for other in _of_skew(row, rows) if other["remedy"] == f"{row['remedy']}{OUTDATED}"]
    if not outdated or outdated[0]["step_time_s"] is None:
        return [f"{known}: the best case."]
    of = f'as long as with "{first["remedy"]}"' if row["skew"] == first["skew"] else _that_of(first)
    fit = "" if _fits(outdated[0]) else " and does not fit into memory"
    return [f"{known}; with an outdated plan the step takes {_times(outdated[0], first)} {of}{fit}."]


def _on_losses(row: Row, every: Sequence[Row]) -> list[str]:
    """Return the sentence on the remedy that shortens the step most by losing copies, where the best keeps all."""
    lossy = [other for other in _of_skew(row, every) if _fits(other) and other["lost_fraction"] > _MAX_LOST]
    fastest = min(lossy, key=lambda other: float(other["step_time_s"]), default=row)
    if row["lost_fraction"] > _MAX_LOST or fastest["step_time_s"] * _EQUAL >= row["step_time_s"]:
        return []
    mine, best = (format_quantity(each["useful_tokens_per_s"], "tokens/s") for each in (fastest, row))
    share = f"{100 * (1 - fastest['step_time_s'] / row['step_time_s']):.0f} %"
    useful = f"{mine.removesuffix('tokens/s').strip()} useful tokens/s against {best.removesuffix('tokens/s').strip()}"
    return [f'"{fastest["remedy"]}" takes {share} less time by {_losses(fastest)}: {useful}.']


def _times(row: Row, first: Row) -> str:
    """Return the ratio of two step times in words."""
    return f"{row['step_time_s'] / first['step_time_s']:.2f} times"
