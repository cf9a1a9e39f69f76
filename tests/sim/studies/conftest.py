"""The PostgreSQL server that tests of studies share: one start of it for all tests of a process."""

import os

import pytest
from local_postgresql import local_postgresql, programs


@pytest.fixture(scope="session")
def postgresql():
    """Return a server of its own on a socket, which ends with the tests."""
    if os.environ.get("MOESIM_POSTGRESQL") != "required":
        pytest.importorskip("psycopg", reason="needs a driver: pip install 'moesim[postgresql]'")
        if programs() is None:
            pytest.skip("needs a PostgreSQL server: Debian's package postgresql")
    with local_postgresql() as server:
        yield server
