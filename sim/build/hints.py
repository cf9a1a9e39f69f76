"""Hints that lead out: what a hint suggests is tried by the program before it is printed.

An error of a part of the program that knows no scenario carries `remedies`: changes that may remove its refusal. Where
the scenario is known, each change is applied and the scenario is built. Where that meets another refusal, a change that
this one carries is added. Changes that build are named, at most `MOST_NAMED` of them. Where none builds, a change that
at least removes the refusal is named, with the refusal that is met next.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sim.errors import InvalidValueError, MoesimError, Remedy
from sim.scenario.scenario import Scenario

__all__ = ["MOST_NAMED", "MOST_TRIED", "with_tried_hint"]

MOST_NAMED: Final = 4
"""Changes that a hint names."""
MOST_TRIED: Final = 16
"""Changes that are tried, for a refusal has to come soon."""


def with_tried_hint(
    scenario: Scenario, error: InvalidValueError, build: Callable[[Scenario], object]
) -> InvalidValueError:
    """Return an error whose hint names only changes that were tried; an error without remedies as it is.

    Parameters
    ----------
    scenario
        What was refused.
    error
        Why, with its remedies.
    build
        Builds a scenario, and raises what refuses it.
    """
    builds: list[str] = []
    removes: list[tuple[str, InvalidValueError]] = []
    for remedy in error.remedies[:MOST_TRIED]:
        next_error = _try(scenario, remedy.changes, build)
        if next_error is None:
            builds.append(remedy.words)
        elif not _is_same(next_error, error):
            further = _with_further_change(scenario, remedy, next_error, build)
            if further is None:
                removes.append((remedy.words, next_error))
            else:
                builds.append(further)
        if len(builds) == MOST_NAMED:
            break
    lead = error.remedies_lead
    if builds:
        hint = f"{lead} {', '.join(builds)}."
    elif removes:
        words, next_error = removes[0]
        hint = f"{lead} {words}, and then: {next_error.problem}."
    else:
        return error
    return type(error)(error.path or error.field, error.rule, error.value, hint, error.subject, error.file, error.line)


def _with_further_change(
    scenario: Scenario, remedy: Remedy, next_error: InvalidValueError, build: Callable[[Scenario], object]
) -> str | None:
    """Return a change and a further one of the refusal that it meets, which build together, in words."""
    for further in next_error.remedies:
        both = {**remedy.changes, **further.changes}
        if len(both) > len(remedy.changes) and _try(scenario, both, build) is None:
            key, value = next(iter(further.changes.items()))
            return f"{remedy.words} with {key}: {value}"
    return None


def _try(
    scenario: Scenario, changes: Mapping[str, object], build: Callable[[Scenario], object]
) -> InvalidValueError | None:
    """Return what refuses the scenario with a change, None where nothing does."""
    try:
        build(scenario.without_judgement().variant(changes))
    except InvalidValueError as error:
        return error
    except (MoesimError, ArithmeticError):
        return InvalidValueError("the scenario", "be one that can be built", dict(changes))
    return None


def _is_same(one: InvalidValueError, other: InvalidValueError) -> bool:
    """Return whether two refusals are of the same field and by the same rule, whatever numbers the rule has."""
    words = [[word for word in error.rule.split() if word.isalpha()] for error in (one, other)]
    return one.field == other.field and words[0] == words[1]
