"""All commands, in the order in which `--help` shows them; modules that are named like a command do what it says."""

from sim.cli import declared_runs, declared_studies, declared_views
from sim.cli.declare import COMMANDS, app

__all__ = ["COMMANDS", "app", "declared_runs", "declared_studies", "declared_views"]
