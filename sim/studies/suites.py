"""Which validation cases are meant: bundled suites and cases by name, a user's own files and folders.

A case is a scenario with `published` figures; a suite is a folder of them. In a folder, files without `published` (a
cluster's file, an ordinary scenario) are no cases and are named as skipped. `suite.yaml` may include cases of other
folders, and name cases that run only where they are meant by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim.errors import InvalidValueError, did_you_mean, shown
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.scenario_files import SUITE_FILE, list_cases, list_suites, suites_folder
from sim.scenario.suite_file import SuiteSpec, load_suite
from sim.scenario.yaml_file import read_yaml_file

__all__ = ["Case", "Suite", "find_suites", "is_fitted", "system_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scenario with published figures."""

    name: str
    """The file's name without suffix."""
    scenario: Scenario
    """What is simulated, and what was published of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Cases that are summarised together."""

    name: str
    """The folder's name."""
    spec: SuiteSpec
    """Title, fitted constants, errors of tables that were left out of the fit."""
    cases: tuple[Case, ...]
    """In the order of their names."""
    skipped: tuple[str, ...] = ()
    """Files of the folder that are no cases."""
    by_name: tuple[str, ...] = ()
    """Cases that were not named and run by name alone."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Files of one folder that a target means."""

    name: str
    folder: Path
    files: tuple[Path, ...]
    is_named_by_file: bool = False
    is_named: bool = True


def find_suites(targets: Sequence[str] = ()) -> list[Suite]:
    """Return the suites that names and paths mean; all bundled ones where there are none.

    A folder whose subfolders hold cases is as many suites. A path is looked up as given, then as a bundled suite's or
    case's name.

    Raises
    ------
    InvalidValueError
        There is no such suite, case, file or folder, a folder holds no case, or a case is refused.
    """
    found = (
        [folder for target in targets for folder in _find(target)]
        if targets
        else [replace(folder, is_named=False) for folder in _bundled_suites()]
    )
    by_folder: dict[Path, _Found] = {}
    for folder in found:
        path = folder.folder.resolve()
        by_folder[path] = _joined(by_folder[path], folder) if path in by_folder else folder
    suites = [_load(folder) for folder in by_folder.values()]
    return _with_names_of_their_own(suites, [folder.folder for folder in by_folder.values()])


def _joined(first: "_Found", second: "_Found") -> "_Found":
    """Return the files of one folder that two targets mean, together."""
    files = tuple(dict.fromkeys((*first.files, *second.files)))
    return replace(second, files=files, is_named_by_file=first.is_named_by_file and second.is_named_by_file)


def system_of(case: Case, position: int) -> str:
    """Return the group that a published figure of a case is summarised in."""
    spec = case.scenario.spec
    preset = None if spec.cluster is None else spec.cluster.preset
    return spec.published[position].system or preset or spec.name or case.name


def is_fitted(suite: Suite, case: Case, position: int) -> bool:
    """Tell whether a suite says that constants may be fitted to a figure of a case."""
    return any(_is_chosen(selector, case, position) for selector in suite.spec.fitted.get(case.name, ()))


def _is_chosen(selector: Mapping[str, Any], case: Case, position: int) -> bool:
    """Tell whether a figure has all values of a selector, in its own `set` or else in the scenario."""
    figure = case.scenario.spec.published[position]
    facts = {"name": figure.name, "system": figure.system, **(figure.set or {})}
    values = ((facts[key] if key in facts else _raw_value(case, key), wanted) for key, wanted in selector.items())
    return all(value in (wanted if isinstance(wanted, list) else [wanted]) for value, wanted in values)


def _raw_value(case: Case, key: str) -> object:
    """Return what the file of a case gives for a dotted key; None where it gives nothing."""
    node: object = case.scenario.raw
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _bundled_suites() -> list[_Found]:
    """Return all bundled suites."""
    return [_Found(name, suites_folder() / name, _files(suites_folder() / name)) for name in list_suites()]


def _find(target: str) -> list[_Found]:
    """Return the folders, with files in them, that one argument means."""
    path = Path(target)
    if target and _exists(path, "file"):
        return [_Found(_name_of(path.parent), path.parent, (path,), is_named_by_file=True)]
    if target and _exists(path, "folder") and (below := _below(path)):
        return below
    wanted = target.removesuffix("/").removesuffix(".yaml").removeprefix("validation/")
    if wanted in list_suites():
        return [suite for suite in _bundled_suites() if suite.name == wanted]
    cases = [case for case in list_cases() if case == wanted or case.partition("/")[2] == wanted]
    if len(cases) == 1:
        file = suites_folder() / f"{cases[0]}.yaml"
        return [_Found(file.parent.name, file.parent, (file,), is_named_by_file=True)]
    if target and _exists(path, "folder"):
        hint = "Put scenarios with `published:` in it, as *.yaml."
        raise InvalidValueError(field="the folder", rule="hold validation cases", value="none", hint=hint, file=target)
    if included := _included(wanted):
        return [included]
    known = [*list_suites(), "kernels", *list_cases()]
    hint = did_you_mean(target, known) if known else "Check the path."
    rule = "be a file, a folder, or a bundled suite or case"
    raise InvalidValueError(field="the validation case", rule=rule, value=shown(target), hint=hint, file=target or None)


def _included(wanted: str) -> _Found | None:
    """Return the case, named as `ranking/vtrain_multi`, that a bundled suite includes from another."""
    suite, _, name = wanted.partition("/")
    if not name or suite not in list_suites():
        return None
    folder = suites_folder() / suite
    files = tuple(folder / file for file in load_suite(folder, None).include if Path(file).stem == name)
    return _Found(suite, folder, files, is_named_by_file=True) if files else None


def _exists(path: Path, what: str) -> bool:
    """Return whether there is a file or folder at a path."""
    try:
        return path.is_dir() if what == "folder" else path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _below(folder: Path) -> list[_Found]:
    """Return a folder and its subfolders, those that hold YAML files."""
    found = [_Found(_name_of(folder), folder, _files(folder))]
    found += [
        _Found(f"{_name_of(folder)}/{sub.name}", sub, _files(sub)) for sub in sorted(folder.iterdir()) if sub.is_dir()
    ]
    return [folder for folder in found if any(_has_figures(file) for file in folder.files)]


def _has_figures(file: Path) -> bool:
    """Tell whether a file lists published figures, or names a table of them."""
    data = read_yaml_file(file).data
    return bool(data.get("published") or data.get("published_table"))


def _files(folder: Path) -> tuple[Path, ...]:
    """Return the YAML files of a folder that may be cases."""
    files = (file for file in folder.iterdir() if file.suffix in {".yaml", ".yml"} and file.is_file())
    return tuple(sorted(file for file in files if file.name != SUITE_FILE))


def _name_of(folder: Path) -> str:
    """Return the name of a folder, also of `.`."""
    return folder.resolve().name or "/"


def _load(found: _Found) -> Suite:
    """Return the suite of some files of a folder, with the cases of other folders that it includes."""
    # A part of a suite has not all its tables.
    spec = load_suite(found.folder, None)
    included = () if found.is_named_by_file else tuple(found.folder / name for name in spec.include)
    left_aside = () if found.is_named else spec.by_name
    cases, skipped = [], []
    for file in (*found.files, *included):
        if file.stem in left_aside:
            continue
        if file.exists() and not _has_figures(file):
            if found.is_named_by_file:
                hint = "Add figures, such as - {metric: mfu, value: 0.4, source: table 2, tolerance_pct: 10}."
                raise InvalidValueError(field="published", rule="be given", value="nothing", hint=hint, file=str(file))
            skipped.append(file.name)
            continue
        cases.append(Case(name=file.stem, scenario=load_scenario(file)))
    systems = {system_of(case, i) for case in cases for i in range(len(case.scenario.spec.published))}
    names = frozenset(systems | {case.name for case in cases} | set(left_aside))
    spec = load_suite(found.folder, None if found.is_named_by_file else names)
    _check_fitted(spec, cases)
    return Suite(name=found.name, spec=spec, cases=tuple(cases), skipped=tuple(skipped), by_name=tuple(left_aside))


def _check_fitted(spec: SuiteSpec, cases: Sequence[Case]) -> None:
    """Refuse a choice of fitted figures that chooses none."""
    for case in cases:
        for i, selector in enumerate(spec.fitted.get(case.name, ())):
            if not any(_is_chosen(selector, case, j) for j in range(len(case.scenario.spec.published))):
                hint = "Write values that stand in the table, as the table writes them."
                field = f"fitted.{case.name}.{i} of {SUITE_FILE}"
                raise InvalidValueError(field=field, rule="choose a figure", value=shown(str(selector)), hint=hint)


def _with_names_of_their_own(suites: list[Suite], folders: list[Path]) -> list[Suite]:
    """Return the suites, one whose name another has already under the path of its folder."""
    names: set[str] = set()
    named = []
    for suite, folder in zip(suites, folders, strict=True):
        name = str(folder) if suite.name in names else suite.name
        names.add(name)
        named.append(replace(suite, name=name))
    return named
