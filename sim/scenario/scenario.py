"""A scenario that has been read and validated, and the variants its alternatives and rivals make of it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sim.errors import InvalidValueError, KeyPath, dotted
from sim.scenario.file_bytes import kind_of_file
from sim.scenario.overrides import STRATEGY, apply_variant, explain_replaced
from sim.scenario.parallel_section import AXES
from sim.scenario.places import Places, key_path, path_of
from sim.scenario.problems import validate
from sim.scenario.schema import ScenarioSpec

__all__ = ["FILE_KEYS", "Scenario"]

FILE_KEYS: Final = frozenset(
    {
        "cluster.file",
        "document",
        "model.hf_config",
        "profile",
        "published_table.file",
        "routing.file",
        "schedule.file",
        "workload.layer_times.attention",
        "workload.layer_times.dense",
        "workload.layer_times.moe",
        "workload.layer_times.per_sequence",
        "workload.requests.trace",
    }
)
"""Dotted keys that name a file; what keeps results by content reads them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A valid scenario, with the places its values come from."""

    spec: ScenarioSpec
    """The values, in SI, with defaults."""
    raw: dict[str, Any]
    """The plain data of the file with overrides applied; do not change it."""
    places: Places
    """Where values come from."""
    left_out: tuple[str, ...] = ()
    """Sentences on alternatives and rivals that arguments made impossible."""

    @classmethod
    def validated(
        cls,
        raw: Mapping[str, Any],
        places: Places | None = None,
        *,
        changes: Mapping[str, object] | None = None,
        before: "Scenario | None" = None,
    ) -> "Scenario":
        """Return the scenario that raw data makes; alternatives and rivals are not looked into.

        Parameters
        ----------
        raw, places
            Plain data, and where its values come from.
        changes
            Dotted keys that were set in `raw`: the hint about a section that a key replaced names the key.
        before
            The scenario in which they were set, whose other sections are not checked again.

        Raises
        ------
        InvalidValueError
            The first value in the order of the file that is refused.

        Examples
        --------
        >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
        >>> Scenario.validated({"parallel": {"pp": 4}, "workload": workload}).spec.parallel.pp
        4
        """
        where = places or Places()
        outcome = validate(raw, checked=None if before is None else before._sections_in(raw))
        if isinstance(outcome, ScenarioSpec):
            return cls(spec=outcome, raw=dict(raw), places=where)
        raise where.first(
            [explain_replaced(refusal, changes or {}, is_argument=where.variant is None) for refusal in outcome]
        )

    @property
    def path(self) -> str | None:
        """The file the scenario was read from."""
        return self.places.file

    @property
    def lines(self) -> Mapping[KeyPath, int]:
        """Key path -> line of the file."""
        return self.places.lines

    def resolved(self) -> dict[str, Any]:
        """Return all values, defaults filled in, in SI, as JSON has them."""
        return self.spec.model_dump(mode="json")

    def is_given(self, key: str) -> bool:
        """Return whether a dotted key stands in the file or an override, so that its value is no assumption."""
        node: Any = self.raw
        for part in key_path(key):
            if isinstance(node, dict) and part in node:
                node = node[str(part)]
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                return False
        return True

    def variant(self, changes: Mapping[str, object], *, at: KeyPath | None = None) -> "Scenario":
        """Return the scenario with dotted keys changed, validated like a file.

        A change of `parallel.strategy` drops the axes, the layout and the stage layers that the file gives, and a
        change of `parallel.convention` from spanning drops `parallel.exchange`.

        Parameters
        ----------
        changes
            Dotted key -> raw value, such as `{"model.top_k": 1, "cluster.device.memory": "64 GB"}`.
        at
            Where the changes stand in the file, such as `("alternatives", 0)`, for the errors' line.

        Raises
        ------
        InvalidValueError
            A key does not exist, or the changed scenario is refused.
        """
        places = self.places.of_variant(at or self.places.variant)
        try:
            raw = apply_variant(self.raw, changes)
        except InvalidValueError as error:
            raise places.located(error) from None
        return Scenario.validated(raw, places, changes=changes, before=self)

    def _sections_in(self, raw: Mapping[str, Any]) -> dict[str, BaseModel]:
        """Return the sections that raw data shares with this scenario's own."""
        return {
            key: section
            for key, value in raw.items()
            if self.raw.get(key) is value and isinstance(section := getattr(self.spec, key, None), BaseModel)
        }

    def alternative(self, position: int) -> "Scenario":
        """Return the scenario under one of its alternatives."""
        return self.variant(self.spec.alternatives[position], at=("alternatives", position))

    def rival(self, position: int) -> "Scenario":
        """Return the scenario under one of its rivals."""
        rival = self.spec.rivals[position]
        changes = {STRATEGY: rival} if isinstance(rival, str) else rival
        return self.variant(changes, at=("rivals", position))

    def case(self, position: int) -> "Scenario":
        """Return the scenario that a published figure is compared with: under its `set`, without claims and figures."""
        changes, bare = self.spec.published[position].set, self.without_judgement()
        if not changes:
            return Scenario.validated(bare.raw, self.places)
        return bare.variant(changes, at=("published", position, "set"))

    def subtrahend(self, position: int) -> "Scenario | None":
        """Return the scenario whose value is taken off that of `case`; None where a figure is no difference."""
        figure = self.spec.published[position]
        if figure.minus is None:
            return None
        changes = {**(figure.set or {}), **figure.minus}
        return self.without_judgement().variant(changes, at=("published", position, "minus"))

    def check_variants(self) -> None:
        """Check every alternative, rival and published figure's `set`.

        Raises
        ------
        InvalidValueError
            The first that does not exist or makes a scenario that is refused.
        """
        bare = self.without_judgement()
        for i in range(len(self.spec.alternatives)):
            bare.alternative(i)
        for i in range(len(self.spec.rivals)):
            bare.rival(i)
        for i, figure in enumerate(self.spec.published):
            if figure.set:
                bare.variant(figure.set, at=("published", i, "set"))
            self.subtrahend(i)

    def without_judgement(self) -> "Scenario":
        """Return the scenario with raw data that has only what is simulated; `spec` is as before."""
        judged = {"document", "claims", "alternatives", "rivals", "published", "published_table", "search"}
        return replace(self, raw={key: value for key, value in self.raw.items() if key not in judged})

    def located(self, error: InvalidValueError, *, other_file: Path | None = None) -> InvalidValueError:
        """Return an error with file and line.

        Parameters
        ----------
        error
            An error that a domain value raised, with the scenario's dotted key as its field.
        other_file
            The file that an error is about whose field is no key of a scenario.

        Examples
        --------
        >>> workload = {"kind": "passes", "microbatches": 8, "pass_times": {"F": "1 ms", "B": "2 ms"}}
        >>> scenario = Scenario.validated({"parallel": {"pp": 4}, "workload": workload})
        >>> print(scenario.located(InvalidValueError("parallel.pp", "be even", 3, "Write 4.")))
        parallel.pp must be even, got 3. Write 4.
        """
        path = path_of(error)
        if error.is_located or path[:1] == () or path[0] not in ScenarioSpec.model_fields:
            return error if error.is_located or other_file is None else error.at(file=str(other_file), line=error.line)
        if error.value is None and not self.is_given(dotted(path)):
            error = InvalidValueError(path, error.rule, "nothing", error.hint)
        elif not self._states(path):
            error = InvalidValueError(path, error.rule, f"nothing, which is {error.value}", error.hint)
        return self.places.located(error)

    @contextmanager
    def located_errors(self, *, other_file: Path | None = None) -> Iterator[None]:
        """Give every `InvalidValueError` that is raised inside the block its file and line, as `located` does."""
        try:
            yield
        except InvalidValueError as error:
            raise self.located(error, other_file=other_file) from None

    def _states(self, path: KeyPath) -> bool:
        """Return whether a value stands in the scenario: an axis may, by its key or in the strategy's name."""
        if len(path) != 2 or path[0] != "parallel" or path[1] not in AXES or self.is_given(dotted(path)):
            return True
        name = (self.spec.parallel.strategy or "").upper()
        return re.search(rf"(?<![A-Z]){str(path[1]).upper()}\d", name) is not None

    def file_beside(self, key: str, file: str) -> Path:
        """Return a file that the scenario names under a dotted key: in its folder or below it, links followed.

        A file that an argument names may be anywhere.

        Raises
        ------
        InvalidValueError
            It is elsewhere, or there is none.
        KeyError
            `FILE_KEYS` does not have the key.
        """
        if key not in FILE_KEYS:
            raise KeyError(f"{key} is not in FILE_KEYS")
        if file in self.places.given_files:
            return Path(file)
        folder = Path(self.path).parent if self.path else Path()
        path = folder / file
        kind = None
        try:
            inside, exists = path.resolve().is_relative_to(folder.resolve()), path.exists()
            kind = kind_of_file(path) if exists else None
        except (OSError, ValueError, RuntimeError):
            inside = exists = False
        if not inside:
            hint = "Copy it into the scenario's folder and write its name."
            raise self.located(InvalidValueError(key, "be in the scenario's folder", file, hint))
        if not exists:
            hint = f"The path is relative to the scenario's folder: {folder}."
            raise self.located(InvalidValueError(key, "exist", file, hint))
        if kind is not None:
            hint = "Write the content into a file in the scenario's folder, and name that file."
            raise self.located(InvalidValueError(key, "be a regular file", f"{file}, {kind}", hint))
        return path
