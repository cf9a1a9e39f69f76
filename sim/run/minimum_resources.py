"""What a run needs at the least, counted before anything of it is planned.

Model
-----
    ops of a pass    1 for attention, 1 for a dense FFN, 3 for experts; with TP > 1 1 or 2 collectives for a block
    rows             1 for an op, more where experts serve other stages: one for each rank that holds some
    cells            sources x experts of a layer's routing, times top_k + 1 where tokens choose at random, then for
                     each microbatch and lane; flow by flow also twice sources x hosts of each exchange
    events           1 for an op of up to 1,000 ranks, and 1 for 1,000 cells, which take as long
    bytes            of the process + 0.6 kB for an op + 0.5 kB for a row, and what is held: 0.6 kB for a link,
                     16 B for a source and an expert and 32 B for a source and a host of one layer's routing

Assumptions
-----------
Exchanges and what follows the last pass are left out, and so are lanes that another may run for: a run needs more. How
much more, `estimate_run` asks the plan, which takes as long as planning does.
"""

from sim.build.work import CollectiveWork, Work
from sim.run.limits import OP_BYTES, PROCESS_BYTES, ROW_BYTES, Estimate

__all__ = ["held_bytes", "minimum_of_collective", "minimum_of_passes", "minimum_of_work"]

_LINK_BYTES = 600.0  # in the graph and in arrays: 1,024 nodes have 115 thousand links, 2,048 have 360 thousand
_CELL_BYTES, _PAIR_BYTES = 16.0, 32.0
_EXCHANGES = ("all_to_all", "dispatch", "combine")
_EVENTS_OF_ONE = 4  # of a pass with one transfer
_PER_EVENT = 1000  # cells, or ranks of an op, that take as long as an event: some 10 us


def minimum_of_work(work: Work) -> Estimate:
    """Return what a run of `work` needs at the least."""
    mesh = work.mesh
    lanes = mesh.num_lanes if _all_lanes_run(work) else 1
    num_passes = lanes * work.num_microbatches * (2 if work.kind == "training" else 1)
    num_ops = num_passes * _ops_of_layers(work)
    hosted = num_passes * work.model.num_moe_layers if mesh.convention.experts_span_stages else 0
    num_rows = num_ops + hosted * mesh.world
    return Estimate(
        num_ops=num_ops,
        num_events=num_ops * (1 + mesh.lane_size // _PER_EVENT) + _cells(work, lanes) // _PER_EVENT,
        memory_bytes=PROCESS_BYTES + num_ops * OP_BYTES + num_rows * ROW_BYTES + held_bytes(work),
    )


def minimum_of_passes(*, num_stages: int, num_microbatches: int) -> Estimate:
    """Return what a pipeline of passes of given length needs at the least: an op for each pass.

    >>> minimum_of_passes(num_stages=4, num_microbatches=8).num_ops
    64
    """
    num_ops = 2 * num_stages * num_microbatches
    memory_bytes = PROCESS_BYTES + num_ops * (OP_BYTES + ROW_BYTES)
    return Estimate(num_ops=num_ops, num_events=num_ops, memory_bytes=memory_bytes)


def minimum_of_collective(work: CollectiveWork) -> Estimate:
    """Return what a collective on its own needs at the least: its pairs of ranks, or the hops of its rings."""
    num_ranks = work.ranks.size
    cells = num_ranks * (num_ranks if work.op in _EXCHANGES else 1) + num_ranks * work.experts * (work.top_k + 1)
    held = cells * (_CELL_BYTES + _PAIR_BYTES) + work.cluster.least_num_links * _LINK_BYTES
    return Estimate(num_ops=1, num_events=_EVENTS_OF_ONE + cells // _PER_EVENT, memory_bytes=PROCESS_BYTES + held)


def held_bytes(work: Work) -> float:
    """Return the memory of the cluster's links and of one layer's routing."""
    sources, hosts = _exchange(work)
    routing = sources * (work.model.experts * _CELL_BYTES + hosts * _PAIR_BYTES)
    return work.cluster.least_num_links * _LINK_BYTES + routing


# ---- private -----------------------------------------------------------------------------------------------------


def _ops_of_layers(work: Work) -> int:
    """Return the ops of all layers in one pass of one microbatch on one lane, at the least."""
    mesh, model = work.mesh, work.model
    over_tp = 0 if mesh.strategy.tp == 1 else 2 if mesh.sp else 1
    after_experts = 1 if mesh.strategy.tp > 1 and not mesh.sp else 0
    num_dense = model.layers - model.num_moe_layers
    return model.layers * (1 + over_tp) + num_dense * (1 + over_tp) + model.num_moe_layers * (3 + after_experts)


def _all_lanes_run(work: Work) -> bool:
    """Tell whether surely no lane runs for another: see `sim.plan.lane_equivalence`."""
    draws = work.routing != "balanced" and work.model.num_moe_layers > 0
    return draws or work.mesh.convention.experts_span_stages or work.fidelity == "flow"


def _exchange(work: Work) -> tuple[int, int]:
    """Return the ranks of a lane that send tokens, and those that hold a layer's experts; none in a dense model."""
    mesh = work.mesh
    if not work.model.num_moe_layers:
        return 0, 0
    if mesh.replicates_tokens_over_tp:
        return 1, mesh.strategy.ep
    return mesh.lane_size, mesh.strategy.ep


def _cells(work: Work, lanes: int) -> int:
    """Return the cells of routing that are worked out, weighted by the choices that each takes."""
    sources, hosts = _exchange(work)
    table, exchanges = sources * work.model.experts, work.model.num_moe_layers * lanes * work.num_microbatches
    pairs = 2 * sources * hosts * exchanges if work.fidelity == "flow" else 0
    if work.routing == "balanced":
        return work.model.num_moe_layers * lanes * table + pairs
    return exchanges * table * (work.model.top_k + 1) + pairs
