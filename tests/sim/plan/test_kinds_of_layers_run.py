"""Every kind of layer under schedules and recomputation: traces have the FLOPs of the model, and all tokens."""

from dataclasses import replace

import pytest
from works import change, make_model, make_work

from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from workloads.blocks.recompute import RECOMPUTE_MODULES, Recompute
from workloads.memory import activation_bytes_per_microbatch

SMALL = make_model(layers=8)
LATENT = replace(
    SMALL,
    q_lora_rank=48,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    shared_experts=1,
    dense_layers=2,
    scoring_func="sigmoid",
    use_routing_bias=True,
)
MODELS = {
    "latent": LATENT,
    "MTP": replace(LATENT, num_nextn_predict_layers=1),
    "windows": replace(SMALL, sliding_window=64, sliding_window_every=2, attention_sinks=True),
    "chunks": replace(
        SMALL, attention_chunk_size=128, layer_types=("chunked_attention", "full_attention"), moe_every=2
    ),
    "linear": replace(
        SMALL,
        layer_types=("linear_attention", "linear_attention", "linear_attention", "full_attention"),
        linear_num_key_heads=4,
        linear_num_value_heads=8,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_conv_kernel_dim=4,
        attn_output_gate=True,
        shared_experts=1,
        shared_expert_intermediate_size=128,
        shared_expert_gate=True,
    ),
    "hybrid": replace(
        SMALL,
        hybrid_override_pattern="ME*-",
        mamba_num_heads=8,
        mamba_head_dim=16,
        ssm_state_size=32,
        n_groups=4,
        conv_kernel=4,
        chunk_size=64,
        tie_word_embeddings=True,
        fp32_lm_head=True,
    ),
}
EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def run(work):
    """Run a work, each lane for itself."""
    return run_plan(PipelinePlan(work, folds=False), link_timeline=False)


def expected_flops(work):
    """Return the FLOPs of forward and backward passes, whose scores take 2.5 times those of a forward pass."""
    model, length = work.model, work.sequence_length
    layers = model.flops_per_token(length, causal=True, with_head=False, with_mtp=work.kind.trains)
    head = 2.0 * model.num_embedding_params * work.num_heads
    head_tokens = work.head_tokens * work.num_microbatches * work.mesh.dp
    if not work.kind.trains:
        return layers * work.batch_tokens + head * head_tokens
    kinds = model.layer_kinds(work.layers)
    scores = sum(
        count * layer.attention.score_flops_per_token(length, causal=True)
        for layer, count in kinds
        if layer.attention is not None
    )
    return (3 * layers + 0.5 * scores) * work.batch_tokens + 3 * head * head_tokens


@EVERY_MODEL
@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("forward", "1f1b"), ("training", "1f1b"), ("training", "zb_h1"), ("training", "dualpipe")],
)
def test_a_run_executes_the_flops_of_the_model_and_computes_every_token(model, kind, schedule):
    work = make_work(
        "EP2_TP1_PP4_DP2",
        "megatron",
        num_gpus=8,
        model=model,
        kind=kind,
        schedule=schedule,
        microbatches=8,
        sequences=32,
        routing="multinomial",
    )
    ran = run(work)
    assert float(ran.trace["flops"].sum()) == pytest.approx(expected_flops(work), rel=1e-9)
    moe_layers = sum(map(work.model.is_moe_layer, work.layers))
    assert ran.tokens_routed == ran.tokens_computed == work.batch_tokens * model.top_k * moe_layers


@EVERY_MODEL
def test_recomputation_executes_what_the_model_says_it_recomputes(model):
    """All modules at once, without the scores of attention, which are counted in full and run for a causal mask."""
    work = make_work("EP2_TP1_PP2_DP4", "megatron", num_gpus=8, model=model, kind="training", sequences=32)
    modules = tuple(module for module in RECOMPUTE_MODULES if module != "core_attn")
    again = Recompute("selective", modules)
    more = float(run(change(work, recompute="selective", recompute_modules=modules)).trace["flops"].sum())
    more -= float(run(work).trace["flops"].sum())
    expected = model.recomputed_flops_per_token(again, work.sequence_length, with_mtp=True) * work.batch_tokens
    assert more == pytest.approx(expected, rel=1e-9, abs=1)


@EVERY_MODEL
def test_full_recomputation_of_the_first_layers_of_each_chunk_runs_these_again_and_keeps_the_others(model):
    """Two stages of four layers, of which the first is recomputed: layers 0 and 4."""
    work = make_work("EP2_TP1_PP2_DP4", "megatron", num_gpus=8, model=model, kind="training", sequences=32)
    partly = replace(work, recompute=Recompute("full", num_layers=1))
    more = float(run(partly).trace["flops"].sum()) - float(run(work).trace["flops"].sum())
    again = sum(model.layer(layer).flops_per_token(work.sequence_length, causal=True) for layer in (0, 4))
    assert more == pytest.approx(again * work.batch_tokens, rel=1e-9)
    plain, whole, first = (
        [sum((chunk.activations, chunk.expert_activations)) for chunk in stage_memory(of, 0).chunks]
        for of in (work, replace(work, recompute=Recompute("full")), partly)
    )
    inputs = 2 * model.hidden * work.tokens  # bf16
    layer = activation_bytes_per_microbatch(model, work.mesh, [0], work.tokens, "none")
    assert whole == [4 * inputs]
    assert first == pytest.approx([plain[0] - layer + inputs], rel=1e-9)


@EVERY_MODEL
def test_layers_on_the_host_take_as_long_as_their_copy_and_leave_two_of_them_on_the_device(model):
    """A host so slow that each copy takes longer than its layer: F and B are copies and what is outside of layers."""
    work = make_work("EP2_TP1_PP1_DP8", "megatron", num_gpus=8, model=model, kind="training", sequences=32)
    layer_bytes = [activation_bytes_per_microbatch(model, work.mesh, [at], work.tokens, "none") for at in (0, 1)]
    slow = replace(work.cluster.device, host_bytes_per_s=max(layer_bytes) / 0.5)  # half a second a copy
    offloaded = replace(work, cluster=replace(work.cluster, device=slow), offload_layers=2)
    traces = [run(of).trace for of in (work, offloaded)]
    plain_s, copied_s = ((int(trace["end_ns"].max()) - int(trace["start_ns"].min())) / 1e9 for trace in traces)
    copies_s = 2 * work.microbatches * sum(layer_bytes) / slow.host_bytes_per_s
    assert copies_s < copied_s < copies_s + plain_s
    kept, device = (stage_memory(of, 0) for of in (work, offloaded))
    moved = [sum(chunk.activations + chunk.expert_activations for chunk in memory.chunks) for memory in (kept, device)]
    assert moved[0] - moved[1] == pytest.approx(sum(layer_bytes))
    assert device.buffers - kept.buffers == pytest.approx(2 * max(layer_bytes))


def test_layers_on_the_host_go_with_neither_recomputation_nor_a_pipeline_nor_a_forward_pass():
    for changes in (
        {"strategy": "EP2_TP1_PP2_DP4", "kind": "training"},
        {"strategy": "EP2_TP1_PP1_DP8", "kind": "training", "recompute": "full"},
        {"strategy": "EP2_TP1_PP1_DP8", "kind": "forward"},
    ):
        strategy = changes.pop("strategy")
        work = make_work(strategy, "megatron", num_gpus=8, model=SMALL, sequences=32, **changes)
        with pytest.raises(InvalidValueError, match=r"schedule.offload_layers must be left out"):
            replace(work, offload_layers=1)
