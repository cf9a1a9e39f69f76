"""Changes to a scenario's raw data by dotted keys: `--set`, alternatives and rivals.

The data is changed and then validated like a file, so that a change can do nothing a file cannot.
"""

import copy
from collections.abc import Mapping
from typing import Any, Final

from sim.errors import InvalidValueError, KeyPath, dotted, shown
from sim.scenario.parallel_section import AXES
from sim.scenario.places import key_path, path_of
from sim.scenario.problems import unknown_key_hint, valid_keys
from sim.scenario.yaml_file import parse_yaml_value
from workloads.conventions import CONVENTIONS

__all__ = ["apply_overrides", "apply_variant", "explain_replaced", "parse_override"]

STRATEGY: Final = "parallel.strategy"
"""The key whose change, in an alternative or a rival, voids the axes that are given one by one."""
CONVENTION: Final = "parallel.convention"
"""The key whose change to a convention without `parallel.exchange` voids that key."""


def apply_overrides(data: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of raw scenario data with dotted keys set to new values; nothing is validated but the keys.

    What no key is in is shared with `data`, and not copied.

    Raises
    ------
    InvalidValueError
        A key does not exist, or a list has no such position.

    Examples
    --------
    >>> apply_overrides({"cluster": {"device": "h100-sxm"}}, {"cluster.device.memory": "64 GB"})
    {'cluster': {'device': {'preset': 'h100-sxm', 'memory': '64 GB'}}}
    """
    changed: dict[str, Any] = dict(data)
    for key, value in changes.items():
        _set(changed, key_path(key), copy.deepcopy(value))
    return changed


def apply_variant(data: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Return what `apply_overrides` does, without what means nothing after a change of strategy or convention.

    A strategy that is replaced takes its axes, its layout and its stage layers along, and the spanning convention takes
    its kind of exchange.

    Examples
    --------
    >>> apply_variant({"parallel": {"tp": 8, "sp": True}}, {"parallel.strategy": "TP4_PP2"})
    {'parallel': {'sp': True, 'strategy': 'TP4_PP2'}}
    """
    parallel, void = data.get("parallel"), set[str]()
    if STRATEGY in changes:
        void |= {*AXES, "layout", "stage_layers"}
    if CONVENTION in changes and not _experts_span_stages(changes[CONVENTION]):
        void.add("exchange")
    if void and isinstance(parallel, dict):
        data = {**data, "parallel": {key: value for key, value in parallel.items() if key not in void}}
    return apply_overrides(data, changes)


def _experts_span_stages(name: object) -> bool:
    """Tell whether a name, which may be no convention's, is that of a convention with `parallel.exchange`."""
    rules = CONVENTIONS.get(name) if isinstance(name, str) else None
    return rules is not None and rules.experts_span_stages


def parse_override(argument: str) -> tuple[str, object]:
    """Return key and value of one `KEY=VALUE`, the value in its YAML form.

    Raises
    ------
    InvalidValueError
        There is no `=`, no key, or the value is no YAML.

    Examples
    --------
    >>> parse_override("parallel.stage_layers=[4, 4]")
    ('parallel.stage_layers', [4, 4])
    """
    key, equals, text = argument.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        hint = "Write for example --set model.top_k=1."
        raise InvalidValueError(field="--set", rule="be KEY=VALUE with a dotted key", value=shown(argument), hint=hint)
    try:
        return key, parse_yaml_value(text)
    except InvalidValueError as error:
        field = key if error.field == "the file" else f"{key}.{error.field}"
        hint = error.hint
        if error.rule == "be valid YAML":
            hint = "Check its brackets, and put texts with special characters in double quotes inside single ones."
        raise InvalidValueError(
            field=field, rule=error.rule, value=error.value, hint=hint, file=f"--set {shown(argument)}"
        ) from None


def explain_replaced(
    refusal: InvalidValueError, changes: Mapping[str, object], *, is_argument: bool = False
) -> InvalidValueError:
    """Return the refusal of a key that is missing; where a change replaced all of its section, with that as the hint.

    `is_argument`: the changes are arguments of `--set`; otherwise they stand in an alternative or a rival.

    Examples
    --------
    >>> missing = InvalidValueError(field=("model", "layers"), rule="be given", value="nothing", hint="Add it.")
    >>> print(explain_replaced(missing, {"model": {"top_k": 1}}))
    model.layers must be given, got nothing. What is given for model replaces all of it: write {model.top_k: 1} to ...
    """
    for key, value in changes.items():
        path = key_path(key)
        if refusal.value == "nothing" and isinstance(value, dict) and path == path_of(refusal)[: len(path)]:
            inner = next(((k, v) for k, v in value.items() if not isinstance(v, (dict, list))), ("KEY", "VALUE"))
            name, written = dotted((*path, inner[0])), shown(inner[1])
            example = f"--set {name}={written}" if is_argument else f"{{{name}: {written}}}"
            hint = f"What is given for {dotted(path)} replaces all of it: write {example} to change one key."
            return InvalidValueError(path_of(refusal), refusal.rule, refusal.value, hint)
    return refusal


def _set(data: dict[str, Any], path: KeyPath, value: object) -> None:
    """Set a value, in copies of the sections around the value, which are made where they are missing."""
    node: Any = data
    for depth in range(len(path) - 1):
        node = _entered(node, path, depth, data)
    _check_step(node, path, len(path) - 1, data)
    node[path[-1]] = value


def _entered(node: Any, path: KeyPath, depth: int, data: dict[str, Any]) -> Any:  # noqa: ANN401 - raw data is untyped
    """Return the section or list below a node, made if it is not there."""
    part = path[depth]
    _check_step(node, path, depth, data)
    present = isinstance(node, list) or part in node
    child: Any = node[part] if present else None
    if child is None:
        child = {}
    elif path[: depth + 1] == ("cluster", "device") and isinstance(child, str):
        child = {"preset": child}
    node[part] = child = child.copy() if isinstance(child, (dict, list)) else child
    return child


def _check_step(node: object, path: KeyPath, depth: int, data: dict[str, Any]) -> None:
    """Refuse a step to a key that does not exist or a position a list does not have."""
    part, here = path[depth], path[: depth + 1]
    around = dotted(path[:depth]) or "the scenario"
    if isinstance(node, list):
        if not isinstance(part, int) or part >= len(node):
            rule = f"be a position in {around}"
            hint = f"It has positions 0 to {len(node) - 1}." if node else "That list is empty."
            raise InvalidValueError(field=here, rule=rule, value=part, hint=hint)
        return
    known = valid_keys(path[:depth], data)
    if not isinstance(node, dict) or (
        not known and around.partition(".")[0] not in {"alternatives", "rivals", "assumed", "published"}
    ):
        hint = f"Set {around} itself."
        raise InvalidValueError(field=here, rule=f"be a key; {around} has no keys", value=part, hint=hint)
    if known and part not in known:
        raise InvalidValueError(field=here, rule="be a known key", value=part, hint=unknown_key_hint(here, data, known))
