"""Launch flags of frameworks for a candidate: what their command lines call its axes.

References
----------
Megatron-LM `arguments.py`; vLLM engine arguments; SGLang server arguments (there TP counts the GPUs of a stage, DP
attention included).
"""

from typing import Final

from sim.errors import InvalidValueError
from sim.studies.search.space import Candidate
from workloads.conventions import CONVENTIONS

__all__ = ["FRAMEWORKS", "launch_flags"]

FRAMEWORKS: Final = ("megatron", "vllm", "sglang")
"""Frameworks whose flags are known."""


def launch_flags(candidate: Candidate, framework: str, *, sequences: int, sequence_length: int) -> str:
    """Return the flags of a framework.

    Raises
    ------
    InvalidValueError
        The framework is not known, or cannot run the candidate.
    """
    if framework not in FRAMEWORKS:
        raise InvalidValueError("--as", f"be one of {', '.join(FRAMEWORKS)}", framework, "For example: --as megatron")
    s = candidate.strategy
    if framework == "megatron":
        if not candidate.rules.splits_sequence_over_tp:
            raise _other(framework, candidate)
        return " ".join(_megatron(candidate, sequences, sequence_length))
    if candidate.rules.supports_training:
        raise _other(framework, candidate)
    has_experts = s.ep > 1
    if framework == "vllm":
        flags = [f"--tensor-parallel-size {s.tp}", f"--pipeline-parallel-size {s.pp}"]
        flags += [f"--data-parallel-size {s.dp or 1}"]
        return " ".join([*flags, *(["--enable-expert-parallel"] if has_experts else [])])
    dp = s.dp or 1
    flags = [f"--tp-size {s.tp * dp}", f"--pp-size {s.pp}"]
    flags += [f"--dp-size {dp}", "--enable-dp-attention"] if dp > 1 else []
    return " ".join([*flags, *([f"--ep-size {s.ep}"] if has_experts else [])])


def _other(framework: str, candidate: Candidate) -> InvalidValueError:
    meaning = CONVENTIONS[candidate.convention].name
    hint = f"Fix the convention: --fix parallel.convention={'megatron' if framework == 'megatron' else 'vllm'}"
    return InvalidValueError("--as", f"be a framework of the convention {meaning}", framework, hint)


def _megatron(candidate: Candidate, sequences: int, sequence_length: int) -> list[str]:
    s = candidate.strategy
    size = sequences // ((s.dp or 1) * candidate.microbatches)
    flags = [f"--tensor-model-parallel-size {s.tp}", f"--pipeline-model-parallel-size {s.pp}"]
    flags += ["--sequence-parallel"] if s.tp > 1 else []
    flags += [f"--context-parallel-size {s.cp}"] if s.cp > 1 else []
    if s.ep > 1 or s.etp > 1:
        flags += [f"--expert-model-parallel-size {s.ep}", f"--expert-tensor-parallel-size {s.etp}"]
    flags += [f"--num-virtual-stages-per-pipeline-rank {s.vpp}"] if s.vpp > 1 else []
    flags += [f"--micro-batch-size {size}", f"--global-batch-size {sequences}", f"--seq-length {sequence_length}"]
    if candidate.recompute == "full":
        flags += ["--recompute-granularity full", "--recompute-method uniform", "--recompute-num-layers 1"]
    elif candidate.recompute == "selective":
        flags += ["--recompute-granularity selective"]
    return flags + (["--use-distributed-optimizer"] if candidate.zero else [])
