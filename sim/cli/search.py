"""`moesim search`: the best strategy for a work, with a certificate, from a scenario or from flags alone."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from ruamel.yaml import YAML

from sim.cli.steps import check_changes, named_path, num_processes, output_file, print_result
from sim.errors import InvalidValueError
from sim.report.console.search import print_search
from sim.report.files import write_whole
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.overrides import parse_override
from sim.scenario.scenario import Scenario
from sim.scenario.yaml_file import parse_yaml_value
from sim.studies.search.branch import Progress
from sim.studies.search.found import Found, search_scenario
from sim.studies.search.launch import FRAMEWORKS, launch_flags
from sim.studies.search.space import AXES, Space
from topology.presets.clusters import get_cluster_preset

__all__ = ["scenario_of_flags", "search_command"]

_FOLLOW = ("parallel.strategy", "parallel.sp", "parallel.exchange", "parallel.dp")
"""Keys that follow from the axes."""
_YAML = (".yaml", ".yml")
_NEEDED = ("--model", "--cluster", "--gpus", "--sequences", "--sequence-length")


def search_command(
    scenario: str | None = None,
    *,
    model: str | None = None,
    cluster: str | None = None,
    gpus: int | None = None,
    training: bool = False,
    sequences: int | None = None,
    sequence_length: int | None = None,
    write: str | None = None,
    fix: Sequence[str] = (),
    over: Sequence[str] = (),
    gap: str | None = None,
    limit: int | None = None,
    objective: str = "step_time",
    output: str | None = None,
    bounds: str | None = None,
    framework: str | None = None,
    changes: Sequence[str] = (),
    seed: int | None = None,
    store: str | None = None,
    as_json: bool,
    jobs: int | None = None,
) -> int:
    """Search and print what was found; return 1 where nothing fits."""
    check_changes(changes, seed)
    if store is not None:
        named_path("--store", store, "--store results.sqlite")
    if framework is not None and framework not in FRAMEWORKS:
        raise InvalidValueError("--as", f"be one of {', '.join(FRAMEWORKS)}", framework, "For example: --as megatron")
    file = None if output is None else output_file(output, _YAML)
    bounds_file = None if bounds is None else output_file(bounds, (".json",))
    to_write = None if write is None else output_file(write, _YAML)
    flags = {"--model": model, "--cluster": cluster, "--gpus": gpus}
    flags |= {"--sequences": sequences, "--sequence-length": sequence_length}
    loaded = _loaded(scenario, flags, training=training, changes=changes, seed=seed)
    if to_write is not None:
        _write_yaml(loaded.raw, to_write)
    loaded = _with_section(loaded, fix, over, gap, limit)
    with _progress(as_json) as (on_space, on_progress):
        found = search_scenario(
            loaded,
            objective=objective,
            jobs=num_processes(jobs),
            store=store,
            on_space=on_space,
            on_progress=on_progress,
        )
    best = found.searched.best
    data = {**found.to_dict(), "assumptions": _assumptions(found), "flags": _launch_flags(found, framework)}
    data["written"] = _write(found, strategy=file, bounds=bounds_file, scenario=to_write)
    print_result(data, print_search, as_json=as_json)
    return 0 if best is not None else 1


def scenario_of_flags(flags: Mapping[str, Any], *, training: bool) -> dict[str, Any]:
    """Return the scenario that flags stand for, as YAML has it.

    Raises
    ------
    InvalidValueError
        A flag is missing, or the GPUs are no whole number of nodes.
    """
    missing = [flag for flag in _NEEDED if flags.get(flag) is None]
    if missing:
        rule, hint = "be given without a scenario", f"Name a scenario, or give all of {', '.join(_NEEDED)}."
        raise InvalidValueError(missing[0], rule, "nothing", hint)
    gpus, preset = int(flags["--gpus"]), get_cluster_preset(str(flags["--cluster"]))
    per_node = preset.fabric.gpus_per_node
    if gpus % per_node and gpus > per_node:
        hint = f"Take {gpus // per_node * per_node} or {-(-gpus // per_node) * per_node}."
        raise InvalidValueError("--gpus", f"be a multiple of the {per_node} GPUs of a node", gpus, hint)
    nodes: dict[str, Any] = {"preset": flags["--cluster"], "num_nodes": max(1, gpus // per_node)}
    if gpus < per_node:
        nodes["gpus_per_node_used"] = gpus
    workload = {
        "kind": "training" if training else "forward",
        "sequences": int(flags["--sequences"]),
        "sequence_length": int(flags["--sequence-length"]),
        "microbatches": 1,
    }
    return {
        "name": f"{flags['--model']} on {gpus} GPUs of {flags['--cluster']}",
        "cluster": nodes,
        "model": {"preset": flags["--model"]},
        "parallel": {"strategy": f"TP1_DP{gpus}", "convention": "megatron"},
        "workload": workload,
    }


def _launch_flags(found: Found, framework: str | None) -> str | None:
    """Return the best strategy as launch flags; None where nothing fits or no framework is named."""
    best = found.searched.best
    if best is None or framework is None:
        return None
    workload = found.searched.space.scenario_of(best.candidate).spec.workload
    sequences, length = getattr(workload, "sequences", 0), getattr(workload, "sequence_length", 0)
    return launch_flags(best.candidate, framework, sequences=sequences, sequence_length=length)


def _write(found: Found, *, strategy: Path | None, bounds: Path | None, scenario: Path | None) -> dict[str, str]:
    """Write the files that were named, and return them by what they are."""
    best, written = found.searched.best, dict[str, str]()
    if best is not None and strategy is not None:
        _write_yaml(found.searched.space.scenario_of(best.candidate).raw, strategy)
        written["the best strategy, a scenario"] = str(strategy)
    if bounds is not None:
        text = json.dumps(found.bounds(), indent=0)
        write_whole(bounds, lambda target: target.write_text(text, encoding="utf-8"))
        written["bounds of all strategies"] = str(bounds)
    if scenario is not None:
        written["what the flags stand for"] = str(scenario)
    return written


# ---- private -----------------------------------------------------------------------------------------------------


def _loaded(
    scenario: str | None, flags: Mapping[str, Any], *, training: bool, changes: Sequence[str], seed: int | None
) -> Scenario:
    """Return the scenario of a file, or of flags."""
    given = [flag for flag, value in flags.items() if value is not None]
    if scenario is not None:
        if given or training:
            flag = given[0] if given else "--training"
            hint = "Change keys of a scenario with --set, or leave the scenario out."
            raise InvalidValueError(flag, "be left out with a scenario", scenario, hint)
        return load_scenario(scenario, overrides=changes, seed=seed)
    if not given and not training:
        hint = f"For example: moesim search ep64_tp16_pp4, or moesim search {' ... '.join(_NEEDED)} ..."
        raise InvalidValueError("SCENARIO", "be given, or flags in its place", "nothing", hint)
    text = _yaml_text(scenario_of_flags(flags, training=training))
    loaded = load_scenario_text(text, overrides=changes)
    return loaded if seed is None else loaded.variant({"seed": seed})


def _with_section(
    scenario: Scenario, fix: Sequence[str], over: Sequence[str], gap: str | None, limit: int | None
) -> Scenario:
    """Return the scenario whose section `search:` has what the options say as well."""
    section: dict[str, Any] = dict(scenario.raw.get("search") or {})
    for name, arguments in (("fix", fix), ("over", over)):
        found: dict[str, Any] = {}
        for argument in arguments:
            key, value = _key_and_value(name, argument)
            if key in found:
                raise InvalidValueError(f"--{name}", f"name {key} once", argument, "Join the values.")
            found[key] = value
        if found:
            section[name] = {**section.get(name, {}), **found}
    if gap is not None:
        section["gap"] = parse_yaml_value(gap)
    if limit is not None:
        section["limit"] = limit
    return scenario.variant({"search": section}) if section else scenario


def _key_and_value(option: str, argument: str) -> tuple[str, Any]:
    """Return the key of an option and its value, of `--over` a list."""
    try:
        key, value = parse_override(argument)
        if option == "over" and not isinstance(value, list):
            value = [parse_override(f"{key}={text}")[1] for text in str(value).split(",")]
    except InvalidValueError as error:
        hint = "For example: --fix parallel.pp=4" if option == "fix" else "For example: --over parallel.tp=1,2"
        raise InvalidValueError(f"--{option}", error.rule, argument, hint) from None
    return key, value


def _assumptions(found: Found) -> list[dict[str, Any]]:
    """Return what the best strategy rests on that nobody has given."""
    best = found.searched.best
    if best is None:
        return []
    from sim.build.build import build  # noqa: PLC0415  # only where there is a best

    built, chosen = build(found.searched.space.scenario_of(best.candidate)), {*AXES, *_FOLLOW}
    return [assumption._asdict() for assumption in built.assumptions if assumption.key not in chosen]


def _yaml_text(data: Mapping[str, Any]) -> str:
    stream = StringIO()
    writer = YAML(typ="safe")
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keys keep their order
    writer.dump(dict(data), stream)
    return stream.getvalue()


def _write_yaml(data: Mapping[str, Any], path: Path) -> None:
    text = _yaml_text(data)
    write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


@contextmanager
def _progress(as_json: bool) -> Iterator[tuple[Callable[[Space], None], Callable[[Progress], None]]]:
    """Print the size of the space before it runs, and how far the search is, on standard error."""
    console = Console(stderr=True)
    began = time.monotonic()

    def on_space(space: Space) -> None:
        if not as_json:
            families = len({one.kind for one in space.candidates})
            console.print(f"{len(space.candidates):,} strategies, {families:,} of different sizes", highlight=False)

    def on_progress(progress: Progress) -> None:
        if console.is_terminal:
            best = "nothing fits yet" if progress.best_s is None else f"best {progress.best_s:.4g} s"
            bound = f"nothing below {progress.bound_s:.4g} s"
            passed = time.monotonic() - began
            console.print(
                f"\r{progress.simulated:,} simulated, {best}, {bound}, {passed:.0f} s", end="", highlight=False
            )

    yield on_space, on_progress
    if console.is_terminal:
        console.print()
