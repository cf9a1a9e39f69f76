"""`moesim run` and `moesim validate`: simulate, judge or compare with published figures, print, write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.cli.steps import (
    check_changes,
    num_processes,
    output_folder,
    print_result,
    say_long_run,
    show_progress,
    trace_file,
)
from sim.errors import InvalidValueError
from sim.report.console.run import print_report
from sim.report.console.validation import print_validation
from sim.report.files import OUTPUT_NAMES, VALIDATION_NAMES, write_outputs, write_validation
from sim.run.resources import Limits
from sim.run.result import Result
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.units import parse_quantity
from sim.studies.claims import simulate

__all__ = ["run_command", "validate_command"]


def run_command(
    scenario: str,
    *,
    changes: Sequence[str] = (),
    trace: str | None = None,
    seed: int | None = None,
    as_json: bool,
    out: str | None = None,
    check: bool,
    jobs: int | None = None,
    max_events: int | None = None,
    max_memory: str | None = None,
    uncertainty: bool = False,
    samples: int | None = None,
    verbose: bool = False,
    thorough: bool = False,
    search: int | None = None,
) -> int:
    """Run a scenario and return the exit code."""
    if samples is not None and not uncertainty:
        raise InvalidValueError("--samples", "be given with --uncertainty", samples, "Add --uncertainty.")
    check_changes(changes, seed, trace)
    folder = output_folder(out, OUTPUT_NAMES)
    limits = Limits(max_events=max_events, max_memory_bytes=None if max_memory is None else _bytes(max_memory))
    loaded = load_scenario(scenario, overrides=changes, seed=seed, trace=trace_file(trace))
    loaded, found = _with_search(loaded, search, jobs=num_processes(jobs), limits=limits)
    with show_progress() as on_progress:
        result = simulate(
            loaded,
            jobs=num_processes(jobs),
            limits=limits,
            pairs=folder is not None,
            thorough=thorough,
            on_progress=on_progress,
            on_long_run=say_long_run,
        )
        if uncertainty:
            from sim.studies.uncertainty import DEFAULT_SAMPLES, with_uncertainty  # noqa: PLC0415  # most runs draw nothing

            result = with_uncertainty(
                result,
                num_samples=samples or DEFAULT_SAMPLES,
                jobs=num_processes(jobs),
                limits=limits,
                on_progress=on_progress,
            )
    data = result.to_dict() | found
    written = {}
    if folder is not None:
        written = _write(result, data, folder, {"scenario": scenario, "changes": changes, "trace": trace, "seed": seed})
    simulated = result.simulated
    print_result(
        data,
        print_report,
        as_json=as_json,
        written=written,
        num_nodes=simulated.num_nodes,
        why_not_compiled=simulated.run.stats.why_not_compiled,
        verbose=verbose,
    )
    return 1 if check and (result.has_failed_claims or result.is_unfit) else 0


def validate_command(
    targets: Sequence[str] = (),
    *,
    as_json: bool,
    out: str | None = None,
    jobs: int | None = None,
    worst: int | None = None,
) -> int:
    """Compare validation cases with published figures, and return the exit code."""
    from sim.studies.validate import validate  # noqa: PLC0415  # `moesim run` does without

    folder = output_folder(out, VALIDATION_NAMES)
    with show_progress() as on_progress:
        validation = validate(targets, jobs=num_processes(jobs), on_progress=on_progress)
    data = validation.to_dict(num_worst=worst or 0)
    written = {} if folder is None else write_validation(data, folder)
    print_result(data, print_validation, as_json=as_json, written=written)
    return 1 if validation.has_failed else 0


def _write(result: Result, data: dict[str, Any], folder: Path, given: dict[str, Any]) -> dict[str, str]:
    """Write the files of a result and the command that it is of (`given`), and return them by what they are."""
    if result.simulated.steps is not None:
        from sim.report.serving_files import write_serving  # noqa: PLC0415  # only what is written is imported

        return write_serving(data, result.simulated.steps, folder)
    from sim.cli.report import command_of, run_details  # noqa: PLC0415  # only what is written is imported

    details = run_details(result, command_of(**given))
    return write_outputs(details, data, folder, pairs=result.simulated.pairs)


def _with_search(loaded: Scenario, limit: int | None, *, jobs: int, limits: Limits) -> tuple[Scenario, dict[str, Any]]:
    """Return the scenario with its best strategy as a rival, and `search` of the JSON, if one is wanted."""
    if limit is None and loaded.spec.search is None:
        return loaded, {}
    from sim.studies.search.found import with_best_as_rival  # noqa: PLC0415  # most runs search nothing

    loaded, found = with_best_as_rival(loaded, limit=limit, jobs=jobs, limits=limits)
    return loaded, {"search": found.to_dict()}


def _bytes(text: str) -> float:
    try:
        return parse_quantity(text, "bytes")
    except InvalidValueError as error:
        raise InvalidValueError(field="--max-memory", rule=error.rule, value=error.value, hint=error.hint) from None
