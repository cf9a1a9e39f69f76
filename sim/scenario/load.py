"""Reading a scenario: file, overrides, validation, and the same for each of its alternatives and rivals.

An argument applies to the scenario and to all of its alternatives and rivals. An alternative that the file allows and
the argument does not (`schedule.kind: gpipe` under `--set parallel.vpp=2`) is no mistake of the user's, who wants the
scenario changed: it is left out, with a warning that names it. What is wrong in the file itself, or in an argument that
sets the alternative, is refused as ever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sim.errors import InvalidValueError, KeyPath, did_you_mean, shown
from sim.scenario.document import read_document, stands_in
from sim.scenario.overrides import apply_overrides, parse_override
from sim.scenario.places import Places, key_path
from sim.scenario.published_table import read_table
from sim.scenario.scenario import Scenario
from sim.scenario.scenario_files import find_bundled, list_bundled, near_file
from sim.scenario.yaml_file import YamlDocument, parse_yaml, read_yaml_file

__all__ = ["load_scenario", "load_scenario_text"]

_Variant = Callable[[Scenario, int], object]
_KINDS: Final[dict[str, _Variant]] = {
    "alternatives": lambda scenario, position: scenario.alternative(position),
    "rivals": lambda scenario, position: scenario.rival(position),
    "published": lambda scenario, position: scenario.case(position),
}

_KEPT_KEYS: Final = ("capacity_factor", "overflow", "max_nodes_per_token")
"""Keys of `routing` that mean something to a recording."""


def load_scenario(
    path_or_name: Path | str, *, overrides: Sequence[str] = (), seed: int | None = None, trace: Path | None = None
) -> Scenario:
    """Return the scenario of a file, or of a bundled scenario's name.

    Parameters
    ----------
    path_or_name
        A path, looked up as given; if there is no such file, the name of a bundled scenario.
    overrides
        Changes as `--set` takes them, such as `model.top_k=1`, checked like the file.
    seed
        Replaces the scenario's seed.
    trace
        Recording of routing that replaces the scenario's routing, wherever it is.

    Raises
    ------
    InvalidValueError
        There is no such scenario, or a value in the file or an override is refused.
    """
    path = _find(path_or_name)
    return _load(read_yaml_file(path), str(path), overrides, seed, trace)


def load_scenario_text(text: str, *, file: str | None = None, overrides: Sequence[str] = ()) -> Scenario:
    """Return the scenario of a text, whose errors name `file`.

    Raises
    ------
    InvalidValueError
        A value in the text or an override is refused.

    Examples
    --------
    >>> from sim.scenario.scenario_files import STARTER
    >>> load_scenario_text(STARTER, overrides=["model.top_k=1"]).spec.model.top_k
    1
    """
    return _load(parse_yaml(text, file=file), file, overrides)


def _find(path_or_name: Path | str) -> Path:
    """Return the file that a path or a bundled scenario's name means."""
    path, name = _expanded(Path(path_or_name)), str(path_or_name)
    exists, is_folder = _look(path)
    if exists and not is_folder:
        return path
    bundled = find_bundled(name)
    if bundled is not None:
        return bundled
    if is_folder and name:
        return path
    hint = near_file(path) or (did_you_mean(name, list_bundled()) if list_bundled() else "Check the path.")
    raise InvalidValueError(
        field="the scenario", rule="be a file or a bundled scenario", value=shown(name), hint=hint, file=name or None
    )


def _expanded(path: Path) -> Path:
    """Return a path with a `~` at its start replaced, which a shell leaves where it stands in quotes."""
    try:
        return path if _look(path)[0] else path.expanduser()
    except RuntimeError:  # nobody of that name
        return path


def _look(path: Path) -> tuple[bool, bool]:
    """Return whether there is something at a path, and whether it is a folder."""
    try:
        return path.exists(), path.is_dir()
    except (OSError, ValueError):
        return False, False


def _load(
    document: YamlDocument,
    file: str | None,
    overrides: Sequence[str],
    seed: int | None = None,
    trace: Path | None = None,
) -> Scenario:
    """Return the scenario of a document with overrides, its variants checked, without those that overrides break."""
    raw: dict[str, Any] = document.data
    set_paths: list[tuple[KeyPath, str | None]] = []
    changes: dict[str, object] = {}
    if trace is not None:
        raw = _with_trace(raw, trace)
        set_paths += [(("routing", key), f"--trace {shown(str(trace))}") for key in ("kind", "file")]
    for argument in overrides:
        key, value = parse_override(argument)
        try:
            raw = apply_overrides(raw, {key: value})
        except InvalidValueError as error:
            raise error.at(file=f"--set {shown(argument)}") from None
        set_paths.append((key_path(key), f"--set {shown(argument)}"))
        changes[key] = value
    if seed is not None:
        raw = {**raw, "seed": seed}
        set_paths.append((("seed",), None))
    named = [
        changes.get(key) for key in ("profile", "document")
    ]  # one that is not here may be in the scenario's folder
    given = frozenset(file for file in named if isinstance(file, str) and _look(Path(file))[0])
    given |= frozenset([] if trace is None else [str(trace)])
    places = Places(file=file, lines=document.lines, overrides=tuple(set_paths), given_files=given)
    scenario = _with_table(Scenario.validated(raw, places, changes=changes))
    _check_quotes(scenario)
    if not overrides and trace is None:
        scenario.check_variants()
        return scenario
    listed = {"published": scenario.raw["published"]} if scenario.places.table else {}
    return _leave_out_impossible(scenario, {**document.data, **listed})


def _check_quotes(scenario: Scenario) -> None:
    """Refuse a claim whose words do not stand in the scenario's document, unless the claim is a paraphrase."""
    spec = scenario.spec
    if spec.document is None:
        return
    path = scenario.file_beside("document", spec.document)
    words = read_document(path)
    for i, claim in enumerate(spec.claims):
        if not claim.paraphrase and not stands_in(claim.says, words):
            rule = f"stand in {shown(spec.document)} word for word"
            hint = "Quote fewer words, or add paraphrase: true."
            raise scenario.located(InvalidValueError(("claims", i, "says"), rule=rule, value=claim.says, hint=hint))


def _with_table(scenario: Scenario) -> Scenario:
    """Return a scenario with the figures of its table after those that it lists."""
    spec = scenario.spec.published_table
    if spec is None:
        return scenario
    path = scenario.file_beside("published_table.file", spec.file)
    rows, lines = read_table(path, spec)
    listed = scenario.raw.get("published") or []
    places = replace(scenario.places, table={len(listed) + i: (str(path), line) for i, line in enumerate(lines)})
    return Scenario.validated({**scenario.raw, "published": [*listed, *rows]}, places)


def _with_trace(raw: dict[str, Any], trace: Path) -> dict[str, Any]:
    """Return raw data whose routing replays a recording; capacities and limits of nodes stay."""
    routing = raw.get("routing")
    kept = {key: routing[key] for key in _KEPT_KEYS if key in routing} if isinstance(routing, dict) else {}
    assumed = raw.get("assumed")
    others = (
        {key: why for key, why in assumed.items() if not key.startswith("routing.")}
        if isinstance(assumed, dict)
        else assumed
    )
    changed = {**raw, "routing": {**kept, "kind": "trace", "file": str(trace)}}
    return changed | {"assumed": others} if "assumed" in raw else changed


# ---- alternatives and rivals that arguments make impossible ---------------------------------------------------------


def _leave_out_impossible(scenario: Scenario, file_data: Mapping[str, Any]) -> Scenario:
    """Return a scenario with arguments applied, without the variants that these alone make impossible.

    Parameters
    ----------
    scenario
        The scenario as it is with the arguments.
    file_data
        The plain data of its file, without them.

    Raises
    ------
    InvalidValueError
        A variant is refused that the file itself does not allow, or that an argument sets.
    """
    bare = scenario.without_judgement()
    raw, lines, warnings = dict(scenario.raw), scenario.places.lines, list[str]()
    for kind, variant in _KINDS.items():
        listed = raw.get(kind) or []
        refused = {i: error for i in range(len(listed)) if (error := _refusal(bare, variant, i)) is not None}
        for position, error in refused.items():
            is_set = any(path[:1] == (kind,) for path, _ in scenario.places.overrides)
            if is_set or not _allows(file_data, variant, position):
                raise error
            warnings += [] if kind == "published" else [_warning(kind, position, listed[position], error)]
        raw[kind] = [variant_ for i, variant_ in enumerate(listed) if i not in refused]
        lines = _renumbered(lines, kind, sorted(refused))
    if all(raw[kind] == (scenario.raw.get(kind) or []) for kind in _KINDS):
        return scenario
    places = replace(scenario.places, lines=lines)
    return replace(Scenario.validated(raw, places), left_out=tuple(warnings))


def _refusal(scenario: Scenario, variant: _Variant, position: int) -> InvalidValueError | None:
    try:
        variant(scenario, position)
    except InvalidValueError as error:
        return error
    return None


def _allows(data: Mapping[str, Any], variant: _Variant, position: int) -> bool:
    """Tell whether a file's own data allows a variant."""
    try:
        return _refusal(Scenario.validated(data, Places()).without_judgement(), variant, position) is None
    except InvalidValueError:
        return False


def _warning(kind: str, position: int, given: object, error: InvalidValueError) -> str:
    """Return the warning that names a variant and the rule that the variant breaks."""
    name = ", ".join(f"{key}: {shown(value)}" for key, value in given.items()) if isinstance(given, dict) else given
    key = error.field.partition("(")[2].rstrip(")") or error.field
    line = f" (line {error.line})" if error.line else ""
    return (
        f"{kind}.{position} {{{name}}}{line} is left out, for it cannot be under what the arguments give: {key} must "
        f"{error.rule}, got {error.value}. {error.hint}"
    )


def _renumbered(lines: Mapping[KeyPath, int], kind: str, removed: Sequence[int]) -> Mapping[KeyPath, int]:
    """Return the lines without the lines of removed items; items after a removed item move up by one position."""
    if not removed:
        return lines
    moved: dict[KeyPath, int] = {}
    for path, line in lines.items():
        position = path[1] if len(path) > 1 and path[0] == kind else None
        if not isinstance(position, int):
            moved[path] = line
        elif position not in removed:
            moved[(kind, position - sum(other < position for other in removed), *path[2:])] = line
    return moved
