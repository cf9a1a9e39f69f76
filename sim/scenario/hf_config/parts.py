"""Parts of a model that the configs of several families name alike."""

from collections.abc import Callable, Sequence
from typing import Final

from sim.scenario.fields import MAX_SIZES
from sim.scenario.hf_config.keys import ConfigKeys

__all__ = ["NOT_SAID", "backbone", "dropout", "experts", "first_dense", "layer_types", "shared_width", "windows"]

NOT_SAID: Final = "The model cannot say this yet: give its fields in the scenario, as near as they come."


def backbone(keys: ConfigKeys) -> None:
    """Take the shape that all families but GPT-2 name alike."""
    keys.count("layers", "num_hidden_layers")
    keys.count("hidden", "hidden_size")
    keys.count("heads", "num_attention_heads")
    keys.count("kv_heads", "num_key_value_heads", optional=True)
    keys.count("vocab", "vocab_size")
    keys.flag_field("tie_word_embeddings", "tie_word_embeddings")
    keys.set("gated", True, "hidden_act")
    dropout(keys, "attention_dropout", "hidden_dropout")


def dropout(keys: ConfigKeys, *names: str) -> None:
    """Take dropout where one of some rates is above 0."""
    for key in names:
        if keys.rate(key):
            keys.set("dropout", True, key)


def experts(keys: ConfigKeys, number: str, width: str) -> None:
    """Take routed experts: their number, those of a token, and their width."""
    keys.count("experts", number)
    keys.count("top_k", "num_experts_per_tok", "experts_per_token")
    keys.count("ffn", width)


def shared_width(keys: ConfigKeys, key: str) -> None:
    """Take one shared expert of a width; 0 is none."""
    width = keys.number(key, optional=True)
    if width:
        keys.set("shared_experts", 1, key)
        keys.count("shared_expert_intermediate_size", key)


def first_dense(keys: ConfigKeys) -> None:
    """Take the step from one layer with experts to the next, and `mlp_only_layers`, which have none.

    The model can say that its first layers are dense. A list of other layers is read where the step leaves them without
    experts anyway.
    """
    num_layers = keys.number("num_hidden_layers", least=1, most=MAX_SIZES["model.layers"]) or 1
    step = keys.count("moe_every", "decoder_sparse_step", optional=True) or 1
    dense = keys.numbers("mlp_only_layers") or []
    if not dense:
        return
    if not set(dense) <= set(range(num_layers)):
        rule = f"list layers from 0 to {num_layers - 1}"
        raise keys.error("mlp_only_layers", rule, dense, "Layers are counted from 0: correct the list.")
    by_step = range(step - 1, num_layers, step)
    sparse = [layer for layer in by_step if layer not in set(dense)]
    num_first = len(dense) if set(dense) == set(range(len(dense))) else (sparse or [num_layers])[0]
    if sparse != [layer for layer in by_step if layer >= num_first]:
        num_first = by_step[len(by_step) - len(sparse)]
        rule = "list the first layers, for the model cannot say yet that a later layer is dense"
        hint = (
            f'In a copy of the file write "mlp_only_layers": {list(range(num_first))}: {len(sparse)} layers have '
            "experts, as many as here, and only the place of the dense layers moves."
        )
        raise keys.error("mlp_only_layers", rule, dense, hint)
    if num_first:
        keys.set("dense_layers", num_first, "mlp_only_layers")


def layer_types(keys: ConfigKeys, kinds: Sequence[str], key: str = "layer_types") -> None:
    """Take the kind of attention of each layer, as the shortest list that repeated gives all layers."""
    length = next(
        n for n in range(1, len(kinds) + 1) if len(kinds) % n == 0 and [*kinds[:n]] * (len(kinds) // n) == [*kinds]
    )
    if set(kinds) != {"full_attention"}:
        keys.set("layer_types", tuple(kinds[:length]), key)


def windows(keys: ConfigKeys, *, every: Callable[[int], bool] | None = None) -> None:
    """Take a sliding window, of the layers that `layer_types` or `every` says.

    `every` tells for a layer whether it has the window where `layer_types` is missing; None: all layers have it.
    """
    num_layers = keys.number("num_hidden_layers", least=1) or 1
    uses = keys.flag("use_sliding_window", default=True)
    window = keys.number("sliding_window", optional=True)
    last = keys.number("max_window_layers", optional=True)
    kinds = keys.names("layer_types", ("full_attention", "sliding_attention"), length=num_layers)
    if not uses or not window or (kinds is not None and "sliding_attention" not in kinds):
        if uses and kinds is not None and "sliding_attention" in kinds:
            raise keys.error("sliding_window", "be given with layer_types", "nothing", "Write its tokens.")
        return
    if kinds is None and every is not None:
        has = [every(layer) and (last is None or layer < last) for layer in range(num_layers)]
        kinds = ["sliding_attention" if it else "full_attention" for it in has]
    keys.count("sliding_window", "sliding_window")
    if kinds is not None:
        layer_types(keys, kinds)
