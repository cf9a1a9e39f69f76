"""`moesim results`: what a store of finished simulations has, as a list, a point, a table; and removing it."""

import time
from collections.abc import Sequence
from typing import Any

from sim.cli.steps import output_file, print_result
from sim.errors import InvalidValueError
from sim.report.console.results import print_exported, print_point, print_pruned, print_studies
from sim.report.files import write_whole
from sim.studies.store.export import TABLES, check_table, write_table
from sim.studies.store.keys import program_digest
from sim.studies.store.store import Kept, Store, StudyRow

__all__ = ["export_command", "list_command", "prune_command", "show_command"]

_DAY_S = 86_400


def list_command(store: str, *, as_json: bool) -> None:
    """List the studies of a store."""
    with Store(store, must_exist=True) as kept:
        studies = [_study_data(*found) for found in kept.studies()]
        data = {"schema_version": 1, "store": kept.name, "studies": studies}
    print_result(data, print_studies, as_json=as_json)


def show_command(store: str, key: str, *, as_json: bool) -> None:
    """Show one point."""
    with Store(store, must_exist=True) as kept:
        found = kept.matching(key) if key else []
        if len(found) != 1:
            problem = f"{key}, which several points have" if found else key or "an empty text"
            hint = "Write more of it." if found else "`moesim results export` writes the keys of all points."
            raise InvalidValueError("KEY", "be the key of a point of the store, or its start", problem, hint)
        row = found[0]
    parts = {"key": row.key, "study": row.study, "created": row.created, "changes": dict(row.changes)}
    record = row.record
    parts |= {"cost_s": record.cost_s, "problem": record.problem, "values": dict(record.values)}
    parts |= {"parts_s": dict(record.parts_s), "tokens": dict(record.tokens)}
    print_result({"schema_version": 1, **parts}, print_point, as_json=as_json)


def export_command(store: str, *, output: str, study: Sequence[str] = (), as_json: bool) -> None:
    """Write points as a table."""
    file = output_file(output, tuple(TABLES))
    check_table(file)
    with Store(store, must_exist=True) as kept:
        chosen = [found.id for found in _chosen(kept, study)] if study else [None]
        rows = [_flat(row) for one in chosen for row in kept.rows(study=one)]
    write_whole(file, lambda path: write_table(rows, path))
    data = {"schema_version": 1, "num_points": len(rows), "written": str(file)}
    print_result(data, print_exported, as_json=as_json)


def prune_command(
    store: str,
    *,
    study: Sequence[str] = (),
    other_versions: bool = False,
    older_than: float | None = None,
    as_json: bool,
) -> None:
    """Remove studies that meet all conditions."""
    if not study and not other_versions and older_than is None:
        hint = "Give --study ID, --other-versions or --older-than DAYS: without a condition all would be removed."
        raise InvalidValueError("--study", "be given, or another condition", "nothing", hint)
    with Store(store, must_exist=True) as kept:
        chosen = _chosen(kept, study) if study else [found for found, _, _ in kept.studies()]
        begun_before = time.time() - (older_than or 0) * _DAY_S
        removed = [
            found
            for found in chosen
            if (not other_versions or found.program != program_digest())
            and (older_than is None or found.created < begun_before)
        ]
        num_points = kept.remove([found.id for found in removed])
    data = {"schema_version": 1, "studies": [found.id for found in removed], "num_points": num_points}
    print_result(data, print_pruned, as_json=as_json)


# ---- private -----------------------------------------------------------------------------------------------------


def _chosen(store: Store, starts: Sequence[str]) -> list[StudyRow]:
    """Return the studies whose ids begin so, each once."""
    studies = {found.id: found for found, _, _ in store.studies()}
    chosen: dict[str, StudyRow] = {}
    for start in starts:
        found = [one for one in studies.values() if one.id.startswith(start)]
        if len(found) != 1 or not start:
            problem = f"{start}, which {len(found)} studies have" if found else start
            hint = "Write more of it." if found else "`moesim results list` shows the ids."
            raise InvalidValueError("--study", "be the id of a study of the store, or its start", problem, hint)
        chosen[found[0].id] = found[0]
    return list(chosen.values())


def _study_data(study: StudyRow, num_points: int, num_bytes: int) -> dict[str, Any]:
    return {
        "id": study.id,
        "command": study.command,
        "scenario": study.scenario,
        "settings": dict(study.settings),
        "num_points": study.num_points,
        "num_simulated": num_points,
        "bytes": num_bytes,
        "version": study.version,
        "is_this_program": study.program == program_digest(),
        "created": study.created,
    }


def _flat(row: Kept) -> dict[str, Any]:
    """Return a point as a row of a table: one column for each key, value and part of time."""
    record = row.record
    return {
        "key": row.key,
        "study": row.study,
        **row.changes,
        "problem": record.problem,
        "cost_s": record.cost_s,
        **record.values,
        **{f"part.{name}_s": value for name, value in record.parts_s.items()},
        **{f"tokens.{name}": value for name, value in record.tokens.items()},
    }
