"""Operations that a device profile prices: their shapes, FLOPs and bytes, and the distance between two shapes.

Model
-----
A measured time is stored as a ratio to a roofline, which holds most of the dependence on the shape::

    roofline_s = max(flops / peak_flops_per_s, bytes / memory_bandwidth_bytes_per_s) + LAUNCH_S

The ratio varies slowly over the coordinates of a shape: the base-2 logarithms of its sizes and of its work (FLOPs or
bytes), each divided by its spread. A spread is the number of octaves over which a measured point still speaks for its
neighbours: 0.7 octaves for the rows of a GEMM, whose efficiency follows tiles and waves, and 1.5 for its columns and
depth. The spreads were chosen on shapes that were left out of all devices together, by `moesim validate kernels`, and
never for a device.

Assumptions
-----------
- Causal attention counts half of the square of scores.
- Attention reads query, key and value once and writes the output once; the backward pass moves three times as much.
- A launch costs `LAUNCH_S`. The ratio holds what it costs beyond that.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from topology.device import Device
from topology.profiles.formats import FORMATS, Format
from topology.profiles.operation import Coordinate, Fallback, Floats, Operation, Shape

__all__ = ["BACKWARD_SLOWDOWN", "LAUNCH_S", "OPERATIONS", "WEIGHT_GRADIENT_SLOWDOWN", "roofline_s"]

LAUNCH_S: Final = 3e-6
"""Time of a kernel that does nothing: the smallest GEMMs and decode steps of the measured tables last 2 to 5 us."""


def _size(name: str) -> Callable[[Shape], Floats]:
    return lambda shape: shape[name]


def _coordinates(**spreads: float) -> tuple[Coordinate, ...]:
    return tuple(Coordinate(_size(name), spread) for name, spread in spreads.items())


# ---- matrix products ---------------------------------------------------------------------------------------------


def _gemm_flops(shape: Shape) -> Floats:
    return 2 * shape["m"] * shape["n"] * shape["k"]


def _gemm_bytes(shape: Shape, fmt: Format) -> Floats:
    m, n, k = shape["m"], shape["n"], shape["k"]
    return m * k * fmt.input_bytes + k * n * fmt.weight_bytes + 2 * m * n


def _weight_gradient_bytes(shape: Shape, fmt: Format) -> Floats:
    """Return the bytes of [m, k] x [k, n] that adds to a gradient in fp32."""
    m, n, k = shape["m"], shape["n"], shape["k"]
    return (m * k + k * n) * fmt.input_bytes + 8 * m * n


def _grouped(price: Callable[[Shape, Format], Floats]) -> Callable[[Shape, Format], Floats]:
    return lambda shape, fmt: shape["experts"] * price(shape, fmt)


def _of_experts(shape: Shape) -> Shape:
    """Return fused experts with m tokens each, of weights as large as those of a grouped product."""
    width = np.sqrt(shape["n"] * shape["k"] / 2)
    pairs = shape["experts"] * shape["m"]
    experts = {"experts": shape["experts"], "active": shape["experts"], "busiest": shape["m"]}
    return {"pairs": pairs, **experts, "hidden": width, "ffn": width}


def _of_one(shape: Shape) -> Shape:
    """Return the product of one expert."""
    return {name: shape[name] for name in ("m", "n", "k")}


def _transposed(shape: Shape) -> Shape:
    """Return the forward product of the gradient of a weight: its tokens are the rows."""
    return {**shape, "m": shape["k"], "k": shape["m"]}


def _gemm(
    meaning: str,
    num_bytes: Callable[[Shape, Format], Floats],
    *fallbacks: Fallback,
) -> Operation:
    return Operation(
        fields=("m", "n", "k"),
        coordinates=(*_coordinates(m=0.7, n=1.5, k=1.5), Coordinate(_gemm_flops, 1.0)),
        group=("n", "k"),
        flops=_gemm_flops,
        num_bytes=num_bytes,
        fallbacks=fallbacks,
        meaning=meaning,
    )


def _grouped_gemm(
    meaning: str,
    num_bytes: Callable[[Shape, Format], Floats],
    *fallbacks: Fallback,
) -> Operation:
    return Operation(
        fields=("experts", "m", "n", "k"),
        coordinates=_coordinates(experts=1.5, m=0.7, n=1.5, k=1.5),
        group=("experts", "n", "k"),
        flops=lambda shape: shape["experts"] * _gemm_flops(shape),
        num_bytes=_grouped(num_bytes),
        fallbacks=fallbacks,
        meaning=meaning,
    )


# ---- attention ---------------------------------------------------------------------------------------------------


def _attention_flops(shape: Shape) -> Floats:
    scores = shape["batch"] * shape["heads"] * shape["length"] ** 2 * np.where(shape["causal"] > 0, 0.5, 1.0)
    return 2 * scores * (shape["head_dim"] + shape["value_dim"])


def _attention_bytes(shape: Shape, fmt: Format) -> Floats:
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    width = heads * shape["head_dim"] + kv_heads * (shape["head_dim"] + shape["value_dim"])
    output = 2 * heads * shape["value_dim"]
    return shape["batch"] * shape["length"] * (width * fmt.input_bytes + output)


def _decode_flops(shape: Shape) -> Floats:
    return 4 * shape["batch"] * shape["heads"] * shape["length"] * shape["head_dim"]


def _decode_bytes(shape: Shape, fmt: Format) -> Floats:
    cache = 2 * shape["batch"] * shape["kv_heads"] * shape["length"] * shape["head_dim"]
    return cache * fmt.weight_bytes + 4 * shape["batch"] * shape["heads"] * shape["head_dim"]


_LATENT, _ROPE, _VALUE = 512, 64, 128
"""DeepSeek-V3's latent attention: width of the latent, of the rotary part, and of a head's values (its config.json)."""


def _mla_prefill_flops(shape: Shape) -> Floats:
    return shape["batch"] * shape["heads"] * shape["length"] ** 2 * (_VALUE + _ROPE + _VALUE)


def _mla_prefill_bytes(shape: Shape, fmt: Format) -> Floats:
    del fmt  # the kernel reads keys and values that were expanded in bf16
    return shape["batch"] * shape["length"] * shape["heads"] * 2 * (2 * (_VALUE + _ROPE) + 2 * _VALUE)


def _mla_decode_flops(shape: Shape) -> Floats:
    return 2 * shape["batch"] * shape["heads"] * shape["length"] * (2 * _LATENT + _ROPE)


def _mla_decode_bytes(shape: Shape, fmt: Format) -> Floats:
    cache = shape["batch"] * shape["length"] * (_LATENT + _ROPE)
    return cache * fmt.weight_bytes + shape["batch"] * shape["heads"] * 2 * (2 * _LATENT + _ROPE)


def _heads_per_kv_head(shape: Shape) -> Floats:
    return shape["heads"] / shape["kv_heads"]


def _attention(
    meaning: str,
    pass_factor: float,
    byte_factor: float,
    *fallbacks: Fallback,
) -> Operation:
    return Operation(
        fields=("batch", "heads", "kv_heads", "length", "head_dim", "value_dim", "causal"),
        optional=MappingProxyType({"kv_heads": "heads", "value_dim": "head_dim", "causal": 1.0}),
        coordinates=(
            Coordinate(lambda shape: shape["batch"] * shape["heads"], 1.2),
            Coordinate(_size("length"), 0.7),
            Coordinate(lambda shape: (shape["head_dim"] + shape["value_dim"]) / 2, 0.7),
            Coordinate(_heads_per_kv_head, 3.0),
            Coordinate(lambda shape: np.where(shape["causal"] > 0, 1.0, 2.0), 1.0),
            Coordinate(_attention_flops, 1.0),
        ),
        group=("heads", "kv_heads", "length", "head_dim", "value_dim"),
        flops=lambda shape: pass_factor * _attention_flops(shape),
        num_bytes=lambda shape, fmt: byte_factor * _attention_bytes(shape, fmt),
        fallbacks=fallbacks,
        meaning=meaning,
    )


WEIGHT_GRADIENT_SLOWDOWN: Final = 1.06
"""Slowdown of a weight gradient over that of the forward product, where only the second was measured.

The medians of SimuMax's tables, layer by layer, are 1.05 on the A100 and 1.07 on the B200; those of input gradients
are 1.00 and 1.01.
"""

_BLOCK_GRADIENT_SLOWDOWN: Final = MappingProxyType({"fp8_block": 1.7})
"""The same in fp8 with scales of blocks, where both operands have scales of 1 x 128 along the tokens.

DeepSeek's profile of training on H800 (profile-data, train.json): 60 weight gradients of four layers last 32.8 ms, 2.19
times what forward products of their shapes take by DeepGEMM's table; the 80 other fp8 products of that profile last
41.8 ms, 1.29 times as long, for exchanges took 20 of 132 SMs.
"""

BACKWARD_SLOWDOWN: Final = 1 / 0.79
"""Rate of the forward pass over that of the backward pass, where only the first was measured.

The rates of cuDNN on H100 and GB200, at 4,096 and 16,384 tokens, are 422/553, 523/638, 1083/1324 and 1298/1698: 0.76 to
0.82 (Megatron Core's report on training mixtures of experts, arXiv:2603.07685, 2026).
"""


# ---- mixtures of experts -----------------------------------------------------------------------------------------


def _moe_flops(shape: Shape) -> Floats:
    return 6 * shape["pairs"] * shape["hidden"] * shape["ffn"]


def _moe_bytes(shape: Shape, fmt: Format) -> Floats:
    weights = 3 * shape["active"] * shape["hidden"] * shape["ffn"]
    return weights * fmt.weight_bytes + shape["pairs"] * (2 * shape["hidden"] + 3 * shape["ffn"]) * fmt.input_bytes


# ---- kernels bound by memory -------------------------------------------------------------------------------------


def _memory_bound(meaning: str, bytes_per_element: float) -> Operation:
    return Operation(
        fields=("rows", "width"),
        coordinates=(
            *_coordinates(rows=1.5, width=1.5),
            Coordinate(lambda shape: shape["rows"] * shape["width"], 0.7),
        ),
        group=("width",),
        flops=lambda shape: np.zeros_like(shape["rows"]),
        num_bytes=lambda shape, fmt: bytes_per_element * shape["rows"] * shape["width"],
        meaning=meaning,
    )


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "gemm": _gemm("a matrix product [m, k] x [k, n] of the forward pass", _gemm_bytes),
        "gemm_input_gradient": _gemm("the same for the gradient of the input", _gemm_bytes, Fallback("gemm")),
        "gemm_weight_gradient": _gemm(
            "the same for the gradient of a weight [m, n], added to a gradient in fp32; k are the tokens",
            _weight_gradient_bytes,
            Fallback("gemm", WEIGHT_GRADIENT_SLOWDOWN, slowdown_of=_BLOCK_GRADIENT_SLOWDOWN),
        ),
        "grouped_gemm": _grouped_gemm(
            "one launch of a matrix product [m, k] x [k, n] for each expert",
            _gemm_bytes,
            Fallback("fused_moe", shape=_of_experts),
            Fallback("gemm", shape=_of_one),
        ),
        "grouped_gemm_input_gradient": _grouped_gemm(
            "the same for the gradients of the inputs", _gemm_bytes, Fallback("grouped_gemm")
        ),
        "grouped_gemm_weight_gradient": _grouped_gemm(
            "the same for the gradients of the weights [m, n]; k are the tokens of an expert",
            _weight_gradient_bytes,
            Fallback("grouped_gemm", shape=_transposed, slowdown_of=_BLOCK_GRADIENT_SLOWDOWN),
            Fallback("gemm_weight_gradient", shape=_of_one),
        ),
        "attention_forward": _attention("fused attention of whole sequences", 1.0, 1.0),
        "attention_backward": _attention(
            "its backward pass, which computes the scores again",
            2.5,
            3.0,
            Fallback("attention_forward", BACKWARD_SLOWDOWN),
        ),
        "attention_decode": Operation(
            fields=("batch", "heads", "kv_heads", "length", "head_dim"),
            optional=MappingProxyType({"kv_heads": "heads"}),
            coordinates=(
                *_coordinates(batch=1.5, length=1.5, heads=2.0),
                Coordinate(_heads_per_kv_head, 2.0),
                Coordinate(lambda shape: _decode_bytes(shape, FORMATS["bf16"]), 0.7),
            ),
            group=("heads", "kv_heads", "length", "head_dim"),
            flops=_decode_flops,
            num_bytes=_decode_bytes,
            meaning="fused attention of one new token of each sequence to `length` cached tokens",
        ),
        "mla_prefill": Operation(
            fields=("batch", "heads", "length"),
            coordinates=(
                *_coordinates(batch=1.5, heads=1.5, length=1.5),
                Coordinate(_mla_prefill_flops, 1.0),
            ),
            group=("heads", "length"),
            flops=_mla_prefill_flops,
            num_bytes=_mla_prefill_bytes,
            meaning="latent attention of whole sequences, keys and values expanded",
        ),
        "mla_decode": Operation(
            fields=("batch", "heads", "length"),
            coordinates=(*_coordinates(batch=1.5, heads=1.0, length=1.0), Coordinate(_mla_decode_flops, 1.5)),
            group=("heads", "length"),
            flops=_mla_decode_flops,
            num_bytes=_mla_decode_bytes,
            meaning="latent attention of one new token of each sequence to `length` cached latents",
        ),
        "fused_moe": Operation(
            fields=("pairs", "experts", "active", "busiest", "hidden", "ffn"),
            optional=MappingProxyType(
                {
                    "active": lambda shape: np.minimum(shape["experts"], shape["pairs"]),
                    "busiest": lambda shape: np.ceil(shape["pairs"] / shape["active"]),
                }
            ),
            coordinates=(
                Coordinate(lambda shape: shape["pairs"] / shape["active"], 1.0),
                *_coordinates(active=2.0, hidden=4.0, ffn=4.0, experts=4.0),
                Coordinate(lambda shape: shape["busiest"] * shape["active"] / shape["pairs"], 2.0),
                Coordinate(_moe_flops, 1.0),
            ),
            group=("experts", "hidden", "ffn"),
            flops=_moe_flops,
            num_bytes=_moe_bytes,
            meaning="gated experts of one rank: both matrix products and the activation between them. `pairs` are its "
            "tokens, each counted once for every local expert it goes to; `active` experts have any; `busiest` is the "
            "largest count of one expert",
        ),
        "norm": _memory_bound("RMS or layer normalisation", 4),
        "swiglu": _memory_bound("gated activation with `width` columns of the result", 6),
        "rope": _memory_bound("rotary embedding of queries and keys of `width` columns together", 4),
        "residual_add": _memory_bound("sum of two tensors", 6),
        "embedding": _memory_bound("rows of a table", 4),
        "quantise": _memory_bound("bf16 to fp8 by a given scale", 3),
        "amax": _memory_bound("largest magnitude of a tensor in bf16, for its scale", 2),
    }
)
"""Operations by name."""


def roofline_s(operation: str, fmt: str, shape: Shape, device: Device) -> Floats:
    """Return the least time of complete shapes on a device, a launch included. Shape [N].

    >>> from topology.presets.devices import DEVICES
    >>> shape = OPERATIONS["gemm"].complete({"m": 4096, "n": 8192, "k": 8192})  # 550 GFLOP at 989 TFLOP/s, and a launch
    >>> (roofline_s("gemm", "bf16", shape, DEVICES["h100-sxm"]) * 1e6).round().tolist()
    [559.0]
    """
    kind, known = FORMATS[fmt], OPERATIONS[operation]
    compute_s = known.flops(shape) / kind.peak_flops_per_s(device)
    memory_s = known.num_bytes(shape, kind) / device.memory_bandwidth_bytes_per_s
    return np.maximum(compute_s, memory_s) + LAUNCH_S
