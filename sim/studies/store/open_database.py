"""Opening the database of a store, and its errors in plain words.

A path is a SQLite file in WAL mode, where readers and one writer do not wait for each other and a process that is
killed at any moment loses only what it had not yet written. Anything with `://` is a URL of SQLAlchemy.

On SQLite and on PostgreSQL one transaction writes at a time: it takes the lock of all writers at its beginning, so that
no transaction fails half-way and no two of them wait for each other.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from sim.errors import InvalidValueError, OutputError
from sim.studies.store.tables import FORMAT, METADATA, STORE, VERSION

__all__ = ["IN_MEMORY", "NO_TRANSACTION", "WRITING", "named", "open_engine", "plain_errors"]

IN_MEMORY: Final = "sqlite://"
"""A store that ends with the process."""
_BEGIN_OPTION: Final = "moesim_begin"
WRITING: Final = {_BEGIN_OPTION: "writing"}
"""Options of a connection that writes."""
NO_TRANSACTION: Final = {_BEGIN_OPTION: "none"}
"""Options of a connection without transactions."""
_WAIT_S: Final = 60
"""So long a writer waits for another one; a writer that says nothing for so long loses its transaction."""
_BEGIN: Final = {
    "sqlite": {"reading": "BEGIN", "writing": "BEGIN IMMEDIATE"},
    "postgresql": {
        "writing": f"SET LOCAL lock_timeout = '{_WAIT_S}s'; "
        f"SET LOCAL idle_in_transaction_session_timeout = '{_WAIT_S}s'; "
        f"SELECT pg_advisory_xact_lock({int.from_bytes(b'moesim')})"
    },
}
"""Kind of database -> what begins a transaction that reads, or writes."""
_URL: Final = re.compile(r"[A-Za-z0-9_+.]+://")
_KEPT: Final = "What was finished is kept"
_HINTS: Final = {
    "disk is full|no space left": f"{_KEPT}: make room, and the same command goes on.",
    "locked|lock timeout": f"{_KEPT}: another program holds the store; end it, and the same command goes on.",
    "readonly": "Choose a store that can be written.",
    "unable to open": "Choose a folder that can be written.",
    "malformed": "The file is damaged: `sqlite3 FILE .recover` saves what can be read; or move it away.",
    "disk i/o error": f"{_KEPT}: look at the disk, and the same command goes on.",
    r'database "(.+?)" does not exist': r"Make the database first: createdb \1",
    'role ".+?" does not exist|authentication failed|no pg_hba.conf entry': "Check the user and the password.",
    "permission denied|no schema has been selected": "Let the user make and write tables in this database.",
    "terminating connection|server closed|consuming input": f"{_KEPT}: when the server is there again, the same "
    "command goes on.",
    "connection (failed|is bad|timeout)|resolve host": "Check the address, and that the server runs.",
}
"""Part of a message of a database, as a regular expression -> what to do."""


def open_engine(where: str, *, must_exist: bool = False) -> Engine:
    """Open the database of a store, with its tables; they are made where there are none.

    Raises
    ------
    InvalidValueError
        There is no such kind of database, no store, or the database is something else.
    OutputError
        The database cannot be opened or written.
    """
    url = _url(where, must_exist=must_exist)
    with plain_errors(where):
        try:
            engine = create_engine(url, **_options(url))
        except ModuleNotFoundError as error:
            hint = f"Install the package that has the module {error.name}."
            if url.get_backend_name() == "postgresql":
                hint = "Install moesim[postgresql], and write postgresql+psycopg://USER@HOST/DATABASE."
            raise InvalidValueError(
                "the store", "have its driver installed", error.name, hint, file=named(where)
            ) from None
        if url.get_backend_name() == "sqlite":
            event.listen(engine, "connect", partial(_prepare_sqlite, is_file=url.database is not None))
        event.listen(engine, "begin", _begin)
        try:
            _check_tables(engine, where, must_exist=must_exist)
        except BaseException:
            engine.dispose()
            raise
    return engine


def named(where: str) -> str:
    """Return a store's path or URL as messages show it: without a password."""
    return make_url(where).render_as_string(hide_password=True) if _URL.match(where) else where


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """Raise errors of the database as those of the program, with what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)
        reason = " ".join(cause.split())[:300].rstrip("?.")
        if "not a database" in reason:
            hint = "Choose another name: this file belongs to another program, or is damaged."
            raise InvalidValueError(
                "the store", "be a store of results", "a file that is not a database", hint, file=named(where)
            ) from None
        matches = ((re.search(part, reason, re.IGNORECASE), hint) for part, hint in _HINTS.items())
        hint = next((found.expand(hint) for found, hint in matches if found is not None), f"{_KEPT}.")
        raise OutputError(file=named(where), reason=reason, hint=hint) from None


# ---- private -----------------------------------------------------------------------------------------------------


def _url(where: str, *, must_exist: bool) -> URL:
    """Return the URL of a path or a URL."""
    if _URL.match(where):
        try:
            url = make_url(where)
            url.get_dialect()
        except (ArgumentError, NoSuchModuleError) as error:
            hint = "Write a path, or a URL such as postgresql+psycopg://USER@HOST/DATABASE."
            what = "no driver here" if isinstance(error, NoSuchModuleError) else "not whole"
            scheme = where.partition("://")[0]  # the rest may hold a password
            rule = "be a path or a URL of SQLAlchemy"
            raise InvalidValueError("--store", rule, f"{scheme}://... ({what})", hint) from None
        if url.get_backend_name() != "sqlite" or url.database is None:
            return url
        path = Path(url.database)
    else:
        path = Path(where).expanduser()
        url = URL.create("sqlite", database=str(path))
    if path.is_dir():
        raise OutputError(file=where, reason="Is a directory", hint="Name a file in it, such as results.sqlite.")
    if must_exist and not path.exists():
        hint = "Name the file that `--store` or `--out` of an earlier command made."
        raise InvalidValueError("the store", "exist", "no such file", hint, file=where)
    if os.path.lexists(path) and not path.is_file():
        raise OutputError(file=where, reason="No regular file", hint="Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(file=where, reason=reason, hint="Choose a folder that can be written.") from None
    return url


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() != "sqlite":
        return {"pool_pre_ping": True}
    return {"connect_args": {"timeout": _WAIT_S}, **({"poolclass": StaticPool} if url.database is None else {})}


def _prepare_sqlite(connection: Any, _: object, *, is_file: bool) -> None:  # noqa: ANN401  # the driver's own class
    """Let SQLite write ahead, and begin transactions as the options of the connection say."""
    connection.isolation_level = None
    cursor = connection.cursor()
    if is_file:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    kind = connection.get_execution_options().get(_BEGIN_OPTION, "reading")
    statement = _BEGIN.get(connection.dialect.name, {}).get(kind)
    if statement is not None:
        connection.exec_driver_sql(statement)


def _check_tables(engine: Engine, where: str, *, must_exist: bool) -> None:
    """Make the tables of a new database; refuse one that is no store, or a store of another version."""
    inspector = inspect(engine)
    names = set(inspector.get_table_names())
    has_store = STORE.name in names
    if has_store and {column["name"] for column in inspector.get_columns(STORE.name)} != set(STORE.columns.keys()):
        hint = "Choose another name: this database belongs to another program."
        found = f"a table {STORE.name} of another form"
        raise InvalidValueError("the store", "be a store of results", found, hint, file=named(where))
    if not has_store:
        ours = {table.name for table in METADATA.sorted_tables}
        if must_exist or (engine.dialect.name == "sqlite" and names) or names & ours:
            hint = "Choose another name: this database belongs to another program."
            if not names:
                hint = "Nothing was kept in it yet: name the store of an earlier command."
            found = f"tables {', '.join(sorted(names)[:5])}" if names else "no tables"
            raise InvalidValueError("the store", "be a store of results", found, hint, file=named(where))
        _make_tables(engine)
    with engine.connect() as connection:
        found_version = connection.execute(select(STORE.c.version).where(STORE.c.format == FORMAT)).scalar()
    if found_version is None:
        hint = "Its table of the format is damaged: choose another store."
        raise InvalidValueError("the store", f"say that it has {FORMAT}", "something else", hint, file=named(where))
    if found_version != VERSION:
        rule = f"be a store of version {VERSION}"
        age = "An older" if found_version < VERSION else "A newer"
        hint = f"{age} version of the program made it: its results are kept; read them with that version, and choose "
        hint += "another store for this one."
        raise InvalidValueError("the store", rule, f"version {found_version}", hint, file=named(where))


def _make_tables(engine: Engine) -> None:
    """Make all tables in one transaction; another process may make them at the same time."""
    with engine.execution_options(**WRITING).begin() as connection:
        METADATA.create_all(connection)  # `create_all` looks which there are, within the transaction
        if connection.execute(select(STORE.c.version)).first() is None:
            connection.execute(STORE.insert().values(format=FORMAT, version=VERSION))
