"""How Hypothesis runs in all tests: without a deadline, for machines are shared, and with the same examples for all."""

from hypothesis import settings

settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")
