"""What all tests share: Hypothesis draws the same examples for all and has no deadline, for machines are shared."""

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the width of the terminal that the tests are started from change no table."""
    monkeypatch.delenv("COLUMNS", raising=False)
