"""A PostgreSQL server on a socket of its own, for tests: its data in a folder that ends with it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_S = 60
USER = "store"
"""The server's own user of the database, who may do everything."""


def programs() -> Path | None:
    """Return the folder of the server's programs; None where it is not installed."""
    found = shutil.which("postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


class LocalPostgresql:
    """A server without a port: who may enter its folder may connect."""

    def __init__(self, folder: Path) -> None:
        """Make a database and start the server on it. It refuses to run as root, and then runs as `postgres`."""
        self._folder, self._bin = folder, programs()
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        options = ["--username", USER, "--auth", "trust", "--no-sync", "--no-locale", "--encoding", "UTF8"]
        self._start("initdb", "-D", "data", *options).wait(READY_S)
        self._num_schemas = 0
        self.process = self._serve()

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """Return the address of a database as `--store` takes it."""
        return f"postgresql+psycopg://{user}@/{database}?host={self._folder}"

    def url_of_new_schema(self) -> str:
        """Make an empty schema, which is faster than a database, and return its address."""
        self._num_schemas += 1
        self.execute(f"create schema results{self._num_schemas}")
        return f"{self.url()}&options=-csearch_path%3Dresults{self._num_schemas}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement as the server's own user; return the rows of a query."""
        import psycopg

        with psycopg.connect(host=str(self._folder), user=USER, dbname="postgres", autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def stop(self) -> None:
        """End the server and all connections at once, as if it had crashed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(READY_S)

    def start_again(self) -> None:
        """Start the server on the same database."""
        self.process = self._serve()

    def _serve(self) -> subprocess.Popen[bytes]:
        process = self._start("postgres", "-D", "data", "-k", str(self._folder), "-c", "listen_addresses=", "-F")
        end = time.monotonic() + READY_S
        while not self._answers():
            assert process.poll() is None and time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        return process

    def _answers(self) -> bool:
        return self._start("pg_isready", "-q", "-h", str(self._folder)).wait(READY_S) == 0

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._bin / program), *arguments],
            cwd=self._folder, user=self._user if os.geteuid() == 0 else None,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


@contextmanager
def local_postgresql() -> Iterator[LocalPostgresql]:
    """Return a server, which ends when the context is left."""
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:  # sockets need short paths
        server = LocalPostgresql(Path(folder))
        try:
            yield server
        finally:
            server.stop()
