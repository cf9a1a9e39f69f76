"""The plan of one collective on its own, as nccl-tests and DeepEP's tests run it: all ranks enter it at once.

Model
-----
    size of nccl-tests      all-reduce, broadcast, send: each rank's tensor
                            all-gather, reduce-scatter: the whole tensor
                            all-to-all: what each rank has for all, an equal part for each
    send                    rank i to rank i + 1, the last to the first; of two ranks the first to the second
    dispatch, combine       tokens to their experts and back, in the type of each

Logical bytes of dispatch and combine, over time, are DeepEP's bandwidth; traffic of a rank with itself counts::

    direct, low_latency     tokens * top_k * bytes of a token
    hierarchical            tokens * nodes that each goes to * bytes of a token; on one node ranks instead of nodes
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim.build.work import CollectiveWork
from sim.plan.costs import Costs
from sim.plan.exchange_costs import Tokens
from sim.plan.folding import Folding
from sim.plan.ops import NO_LAYER, Collective, Input, Op, Send, Transfer
from sim.plan.transfer_costs import Choice, TransferSms
from workloads.collectives import OPERATIONS
from workloads.collectives.node_relay import distinct_tokens
from workloads.routing import draw_counts, node_probabilities
from workloads.schedules import Pass, Schedule, Step, build_schedule

__all__ = ["CollectivePlan"]


class CollectivePlan:
    """One collective as a stage of one pass."""

    def __init__(self, work: CollectiveWork, *, sms: Mapping[str, TransferSms] | None = None) -> None:
        """Plan `work`; `sms` are those of each operation that takes some, by default those of its settings."""
        self.work = work
        cluster = work.cluster
        self.costs = Costs(
            cluster,
            dtype="bf16",
            network=work.network,
            is_random=True,
            sms=sms,
            factors=work.factors,
        )
        self.costs.pairs.is_on = True  # one matrix, which is here anyway
        self.lane_ranks: NDArray[np.intp] = work.ranks.reshape(1, 1, -1)
        self.capacity_bytes_per_s = cluster.capacity_bytes_per_s
        self.can_saturate = cluster.can_saturate
        self.link_names, self.link_kinds = cluster.link_names, cluster.link_kinds
        self.folding: Folding | None = None
        self.shares_compute = False
        self.num_sms = self.costs.num_sms
        self.fidelity = work.network.fidelity
        self.logical_bytes = work.num_bytes
        self.transfer = self._transfer()

    @property
    def choice(self) -> Choice:
        """Its algorithm and protocol."""
        work, costs = self.work, self.costs
        if OPERATIONS[work.op].has_algorithms:
            (choice,) = costs.transfers.choices.values()
            return choice
        if OPERATIONS[work.op].is_exchange:
            name, protocol = work.network.all_to_all, costs.exchanges.protocol
        else:
            name, protocol = "send", costs.transfers.pricing.only_protocol("send")
        time_ns = self.transfer.latency_ns + self.transfer.alone_ns
        return Choice(work.op, work.ranks.size, self.logical_bytes, name, protocol.name, time_ns)

    def schedule(self, lane: int) -> Schedule:
        """Return one pass."""
        del lane
        return build_schedule("gpipe", num_stages=1, num_microbatches=1, forward=True)

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return nothing: it starts at once."""
        del stage, step
        return ()

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...]:
        """Return the collective."""
        del stage, lane, step
        return (Collective(kind=OPERATIONS[self.work.op].kind, layer=NO_LAYER, transfers=(self.transfer,)),)

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return no sends: a collective has no next stage."""
        del stage, lane, pass_
        return ()

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: no transfer runs next to passes."""
        del stage, lane
        return ()

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return no ops: nothing follows a collective."""
        del stage, lane
        return ()

    # ---- private -------------------------------------------------------------------------------------------------

    def _transfer(self) -> Transfer:
        work, ranks = self.work, self.work.ranks
        if OPERATIONS[work.op].has_algorithms:
            return self.costs.transfers.collective(work.op, ranks, work.num_bytes, group=0)
        if not OPERATIONS[work.op].is_exchange:
            ends = (ranks, np.roll(ranks, -1)) if ranks.size > 2 else (ranks[:1], ranks[1:])
            return self.costs.transfers.send(*ends, work.num_bytes, group=0)
        if not OPERATIONS[work.op].is_expert_exchange:
            return self._all_to_all()
        dispatch, combine = self._round_trip()
        return dispatch if work.op == "dispatch" else combine

    def _all_to_all(self) -> Transfer:
        """Return an exchange of equal parts; by way of nodes none of them is another's copy."""
        work, ranks, exchanges = self.work, self.work.ranks, self.costs.exchanges
        matrix = np.full((1, ranks.size, ranks.size), work.num_bytes / ranks.size)
        if not work.network.all_to_all_algorithm.relays_by_node:
            return exchanges.round_trips(ranks, ranks, matrix, group=0)[0][0]
        node, _ = work.cluster.node_positions(ranks)
        to_nodes = matrix @ np.eye(int(node.max()) + 1)[node]
        return exchanges.relayed_trips(ranks, ranks, Tokens(to_ranks=matrix, to_nodes=to_nodes), group=0)[0][0]

    def _round_trip(self) -> tuple[Transfer, Transfer]:
        work, ranks, exchanges = self.work, self.work.ranks, self.costs.exchanges
        node, _ = work.cluster.node_positions(ranks)
        num_nodes = int(node.max()) + 1
        counts = draw_counts(
            work.routing.kind,
            num_sources=ranks.size,
            tokens=work.tokens,
            num_experts=work.experts,
            top_k=work.top_k,
            seed=work.seed,
            layers=[0],
            microbatches=[0],
            skew=work.routing.skew,
            num_nodes=num_nodes,
            max_nodes=work.routing.max_nodes_per_token,
        )[0]
        owner = np.repeat(np.arange(ranks.size), work.experts // ranks.size)
        if not work.network.all_to_all_algorithm.relays_by_node:
            self.logical_bytes = work.tokens * work.top_k * work.num_bytes
            matrix = counts[0].reshape(ranks.size, ranks.size, -1).sum(axis=2) * work.num_bytes
            return exchanges.round_trip(ranks, ranks, matrix, group=0)
        to_ranks, to_nodes = (self._distinct(counts, of, node[owner]) for of in (owner, node[owner]))
        counted = to_nodes if num_nodes > 1 else to_ranks
        self.logical_bytes = float(counted.sum()) / ranks.size
        return exchanges.relayed_trips(ranks, ranks, Tokens(to_ranks=to_ranks, to_nodes=to_nodes), group=0)[0]

    def _distinct(
        self, counts: NDArray[np.int64], owner: NDArray[np.intp], node: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        work, limit, chances = self.work, self.work.routing.max_nodes_per_token, None
        if limit is not None:
            chances = node_probabilities(
                work.routing.kind,
                num_experts=work.experts,
                top_k=work.top_k,
                seed=work.seed,
                draws=[(0, 0)],
                skew=work.routing.skew,
                num_nodes=int(node.max()) + 1,
                max_nodes=limit,
            )
        tokens = distinct_tokens(
            counts,
            owner,
            tokens=float(work.tokens),
            top_k=work.top_k,
            group=node,
            max_groups=limit,
            group_chances=chances,
        )
        return tokens * work.num_bytes
