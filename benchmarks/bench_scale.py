"""Large clusters: processor time and memory of one simulation in a process of its own, on one core.

Times are of the processor, from the start of Python to the metrics. What takes longest runs once.
"""

import json
from pathlib import Path

import pytest
from measuring import Row, note, run_fresh, run_rounds
from pytest_benchmark.fixture import BenchmarkFixture
from scale_cases import CASES

_LONG_S = 20.0
"""Bar from which on a case runs once."""


@pytest.mark.parametrize("name", CASES)
def test_large_cluster(benchmark: BenchmarkFixture, name: str) -> None:
    """Processor time and peak memory of the whole process."""
    case, script = CASES[name], str(Path(__file__).with_name("scale_cases.py"))
    runs = 1 if (case.most_s or 0.0) >= _LONG_S else 3
    (found,) = run_rounds(benchmark, lambda: json.loads(run_fresh([script, name], num_cores=1)[1]), runs=runs)
    note(
        benchmark,
        Row(case=case.says, figure=min(one["cpu_s"] for one in found), unit="s of CPU", bar=case.most_s),
        Row(
            case="... memory of the process at its peak",
            figure=max(one["peak_bytes"] for one in found) / 1e9,
            unit="GB",
            bar=case.most_gb,
        ),
    )
