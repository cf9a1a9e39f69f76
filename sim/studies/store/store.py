"""A store of finished simulations, which several studies may fill together.

Dividing the work
-----------------
A study claims points before it simulates them; a claim belongs to a process and ends with the result, or with the
process (`sim.studies.store.owner`). A claim is made in one transaction, and what was finished is looked up again after
it: a result is written and its claim removed in one transaction as well, so that no point is simulated twice.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, Row, Table, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from sim.errors import OutputError
from sim.scenario.scenario import Scenario
from sim.studies.store.keys import point_key, program_digest
from sim.studies.store.open_database import (
    IN_MEMORY,
    NO_TRANSACTION,
    WRITING,
    named,
    open_engine,
    plain_errors,
)
from sim.studies.store.owner import LEASE_S, Owner, end_owner, is_at_work, new_owner
from sim.studies.store.record import Record
from sim.studies.store.tables import CLAIMS, OWNERS, POINTS, STUDIES

__all__ = ["Claimed", "Kept", "Store", "StudyRow", "study_row"]

_BATCH: Final = 500
"""Keys that one statement names: SQLite takes 999 or more."""
_RENEW_S: Final = LEASE_S / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A study as the store knows it."""

    id: str
    """Digest of what the study is."""
    command: str
    """The command that ran it."""
    scenario: str
    """Name or path of its scenario."""
    settings: Mapping[str, Any]
    """The grid, and what was set."""
    num_points: int
    """Points that it consists of."""
    program: str
    """Digest of the sources of the program."""
    version: str
    """Version of the program."""
    created: float
    """When it first began, in seconds since 1970."""


def study_row(command: str, scenario: Scenario, settings: Mapping[str, Any], num_points: int) -> StudyRow:
    """Return a study as the store knows it: the same command, scenario and settings are the same study."""
    written = json.dumps(dict(settings), default=str)
    text = json.dumps([command, point_key(scenario), written])
    return StudyRow(
        id=hashlib.sha256(text.encode()).hexdigest()[:32],
        command=command,
        scenario=scenario.spec.name or (Path(scenario.path).stem if scenario.path else "scenario"),
        settings=json.loads(written),
        num_points=num_points,
        program=program_digest(),
        version=version("moesim"),
        created=time.time(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A finished simulation as the store has it."""

    key: str
    """Digest of everything that the result depends on."""
    study: str
    """The study that simulated it."""
    changes: Mapping[str, Any]
    """Dotted keys and values that the study changed."""
    record: Record
    """The result."""
    created: float
    """When it was written, in seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What became of points that were to be claimed."""

    mine: frozenset[str]
    """Claimed for this process."""
    finished: frozenset[str]
    """Results that the store has."""
    elsewhere: frozenset[str]
    """Claimed by another process that still runs."""


class Store:
    """The results of finished simulations by key."""

    def __init__(self, where: str = IN_MEMORY, *, must_exist: bool = False) -> None:
        """Open the store at a path or a URL; without one, a store that ends with the process.

        Raises
        ------
        InvalidValueError
            The database is no store of this version.
        OutputError
            It cannot be opened or written.
        """
        self.where = where
        self._engine = open_engine(where, must_exist=must_exist)
        self._owner: Owner | None = None
        self._renewed = 0.0

    def __enter__(self) -> Self:
        """Return the store, which is closed when the context is left."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Release all claims and close the store."""
        self.close()

    @property
    def name(self) -> str:
        """The store as messages show it."""
        return named(self.where)

    @property
    def is_kept(self) -> bool:
        """Whether results outlive the process."""
        return self.where != IN_MEMORY

    @property
    def path(self) -> Path | None:
        """The file of the store; None where it is none."""
        url = self._engine.url
        return None if url.get_backend_name() != "sqlite" or url.database is None else Path(url.database)

    def close(self) -> None:
        """Release all claims and close the store; a store that cannot be written any more is closed as well."""
        try:
            if self._owner is not None:
                with self._writing() as connection:
                    connection.execute(delete(CLAIMS).where(CLAIMS.c.owner == self._owner.id))
                    connection.execute(delete(OWNERS).where(OWNERS.c.id == self._owner.id))
        except OutputError:
            pass  # claims end with their owner; the first error is the one to report
        if self._owner is not None:
            end_owner(self._owner)
        self._engine.dispose()

    # ---- results -------------------------------------------------------------------------------------------------

    def finished(self, keys: Iterable[str]) -> set[str]:
        """Return those of the keys that the store has whole results of; damaged ones are removed."""
        listed, found, damaged = list(keys), set[str](), list[str]()
        columns = (POINTS.c.key, POINTS.c.changes, POINTS.c.result, POINTS.c.checksum)
        with self._reading() as connection:
            for batch in _batches(listed):
                for row in connection.execute(select(*columns).where(POINTS.c.key.in_(batch))):
                    if row.checksum == _checksum(row.key, row.changes, row.result):
                        found.add(row.key)
                    else:
                        damaged.append(row.key)
        if damaged:
            with self._writing() as connection:
                for batch in _batches(damaged):
                    connection.execute(delete(POINTS).where(POINTS.c.key.in_(batch)))
        return found

    def results(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the results of those of the keys that the store has; a damaged result is left out."""
        return {kept.key: kept.record for kept in self.rows(keys=keys)}

    def mean_row_bytes(self) -> float:
        """Return the mean size of the texts of the newest rows; 0 where there are none."""
        size = func.length(POINTS.c.changes) + func.length(POINTS.c.result) + 2 * func.length(POINTS.c.key)
        newest = select(size.label("size")).order_by(POINTS.c.created.desc()).limit(_BATCH).subquery()
        with self._reading() as connection:
            return float(connection.execute(select(func.avg(newest.c.size))).scalar() or 0.0)

    def rows(self, *, keys: Sequence[str] | None = None, study: str | None = None) -> Iterator[Kept]:
        """Return finished simulations: of these keys, of this study, or all."""
        chosen = select(POINTS) if study is None else select(POINTS).where(POINTS.c.study == study)
        with self._reading() as connection:
            if keys is None:
                rows = connection.execution_options(yield_per=_BATCH).execute(
                    chosen.order_by(POINTS.c.created, POINTS.c.key)
                )
                yield from (kept for row in rows if (kept := _kept(row)) is not None)
                return
            for batch in _batches(keys):
                rows = connection.execute(chosen.where(POINTS.c.key.in_(batch)))
                yield from (kept for row in rows if (kept := _kept(row)) is not None)

    def matching(self, start: str) -> list[Kept]:
        """Return finished simulations whose keys begin so: at most three, which tells one from several."""
        chosen = select(POINTS).where(POINTS.c.key.startswith(start, autoescape=True)).order_by(POINTS.c.key).limit(3)
        with self._reading() as connection:
            return [kept for row in connection.execute(chosen) if (kept := _kept(row)) is not None]

    def add(self, study: str, records: Mapping[str, tuple[Mapping[str, object], Record]]) -> None:
        """Keep results by key, each with the changes that lead to it, and release their claims: all, or none.

        A key that is there already keeps the result that it has.
        """
        now = time.time()
        rows = [
            _row(key, changes, record) | {"study": study, "created": now}
            for key, (changes, record) in records.items()
            if record.is_final
        ]
        with self._writing() as connection:
            _insert_new(connection, POINTS, rows)
            for batch in _batches(list(records)):
                connection.execute(delete(CLAIMS).where(CLAIMS.c.key.in_(batch)))

    # ---- claims --------------------------------------------------------------------------------------------------

    def claim(self, keys: Sequence[str]) -> Claimed:
        """Claim those of the keys that are neither finished nor claimed by a process that still runs."""
        mine = set[str]()
        with self._reading() as connection:
            finished = self._finished(connection, keys)
        open_keys = [key for key in dict.fromkeys(keys) if key not in finished]
        with self._writing() as connection:
            owner = self._registered(connection)
            for batch in _batches(open_keys):
                self._take_over(connection, batch, owner)
                _insert_new(connection, CLAIMS, [{"key": key, "owner": owner.id} for key in batch])
                found = select(CLAIMS.c.key).where(CLAIMS.c.key.in_(batch), CLAIMS.c.owner == owner.id)
                mine |= set(connection.execute(found).scalars())
            late = self._finished(connection, sorted(mine))
            for batch in _batches(sorted(late)):
                connection.execute(delete(CLAIMS).where(CLAIMS.c.key.in_(batch)))
        finished |= late
        mine -= late
        return Claimed(
            mine=frozenset(mine), finished=frozenset(finished), elsewhere=frozenset(set(open_keys) - mine - finished)
        )

    def renew(self) -> None:
        """Renew the lease of this process, where some time has passed since it was renewed."""
        if self._owner is not None and time.monotonic() - self._renewed > _RENEW_S:
            with self._writing() as connection:
                expires = time.time() + LEASE_S
                connection.execute(update(OWNERS).where(OWNERS.c.id == self._owner.id).values(expires=expires))
            self._renewed = time.monotonic()

    def _registered(self, connection: Connection) -> Owner:
        if self._owner is None:
            self._owner, self._renewed = new_owner(), time.monotonic()
            connection.execute(OWNERS.insert().values(**asdict(self._owner)))
        return self._owner

    @staticmethod
    def _take_over(connection: Connection, keys: Sequence[str], owner: Owner) -> None:
        """Take the claims on keys from owners that do not run any more."""
        claimed = select(CLAIMS.c.owner).where(CLAIMS.c.key.in_(keys), CLAIMS.c.owner != owner.id).distinct()
        others = list(connection.execute(claimed).scalars())
        rows = connection.execute(select(OWNERS).where(OWNERS.c.id.in_(others))).mappings()
        at_work = {row["id"] for row in rows if is_at_work(Owner(**row))}
        for gone in sorted(set(others) - at_work):
            connection.execute(
                update(CLAIMS).where(CLAIMS.c.key.in_(keys), CLAIMS.c.owner == gone).values(owner=owner.id)
            )

    # ---- studies -------------------------------------------------------------------------------------------------

    def begin_study(self, study: StudyRow) -> None:
        """Enter a study; one that is there already stays as it is."""
        row = {**asdict(study), "settings": json.dumps(dict(study.settings))}
        with self._writing() as connection:
            _insert_new(connection, STUDIES, [row])

    def studies(self) -> list[tuple[StudyRow, int, int]]:
        """Return each study, with the points that it simulated and the bytes of their results, the oldest first."""
        counted = select(POINTS.c.study, func.count(), func.sum(func.length(POINTS.c.result))).group_by(POINTS.c.study)
        with self._reading() as connection:
            counts = {study: (int(num), int(size or 0)) for study, num, size in connection.execute(counted)}
            rows = connection.execute(select(STUDIES).order_by(STUDIES.c.created, STUDIES.c.id)).mappings()
            found = [StudyRow(**{**row, "settings": json.loads(row["settings"])}) for row in rows]
        return [(study, *counts.get(study.id, (0, 0))) for study in found]

    def remove(self, studies: Sequence[str]) -> int:
        """Remove studies with the points that they simulated; return how many points these were."""
        num = 0
        with self._writing() as connection:
            for study in studies:
                num += connection.execute(delete(POINTS).where(POINTS.c.study == study)).rowcount
                connection.execute(delete(STUDIES).where(STUDIES.c.id == study))
        if self._engine.dialect.name == "sqlite":
            with plain_errors(self.where), self._engine.execution_options(**NO_TRANSACTION).connect() as connection:
                connection.exec_driver_sql("VACUUM")  # gives the room back
        return num

    # ---- private -------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with plain_errors(self.where), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Return a connection in a transaction that has the right to write from its beginning."""
        with plain_errors(self.where), self._engine.execution_options(**WRITING).begin() as connection:
            yield connection

    @staticmethod
    def _finished(connection: Connection, keys: Sequence[str]) -> set[str]:
        found = set[str]()
        for batch in _batches(keys):
            found |= set(connection.execute(select(POINTS.c.key).where(POINTS.c.key.in_(batch))).scalars())
        return found


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), _BATCH):
        yield keys[first : first + _BATCH]


def _row(key: str, changes: Mapping[str, object], record: Record) -> dict[str, Any]:
    """Return the columns of a result."""
    written, result = json.dumps(changes, separators=(",", ":")), record.to_json()
    checksum = _checksum(key, written, result)
    return {"key": key, "changes": written, "result": result, "checksum": checksum, "cost_s": record.cost_s}


def _checksum(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()


def _kept(row: Row[Any]) -> Kept | None:
    """Return a row of points; None for one that is damaged."""
    if row.checksum != _checksum(row.key, row.changes, row.result):
        return None
    try:
        changes, record = json.loads(row.changes), Record.from_json(row.result, row.cost_s)
    except (ValueError, TypeError):
        return None
    return Kept(key=row.key, study=row.study, changes=changes, record=record, created=row.created)


def _insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; a row whose key is there already is left out."""
    if not rows:
        return
    name = connection.dialect.name
    if name in {"sqlite", "postgresql"}:
        insert = sqlite.insert(table) if name == "sqlite" else postgresql.insert(table)
        connection.execute(insert.on_conflict_do_nothing(), list(rows))
        return
    for row in rows:  # a database without such an insert
        with suppress(IntegrityError), connection.begin_nested():
            connection.execute(table.insert().values(**row))
