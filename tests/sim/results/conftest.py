"""Hypothesis without a deadline (a first run imports), and with the same examples for everyone who sees a red test."""

from hypothesis import settings

settings.register_profile("results", deadline=None, derandomize=True)
settings.load_profile("results")
