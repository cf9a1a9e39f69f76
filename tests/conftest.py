"""What all tests share: Hypothesis draws the same examples for all and has no deadline, for machines are shared."""

import signal

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a script: processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup: the same
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the width of the terminal that the tests are started from change no table."""
    monkeypatch.delenv("COLUMNS", raising=False)
