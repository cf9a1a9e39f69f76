"""Every name that a claim may use as its metric, with unit and meaning.

A metric is written as its name, or with the group it stands in: `fits`, `memory.fits`.
"""

from dataclasses import dataclass

__all__ = ["CATALOG", "Metric", "resolve_metric", "unit_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a name means."""

    group: str
    """metrics, memory or mesh: where it stands in the JSON."""
    unit: str | None
    """SI unit, `ratio` (printed in %), `ratio1` (around 1, printed bare), `flag`, or None for counts."""
    meaning: str
    """Description of the metric, in one line."""


def _table(group: str, rows: str) -> dict[str, Metric]:
    """Read rows of `name | unit | meaning`."""
    table = {}
    for row in rows.strip().splitlines():
        name, unit, meaning = (cell.strip() for cell in row.split("|", 2))
        table[name] = Metric(group=group, unit=unit or None, meaning=meaning)
    return table


CATALOG: dict[str, Metric] = {
    **_table(
        "metrics",
        """
        step_time_s | s | first start to last end
        latency_s | s | of a batch: last end minus first start of its passes, mean over batches
        tokens_per_s | tokens/s | tokens of all batches over the step time, dropped copies included
        steady_tokens_per_s | tokens/s | slope over batches, without fill and drain of the pipeline
        tokens_per_s_per_gpu | tokens/s | tokens_per_s over all GPUs
        bubble_fraction | ratio | no pass open, over the step time, mean over stages
        stall_fraction | ratio | pass open and its compute idle: transfers, latency, contention, hot ranks
        foreign_fraction | ratio | computing experts for other stages (spanning convention)
        bubble_fraction_published_form | ratio | (longest own span - most time in passes) / span (Qi et al. 2024)
        mfu | ratio | model FLOPs over peak, attention in full (as Megatron counts)
        mfu_causal | ratio | as mfu, with the half of attention that a causal mask leaves
        hfu | ratio | as mfu, with the FLOPs that are computed again
        model_flops_per_s_per_gpu | FLOP/s | model FLOPs over the step time and all GPUs
        exposed_communication_s | s | communication on the path that no kernel of its stage hides, latency included
        exposed_communication_fraction | ratio | the same over the step time
        uncovered_s | s | a pass open and no kernel of the stage running, mean over stages
        exposed_tp_s | s | tensor-parallel collectives on the path
        exposed_tp_fraction | ratio | the same over the step time
        exposed_ep_s | s | dispatch and combine of experts on the path
        exposed_ep_fraction | ratio | the same over the step time
        exposed_pp_s | s | transfers between stages on the path
        exposed_pp_fraction | ratio | the same over the step time
        exposed_ep_moves_s | s | copies of experts to where a new plan has them, on the path
        exposed_dp_s | s | gradient reduction on the path
        exposed_cp_s | s | what context parallelism exchanges around attention, on the path
        tp_fraction | ratio | tensor-parallel collectives a stage waits for, mean over stages
        ep_fraction | ratio | dispatch and combine a stage waits for, mean over stages
        pp_fraction | ratio | a stage waits for a transfer of another stage, mean over stages
        imbalance_max_over_mean | ratio1 | busiest rank's expert tokens over the mean, mean over layers, microbatches
        dropped_fraction | ratio | copies of tokens that no expert computes, over those routed
        rerouted_fraction | ratio | copies of tokens that another expert than their own computes, over those routed
        stage_compute_max_over_mean | ratio1 | busiest stage's own compute over the mean of the stages
        collective_time_s | s | of a collective on its own: first start to last end
        algbw_bytes_per_s | bytes/s | size of nccl-tests, or logical bytes of dispatch and combine, over that time
        busbw_bytes_per_s | bytes/s | algbw as nccl-tests turns it into bus bandwidth
        held_bytes | bytes | most that a stage's microbatches hold (passes with workload.held)
        held_microbatches | ratio1 | the same over what a microbatch holds from F to B
        ttft_mean_s | s | time to the first token of a request, mean (serving)
        ttft_p50_s | s | time to the first token of a request, median (serving)
        ttft_p90_s | s | time to the first token of a request, 90th percentile (serving)
        ttft_p99_s | s | time to the first token of a request, 99th percentile (serving)
        tpot_mean_s | s | mean time of the further tokens of a request, mean (serving)
        tpot_p50_s | s | mean time of the further tokens of a request, median (serving)
        tpot_p90_s | s | mean time of the further tokens of a request, 90th percentile (serving)
        tpot_p99_s | s | mean time of the further tokens of a request, 99th percentile (serving)
        itl_mean_s | s | time between two tokens of a request, mean (serving)
        itl_p50_s | s | time between two tokens of a request, median (serving)
        itl_p90_s | s | time between two tokens of a request, 90th percentile (serving)
        itl_p99_s | s | time between two tokens of a request, 99th percentile (serving)
        e2e_latency_mean_s | s | time to the last token of a request, mean (serving)
        e2e_latency_p50_s | s | time to the last token of a request, median (serving)
        e2e_latency_p90_s | s | time to the last token of a request, 90th percentile (serving)
        e2e_latency_p99_s | s | time to the last token of a request, 99th percentile (serving)
        queue_mean_s | s | time until the first step that computes tokens of a request, mean (serving)
        queue_p50_s | s | time until the first step that computes tokens of a request, median (serving)
        queue_p90_s | s | time until the first step that computes tokens of a request, 90th percentile (serving)
        queue_p99_s | s | time until the first step that computes tokens of a request, 99th percentile (serving)
        output_tokens_per_s | tokens/s | tokens of answers, first arrival to last token (serving)
        total_tokens_per_s | tokens/s | the same with tokens of prompts (serving)
        output_tokens_per_s_per_gpu | tokens/s | output_tokens_per_s over all GPUs (serving)
        total_tokens_per_s_per_gpu | tokens/s | total_tokens_per_s over all GPUs (serving)
        tokens_per_s_per_user | tokens/s | 1 / mean of the time of a further token (serving)
        requests_per_s | | requests ended a second (serving)
        goodput_requests_per_s | | requests that meet every promise of workload.slo a second (serving)
        slo_attainment | ratio | part of the requests that meet every promise (serving)
        num_requests | | requests that the metrics count, without those of the warm-up (serving)
        num_preemptions | | preemptions of requests (serving)
        prefix_hit_fraction | ratio | tokens of prompts that were found in the cache, over all of them (serving)
        kv_blocks | | KV blocks of one data-parallel rank (serving)
        kv_use_mean | ratio | KV blocks in use, mean over steps and ranks (serving)
        kv_use_max | ratio | most KV blocks in use on one rank (serving)
        running_mean | ratio1 | requests in service, mean over steps (serving)
        waiting_mean | ratio1 | requests that wait, mean over steps (serving)
        waiting_max | | most requests that wait in a group of ranks (serving)
        largest_batch | | most requests in the batch of one rank (serving)
        num_steps | | steps of all groups of ranks (serving)
        is_stable | flag | whether the queue does not grow while requests arrive (serving)
        num_params | | parameters of the model
        num_active_params | | parameters that a token meets, one row of the embedding among them
        num_params_per_gpu | | most parameters on one GPU
        num_gpus | | GPUs of the mesh
        """,
    ),
    **_table(
        "memory",
        """
        total | bytes | peak of one GPU
        weights | bytes | weights at the peak
        gradients | bytes | gradients at the peak (training)
        optimizer | bytes | optimizer state at the peak (training)
        states | bytes | weights, gradients and optimizer state at the peak
        activations | bytes | activations at the peak, without those of experts
        expert_activations | bytes | activations of tokens that arrived for experts, on the hottest rank at the peak
        kv_cache | bytes | keys and values at the peak (forward)
        logits | bytes | output of the head at the peak
        buffers | bytes | send and receive buffers
        reserved | bytes | context and communicators: taken of the capacity, and no part of the peak
        capacity_bytes | bytes | memory of the device that a framework can allocate
        fits | flag | whether the peak and what is reserved are within the capacity
        peak_fraction | ratio | peak over capacity
        peak_stage | | stage of the peak
        peak_rank | | rank of the peak
        peak_time_s | s | time of the peak
        """,
    ),
    **_table(
        "mesh",
        """
        tp | | tensor-parallel size
        pp | | pipeline stages
        ep | | expert-parallel size
        dp | | data-parallel size
        tp_times_pp | | TP x PP
        ep_times_pp | | EP x PP
        gpus_required_megatron | | least number of GPUs on which Megatron's rule allows the axes
        legal_megatron | flag | whether the strategy is legal under Megatron's rule on this cluster
        legal_vllm | flag | the same under vLLM's rule
        legal_spanning | flag | the same in the spanning reading
        stages_are_consecutive | flag | whether stage i stands on the i-th block of GPUs
        expert_is_its_gpu | flag | whether expert e is on GPU e, one on each
        layers_per_stage_max | | layers of the fullest stage
        layers_per_stage_min | | layers of the emptiest stage
        heads_per_rank | | attention heads of a TP rank
        hidden_per_rank | | hidden / TP
        experts_per_gpu | | experts of a layer on one GPU
        experts_on_stage | | experts of a layer on the GPUs of the layer's own stage
        experts_off_stage | | experts of a layer on other stages' GPUs
        expert_params_per_gpu | | expert parameters that a GPU holds
        expert_params_per_gpu_of_own_layers | | expert parameters of a GPU that has the layers of its stage alone
        tp_nodes | | nodes that a TP group spans
        ep_nodes | | nodes that an EP group spans
        exchange_completes | flag | whether the expert exchange, entered as `parallel.exchange` says, ends
        blocking_exchange_completes | flag | whether the expert exchange ends when entered as one blocking collective
        """,
    ),
}
"""Metric by name."""


def resolve_metric(name: str) -> str | None:
    """Return the catalogue's name of what a claim calls its metric, or None.

    >>> resolve_metric("memory.peak_bytes_per_gpu.total"), resolve_metric("mesh.tp"), resolve_metric("speed")
    ('total', 'tp', None)
    """
    group, _, rest = name.rpartition(".")
    if rest not in CATALOG:
        return None
    also = {"mesh"} if rest == "num_gpus" else set()
    allowed = (
        {"", CATALOG[rest].group} | also | ({"memory.peak_bytes_per_gpu"} if CATALOG[rest].group == "memory" else set())
    )
    return rest if group in allowed else None


def unit_of(name: str) -> str | None:
    """Return the unit in which a metric is printed; a ratio around 1 is printed bare."""
    unit = CATALOG[name].unit
    return None if unit in ("ratio1", "flag") else unit
