"""Simulations of a search that are kept in a store, and taken from it: of an earlier search, or of a sweep."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sim.run.parallel_runs import observe
from sim.run.resources import Limits
from sim.scenario.scenario import Scenario
from sim.studies.store.keys import point_key
from sim.studies.store.record import Record
from sim.studies.store.store import Store, study_row

__all__ = ["KeptSimulations", "kept_simulations"]


class KeptSimulations:
    """The simulations of one search; each process that uses it opens the store for itself."""

    def __init__(self, where: str, study: str) -> None:
        """Keep the simulations of a study in the store at a path or a URL."""
        self._where, self._study = where, study
        self._store: Store | None = None

    def record(self, scenario: Scenario, changes: Mapping[str, object], limits: Limits, runs_alike: int) -> Record:
        """Return the result of a scenario, one of about `runs_alike`: from the store, or simulated and kept at once.

        Raises
        ------
        OutputError
            The store cannot be written.
        """
        self._store = self._store or Store(self._where)
        key = point_key(scenario)
        found = self._store.results([key])
        if found:
            return found[key]
        began = time.perf_counter()
        record = Record.of(observe(scenario, frozenset(), limits, runs_alike), time.perf_counter() - began)
        self._store.add(self._study, {key: (changes, record)})
        return record

    def close(self) -> None:
        """Close the store in this process."""
        if self._store is not None:
            self._store.close()
            self._store = None


def kept_simulations(
    where: str, scenario: Scenario, values: Mapping[str, Sequence[Any]], num_candidates: int
) -> KeptSimulations:
    """Enter a search into a store, and return what keeps its simulations.

    Raises
    ------
    InvalidValueError
        The database is no store.
    OutputError
        It cannot be opened or written.
    """
    settings = {key: list(axis) for key, axis in values.items() if axis}
    study = study_row("search", scenario, settings, num_candidates)
    with Store(where) as store:
        store.begin_study(study)
    return KeptSimulations(where, study.id)
