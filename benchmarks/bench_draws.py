"""What a draw of tokens costs, by law and shape: one layer of one microbatch, with nothing kept from draws before."""

import time

import pytest
from measuring import Row, note, run_rounds, without_kept_draws
from pytest_benchmark.fixture import BenchmarkFixture

from workloads.routing import Skew, draw_counts, draw_for_hosts

_MICROBATCHES = range(4)
_LAYERS = range(2)
# sources, tokens, experts, top_k, hosts (None: every source's copies for every expert)
SHAPES = [(64, 4096, 256, 8, 64), (64, 4096, 256, 8, None), (32, 4096, 128, 2, None), (16, 5120, 64, 2, None)]


@pytest.mark.parametrize("kind", ["multinomial", "zipf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_draw(benchmark: BenchmarkFixture, kind: str, shape: tuple[int, int, int, int, int | None]) -> None:
    """Processor time of two layers of four microbatches drawn together, for each of the eight."""
    sources, tokens, experts, top_k, hosts = shape
    keys = {"num_sources": sources, "tokens": tokens, "num_experts": experts, "top_k": top_k, "seed": 1}
    keys |= {"layers": _LAYERS, "microbatches": _MICROBATCHES, "skew": Skew(skew=0.5 if kind == "zipf" else 0.0)}

    def measured() -> float:
        began = time.process_time()
        draw_counts(kind, **keys) if hosts is None else draw_for_hosts(kind, num_hosts=hosts, **keys)
        return (time.process_time() - began) / len(_LAYERS) / len(_MICROBATCHES)

    with without_kept_draws():
        (found,) = run_rounds(benchmark, measured)
    case = f"draw: {kind}, {sources} ranks x {tokens:,} tokens, top-{top_k} of {experts} experts"
    case += "" if hosts is None else f", for {hosts} ranks"
    note(benchmark, Row(case=case, figure=min(found) * 1e6, unit="us"))
