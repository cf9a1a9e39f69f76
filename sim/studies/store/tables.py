"""The tables of a store. Their version is written into it, so that another version is refused and not misread."""

from typing import Final

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text

__all__ = ["CLAIMS", "FORMAT", "METADATA", "OWNERS", "POINTS", "STORE", "STUDIES", "VERSION"]

FORMAT: Final = "moesim results"
"""What the table `moesim_store` says of itself."""
VERSION: Final = 1
"""Version of these tables."""

METADATA: Final = MetaData()
_KEY: Final = String(32)

STORE: Final = Table(
    "moesim_store", METADATA, Column("format", String(32), primary_key=True), Column("version", Integer, nullable=False)
)
"""One row: what the database is, and the version of its tables."""

STUDIES: Final = Table(
    "studies",
    METADATA,
    Column("id", _KEY, primary_key=True),
    Column("command", String(32), nullable=False),
    Column("scenario", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON: the grid, and what was set
    Column("num_points", Integer, nullable=False),
    Column("program", _KEY, nullable=False),  # digest of the sources
    Column("version", String(32), nullable=False),
    Column("created", Float, nullable=False),  # seconds since 1970
)
"""A row for each study that has kept results."""

POINTS: Final = Table(
    "points",
    METADATA,
    Column("key", _KEY, primary_key=True),
    Column("study", _KEY, nullable=False, index=True),  # which simulated it
    Column("changes", Text, nullable=False),  # JSON: dotted keys and values
    Column("result", Text, nullable=False),  # JSON: `Record.to_json`
    Column("checksum", String(16), nullable=False),  # of key, changes and result
    Column("cost_s", Float, nullable=False),
    Column("created", Float, nullable=False),
)
"""A row for each finished simulation."""

OWNERS: Final = Table(
    "owners",
    METADATA,
    Column("id", _KEY, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("began", String(32), nullable=False),  # of the process, in the system's own count
    Column("expires", Float, nullable=False),
)
"""A row for each process that works on points of the store."""

CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("key", _KEY, primary_key=True),
    Column("owner", _KEY, nullable=False, index=True),
)
"""A row for each point that a process is about to simulate."""
