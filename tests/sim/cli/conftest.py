"""What tests of commands share: a command run in this process."""

import sys
from collections.abc import Callable

import pytest
from saying import Said

from sim.cli import main


@pytest.fixture
def moesim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["moesim", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call
