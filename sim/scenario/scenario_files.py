"""Where scenario files are: the scenarios that come with the program, suites of validation cases, and a first scenario.

A suite is a folder below `validation/`; its files are scenarios with `published` figures, but for `suite.yaml`, which
says what the suite is. Cases are scenarios too and run like any other, but are found only where no ordinary scenario
has the name, and are listed apart.
"""

import importlib.resources
import os
from itertools import islice
from pathlib import Path
from typing import Final

from sim.errors import nearest_name, shown

__all__ = [
    "STARTER",
    "SUITE_FILE",
    "bundled_folder",
    "find_bundled",
    "list_bundled",
    "list_cases",
    "list_suites",
    "near_file",
    "suites_folder",
]

SUITE_FILE: Final = "suite.yaml"
"""The file of a suite that is no case."""

_SUITES: Final = "validation"
_SUFFIXES: Final = (".yaml", ".yml")
_MAX_ENTRIES: Final = 10_000
"""Files of a folder among which a similar name is looked for."""

STARTER: Final = """\
# A scenario: is a parallel strategy as good as somebody says?
#   moesim run THIS_FILE                            answers the claims below
#   moesim run THIS_FILE --set model.top_k=1        the same with one value changed
# Quantities have a unit (Gb is 10^9 bits, GB 10^9 bytes, GiB 2^30 bytes); counts and ratios have none.

name: EP8_TP1_PP1_DP8 on one DGX H100

cluster:
  preset: dgx-h100          # `moesim list presets` shows all
  num_nodes: 1              # 8 GPUs each
  # device: {preset: h100-sxm, memory: 64 GB}     any field of the preset may be overridden

model:                      # or {preset: mixtral-8x7b}, or {hf_config: config.json}: Hugging Face's file of a model
  layers: 8
  hidden: 2048
  heads: 16
  ffn: 5632                 # width of one expert
  gated: true               # three matrices (SwiGLU) instead of two
  experts: 8                # 0: a dense model
  top_k: 2                  # experts each token is sent to
  vocab: 32000
  dtype: bf16

parallel:
  strategy: EP8_TP1_PP1_DP8 # or tp, pp, ep, etp, dp, cp one by one
  convention: megatron      # how EP combines with the rest: megatron, vllm or spanning

workload:
  kind: forward             # or training
  sequences: 64             # of one batch, over all replicas
  sequence_length: 2048
  microbatches: 2           # per batch and pipeline

schedule: {kind: 1f1b, recompute: none}
routing: {kind: multinomial}      # each token draws its experts at random; balanced: all get the same
seed: 1

# What is said about it. A number is met to the precision it is quoted with, or to the tolerance after +-.
claims:
  - id: throughput
    says: "more than a million tokens per second"
    source: "this file"
    metric: tokens_per_s
    expect: ">= 1.0e6 tokens/s"
  - id: optimal
    says: "the fastest strategy for this node"
    source: "this file"
    metric: step_time_s
    superlative: least            # judged against the rivals below

# Facts that are open: the claims are judged once more under each.
alternatives:
  - {model.top_k: 1}
  - {routing.kind: balanced}

# Strategies that could be better.
rivals: [EP1_TP8_PP1_DP1, EP4_TP1_PP2_DP4]
"""
"""The scenario that `moesim init FILE` writes: a small mixture-of-experts model on one node, explained line by line."""


def bundled_folder() -> Path:
    """Return the folder of bundled scenarios: package data when installed, `scenarios/` in a checkout."""
    installed = Path(str(importlib.resources.files("sim.scenario"))).parent / "_scenarios"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "scenarios"


def suites_folder() -> Path:
    """Return the folder of the bundled suites."""
    return bundled_folder() / _SUITES


def list_bundled() -> list[str]:
    """Return the names of the bundled scenarios, in order, with their folders; cases are not among them."""
    return [name for name in _names(bundled_folder()) if name.partition("/")[0] != _SUITES]


def list_suites() -> list[str]:
    """Return the names of the bundled suites, in order."""
    return sorted({name.partition("/")[0] for name in list_cases()})


def list_cases() -> list[str]:
    """Return the names of the bundled validation cases, in order, with their suite: `schedules/zero_bubble`."""
    return [name for name in _names(suites_folder()) if "/" in name]


def find_bundled(name: str) -> Path | None:
    """Return the file of a bundled scenario or case, named with or without folder and `.yaml`; None: none."""
    wanted = name.removesuffix(".yaml")
    cases = [f"{_SUITES}/{case}" for case in list_cases()]
    for names in (list_bundled(), cases):
        matches = [n for n in names if n == wanted] or [n for n in names if n.endswith(f"/{wanted}")]
        if matches:
            return bundled_folder() / f"{matches[0]}.yaml" if len(matches) == 1 else None
    return None


def near_file(path: Path) -> str:
    """Return the hint that names a scenario file in the same folder with nearly the same name; empty if there is none.

    Case and the suffix do not count.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = sorted(
                entry.name for entry in islice(entries, _MAX_ENTRIES) if entry.name.lower().endswith(_SUFFIXES)
            )
    except (OSError, ValueError):
        return ""
    by_stem = {_stem(name): name for name in reversed(names)}
    near = nearest_name(_stem(path.name), by_stem, cutoff=0.75)
    return f"Did you mean `{shown(by_stem[near])}`, in the same folder?" if near else ""


def _names(folder: Path) -> list[str]:
    """Return the names of the scenarios below a folder, in order."""
    paths = (path for path in folder.rglob("*.yaml") if path.name != SUITE_FILE)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in paths)


def _stem(name: str) -> str:
    """Return a file's name without suffix and case."""
    return name.lower().removesuffix(".yaml").removesuffix(".yml")
