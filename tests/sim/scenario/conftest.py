"""Scenarios that the tests of the reader change."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def contract_text():
    """Return the contract's example, typed again in full."""
    return Path(__file__).with_name("contract.yaml").read_text(encoding="utf-8")
