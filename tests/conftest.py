"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def _own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the width of the terminal that the tests are started from change no table."""
    monkeypatch.delenv("COLUMNS", raising=False)
