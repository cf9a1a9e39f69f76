"""What each operation of a profile runs, in PyTorch: a shape gives random inputs and the call that is timed.

PyTorch is handed in, for it is no dependency of moesim. Inputs are random and not zero: zeros let a GPU clock higher
than any real data (an A100 reaches 295 TFLOP/s on zeros and 257 on random data).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["KERNELS", "Maker"]

Call = Callable[[], Any]
Maker = Callable[[Any, Mapping[str, int], Any], Call]
"""PyTorch, shape, device -> what is timed."""


def _random(torch: Any, *sizes: int, device: Any, grad: bool = False) -> Any:  # noqa: ANN401 - PyTorch has no types here
    return torch.randn(*sizes, device=device, dtype=torch.bfloat16, requires_grad=grad)


def _gemm(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, weight = (
        _random(torch, shape["m"], shape["k"], device=device),
        _random(torch, shape["n"], shape["k"], device=device),
    )
    return lambda: torch.matmul(x, weight.t())


def _input_gradient(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, weight = (
        _random(torch, shape["m"], shape["k"], device=device),
        _random(torch, shape["k"], shape["n"], device=device),
    )
    return lambda: torch.matmul(x, weight)


def _weight_gradient(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, y = _random(torch, shape["k"], shape["m"], device=device), _random(torch, shape["k"], shape["n"], device=device)
    gradient = torch.zeros(shape["m"], shape["n"], device=device, dtype=torch.float32)
    return lambda: gradient.add_(torch.matmul(x.t(), y))


def _scaled_gemm(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    kind = torch.float8_e4m3fn
    x = _random(torch, shape["m"], shape["k"], device=device).to(kind)
    weight = _random(torch, shape["n"], shape["k"], device=device).to(kind)
    one = torch.ones((), device=device, dtype=torch.float32)
    return lambda: torch._scaled_mm(x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def _heads(torch: Any, shape: Mapping[str, int], device: Any, queries: int, *, grad: bool) -> tuple[Any, Any, Any]:  # noqa: ANN401
    batch, length, width = shape["batch"], shape["length"], shape["head_dim"]
    query = _random(torch, batch, shape["heads"], queries, width, device=device, grad=grad)
    key, value = (_random(torch, batch, shape["kv_heads"], length, width, device=device, grad=grad) for _ in range(2))
    return query, key, value


def _attention_forward(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    attend, parts = (
        torch.nn.functional.scaled_dot_product_attention,
        _heads(torch, shape, device, shape["length"], grad=False),
    )
    return lambda: attend(*parts, is_causal=True, enable_gqa=True)


def _attention_backward(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    attend, parts = (
        torch.nn.functional.scaled_dot_product_attention,
        _heads(torch, shape, device, shape["length"], grad=True),
    )
    output = attend(*parts, is_causal=True, enable_gqa=True)
    gradient = torch.randn_like(output)
    return lambda: torch.autograd.grad(output, parts, gradient, retain_graph=True)


def _attention_decode(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    attend, parts = torch.nn.functional.scaled_dot_product_attention, _heads(torch, shape, device, 1, grad=False)
    return lambda: attend(*parts, enable_gqa=True)


def _norm(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, weight = (
        _random(torch, shape["rows"], shape["width"], device=device),
        _random(torch, shape["width"], device=device),
    )
    return lambda: torch.nn.functional.rms_norm(x, (shape["width"],), weight)


def _swiglu(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x = _random(torch, shape["rows"], 2 * shape["width"], device=device)
    activate = torch.nn.functional.silu

    def call() -> Any:  # noqa: ANN401
        gate, up = x.chunk(2, dim=-1)
        return activate(gate) * up

    return call


def _rope(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x = _random(torch, shape["rows"], 2, shape["width"] // 2, device=device)
    sine, cosine = (_random(torch, shape["rows"], shape["width"] // 2, device=device) for _ in range(2))
    return lambda: torch.stack((x[:, 0] * cosine - x[:, 1] * sine, x[:, 1] * cosine + x[:, 0] * sine), dim=1)


def _residual_add(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, y = (_random(torch, shape["rows"], shape["width"], device=device) for _ in range(2))
    return lambda: x + y


def _embedding(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    table = _random(torch, 32768, shape["width"], device=device)
    rows = torch.randint(0, 32768, (shape["rows"],), device=device)
    return lambda: torch.nn.functional.embedding(rows, table)


def _quantise(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x, scale = _random(torch, shape["rows"], shape["width"], device=device), _random(torch, 1, device=device)
    return lambda: (x * scale).to(torch.float8_e4m3fn)


def _amax(torch: Any, shape: Mapping[str, int], device: Any) -> Call:  # noqa: ANN401
    x = _random(torch, shape["rows"], shape["width"], device=device)
    return lambda: x.abs().amax()


KERNELS: Final[Mapping[tuple[str, str], Maker]] = {
    ("gemm", "bf16"): _gemm,
    ("gemm", "fp8"): _scaled_gemm,
    ("gemm_input_gradient", "bf16"): _input_gradient,
    ("gemm_weight_gradient", "bf16"): _weight_gradient,
    ("attention_forward", "bf16"): _attention_forward,
    ("attention_backward", "bf16"): _attention_backward,
    ("attention_decode", "bf16"): _attention_decode,
    ("norm", "bf16"): _norm,
    ("swiglu", "bf16"): _swiglu,
    ("rope", "bf16"): _rope,
    ("residual_add", "bf16"): _residual_add,
    ("embedding", "bf16"): _embedding,
    ("quantise", "bf16"): _quantise,
    ("amax", "bf16"): _amax,
}
"""Operation and format -> what makes the call. Eager kernels: `rope`, `swiglu`, `quantise` and `amax` are not fused."""
