"""How Hypothesis runs here: without a deadline, for machines are shared, and with the same examples for everyone."""

from hypothesis import settings

PATIENT = settings(deadline=None, derandomize=True)
"""Decorates each property."""
