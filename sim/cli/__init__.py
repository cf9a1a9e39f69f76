"""The command line: `moesim run`, `report`, `validate`, `stress`, `timeline`, `schedules`, `topology`, `list`, ...

Contents
--------
- `sim.cli.endings`: how a command begins and ends: its exit code, its message, its output streams.
- `sim.cli.app`: all commands; `declare`: how a command is declared; `declared_runs`, `declared_studies`,
  `declared_views`: the commands with their arguments. `sim.cli.usage`: arguments that cannot be parsed.
- `sim.cli.steps`: the steps that commands share; `kept`: the store of a study.
- `sim.cli.run`, `report`, `stress`, `timeline`, `topology`, `describe`, `listing`, `why`, `measured`, `search`,
  `sweep`, `results`: what the commands do.
"""

from sim.cli.endings import main

__all__ = ["main"]
