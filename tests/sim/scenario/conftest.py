"""Scenarios that the tests of the reader change."""

from pathlib import Path

import pytest

from sim.scenario import problems


@pytest.fixture(scope="session")
def contract_text():
    """Return the contract's example, typed again in full."""
    return Path(__file__).with_name("contract.yaml").read_text(encoding="utf-8")


@pytest.fixture
def everything_supported(monkeypatch):
    """Let values pass that are not supported yet, to reach the checks behind."""
    monkeypatch.setattr(problems, "NOT_YET", ())
