"""Named devices: datasheet figures and measured efficiencies, each with its source.

Three grades of `gemm_efficiency`, named in each `source`:

- *fitted* to a profile of kernels (A100, H100: `benchmarks/fit_device.py`; B200: SimuMax's operator table);
- *mamf / peak*: the best matmul of a sweep (stas00/ml-engineering, maximum achievable matmul FLOPS) over the datasheet
  peak, for a full wave. It errs fast: B200's real operators reach 0.52 where its mamf is 0.776 of the peak;
- *assumed*, for want of a published kernel profile: a cautious round number.

`memory_bytes` is what a framework can allocate, the total that PyTorch prints where memory runs out. It is neither the
size as sold nor what `nvidia-smi` shows (an H100 is sold with 80 GB, shows 81,559 MiB and lets 79.11 GiB be allocated).

Attention efficiencies count the causal half only. Head dim 64 is the harder case and was chosen for Hopper
(FlashAttention-3, H100, causal, 4k tokens: 420 TFLOP/s at head dim 64, 579 at 128): head dim 128 looks too slow.
"""

import re
from dataclasses import replace

from sim.errors import InvalidValueError, did_you_mean
from topology.device import Device

__all__ = ["DEVICES", "get_device"]

_PCIE4_HOST = 26e9
"""Copies between host and device over PCIe 4.0 x16 [bytes/s]: of 31.5 GB/s, as pinned memory reaches; assumed."""
_PYTORCH = "total capacity in PyTorch's out-of-memory messages"


def _gib(size: float) -> int:
    return round(size * 2**30)


_A100_80GB = Device(
    name="a100-sxm-80gb",
    peak_bf16_flops_per_s=312e12,  # NVIDIA A100 datasheet, dense
    memory_bytes=_gib(79.15),
    memory_source=f"{_PYTORCH} on A100-SXM4-80GB: 79.14 to 79.25 GiB by driver",
    memory_bandwidth_bytes_per_s=2.039e12,  # datasheet
    host_bytes_per_s=_PCIE4_HOST,
    num_sms=108,  # NVIDIA A100 architecture whitepaper
    sustained_clock=0.98,  # benchmarks/fit_software.py: Megatron's steps of 2022 on Selene
    # benchmarks/fit_device.py fits the four constants to Vidur's A100-SXM-80GB profile (fp16 linears);
    # topology/device.py states the error of the fit.
    gemm_efficiency=0.79,
    memory_efficiency=0.88,
    kernel_overhead_s=4.2e-6,
    tile_overhead_s=0.66e-6,
    # FlashAttention-2 (Dao, 2023): 50-73 % of the A100's peak forward (abstract), at most 63 % backward (section 4.1).
    # Within that range the lower part, for causal and head dim 64; the charts themselves were not at hand.
    attention_efficiency=0.55,
    attention_backward_efficiency=0.55 * 0.75,  # SimuMax, operators of an A100 PCIe: 0.75 of the forward rate
    source="NVIDIA datasheet; GEMM and memory fitted to Vidur's profile; attention within FlashAttention-2's range",
)

_H100 = Device(
    name="h100-sxm",
    peak_bf16_flops_per_s=989e12,  # NVIDIA H100 datasheet, dense
    peak_fp8_flops_per_s=1979e12,  # datasheet, dense
    memory_bytes=_gib(79.11),
    memory_source=f"{_PYTORCH} on H100 80GB HBM3: 79.11 GiB",
    memory_bandwidth_bytes_per_s=3.35e12,  # datasheet
    # flashinfer-ai/flashinfer, pull request 2899: attention in bf16 on a B200 loses 15 % after 5 ms. The fit to
    # Megatron-Core's 7.1 B and 119 B (benchmarks/fit_software.py) would take 0.78, which other causes share
    sustained_clock=0.85,
    sustained_clock_fp8=0.95,  # benchmarks/fit_software.py: NeMo's 5 B, which would take less
    num_sms=132,  # NVIDIA H100 architecture whitepaper, SXM5
    # benchmarks/fit_device.py fits the four constants to Vidur's H100-SXM profile (fp16 linears); topology/device.py
    # states the error of the fit.
    gemm_efficiency=0.82,
    memory_efficiency=0.935,
    kernel_overhead_s=3.5e-6,
    tile_overhead_s=1.3e-6,
    fp8_efficiency_ratio=(1402.6 / 1979) / (794.5 / 989),  # mamf fp8 over mamf bf16
    # FlashAttention-3 (Shah et al., 2024), figure 5, causal, head dim 64, 4k tokens: 420 of 989 TFLOP/s.
    attention_efficiency=0.42,
    # cuDNN's attention of DeepSeek-V3: 422 after 553 TFLOP/s at 4k tokens, 523 after 638 at 16k (cudnn-frontend).
    attention_backward_efficiency=0.42 * 0.79,
    has_multicast=True,  # NVIDIA H100 architecture whitepaper: NVLink SHARP
    source="NVIDIA datasheet; GEMM and memory fitted to Vidur's profile; attention from FlashAttention-3",
)

_B200 = Device(
    name="b200-sxm",
    peak_bf16_flops_per_s=2250e12,  # NVIDIA HGX B200 datasheet, dense
    peak_fp8_flops_per_s=4500e12,  # datasheet, dense
    memory_bytes=_gib(178.35),
    memory_source=f"{_PYTORCH} on B200: 178.35 GiB",
    memory_bandwidth_bytes_per_s=8.0e12,  # datasheet
    num_sms=148,  # two dies of 74 SMs, as CUDA reports; no datasheet states it
    sustained_clock=0.96,  # benchmarks/fit_software.py: Megatron-LM's steps on 8 B200 (SimuMax)
    # SimuMax b200_bf16_ceperm.json: on 288 bf16 forward and dgrad GEMMs the model's |error| is 5.4 % in the median, 31
    # % at the 90th percentile and 50 % at worst. 72 grouped GEMMs look 17 % too fast in the median: under 5 % from
    # 2,460 tokens per expert, 14 % at 512, 20 % to 40 % below.
    gemm_efficiency=0.52,
    memory_efficiency=0.67,  # the file's default of the HBM is 0.666
    tile_overhead_s=0.0,  # the fit gives none: a tile's drain hides behind the next tile's fill
    kernel_overhead_s=_H100.kernel_overhead_s,  # assumed as on the H100
    fp8_efficiency_ratio=(3432.5 / 4500) / (1745.0 / 2250),  # mamf fp8 over mamf bf16
    # SimuMax, head dim 128: median of measured fused attention 0.73 forward, counted over the full score matrix
    # (values reach 1.2: the kernels skip half of it); the causal half is half of that, large shapes a little more.
    attention_efficiency=0.40,
    # cuDNN's attention of DeepSeek-V3 on Blackwell: 1,083 after 1,324 TFLOP/s at 4k tokens, 1,298 after 1,698 at 16k.
    attention_backward_efficiency=0.40 * 0.79,
    has_block_scaling=True,  # NVIDIA Blackwell architecture brief: MX formats
    has_multicast=True,  # as the H100
    source="NVIDIA datasheet; GEMM, memory and attention from SimuMax's measured operators; overheads of the H100",
)

_MI300X = Device(
    name="mi300x",
    peak_bf16_flops_per_s=1307e12,  # AMD MI300X datasheet, dense
    peak_fp8_flops_per_s=2614.9e12,  # datasheet, dense
    memory_bytes=_gib(191.98),
    memory_source=f"{_PYTORCH} on MI300X: 191.69 to 191.98 GiB by driver",
    memory_bandwidth_bytes_per_s=5.3e12,  # datasheet
    num_sms=304,  # CUs, datasheet
    gemm_efficiency=668.4 / 1307,  # mamf / peak
    memory_efficiency=0.80,  # assumed; a little under the A100's
    attention_efficiency=0.30,  # assumed
    attention_backward_efficiency=0.22,  # assumed
    kernel_overhead_s=5e-6,  # assumed; a little over the A100's
    tile_overhead_s=_H100.tile_overhead_s,  # assumed
    source="AMD datasheet; GEMM by mamf / peak; memory, attention and overheads assumed, unsure by a third",
)

_GB200 = replace(
    _B200,
    name="gb200",
    peak_bf16_flops_per_s=2500e12,  # NVIDIA GB200 NVL72 datasheet, per GPU, dense
    peak_fp8_flops_per_s=5000e12,  # datasheet, per GPU, dense
    memory_bytes=_gib(184.31),
    memory_source=f"{_PYTORCH} on GB200: 184.31 GiB",
    # NVIDIA GB200 NVL72 datasheet: NVLink-C2C of 900 GB/s both ways between a Grace and its two GPUs; a half each.
    host_bytes_per_s=225e9,
    gemm_efficiency=_B200.gemm_efficiency * (1822.0 / 2500) / (1745.0 / 2250),  # B200's fit, scaled by mamf / peak
    fp8_efficiency_ratio=(3615.6 / 5000) / (1822.0 / 2500),  # mamf fp8 over mamf bf16
    attention_efficiency=_B200.attention_efficiency * 2250 / 2500,  # the B200's TFLOP/s over a higher peak
    attention_backward_efficiency=_B200.attention_backward_efficiency * 2250 / 2500,
    source="NVIDIA datasheet; efficiencies of the B200 scaled by mamf, not measured on a GB200",
)

_L40S = Device(
    name="l40s",
    peak_bf16_flops_per_s=362.05e12,  # NVIDIA L40S datasheet, dense
    peak_fp8_flops_per_s=733e12,  # datasheet, dense
    memory_bytes=_gib(44.39),
    memory_source=f"{_PYTORCH} on L40S: 44.39 GiB",
    memory_bandwidth_bytes_per_s=864e9,  # datasheet
    host_bytes_per_s=_PCIE4_HOST,
    num_sms=142,  # datasheet: 142 RT cores, one per SM
    gemm_efficiency=0.70,  # assumed; a little under the A100's
    memory_efficiency=0.85,  # assumed; a little under the A100's
    attention_efficiency=0.45,  # assumed; FlashAttention-2, as the A100's and less
    attention_backward_efficiency=0.40,  # assumed
    kernel_overhead_s=_A100_80GB.kernel_overhead_s,  # assumed as on the A100
    tile_overhead_s=_A100_80GB.tile_overhead_s,  # assumed
    source="NVIDIA datasheet; all efficiencies assumed, unsure by a third",
)

_V100 = Device(
    name="v100-sxm2-32gb",
    peak_bf16_flops_per_s=125e12,  # NVIDIA V100 datasheet, SXM2: tensor cores, fp16
    has_bf16=False,  # NVIDIA V100 architecture whitepaper: tensor cores multiply fp16
    memory_bytes=_gib(31.74),
    memory_source=f"{_PYTORCH} on V100 32 GB: 31.74 GiB",
    memory_bandwidth_bytes_per_s=900e9,  # datasheet
    host_bytes_per_s=12.5e9,  # PCIe 3.0 x16: half of PCIe 4.0
    num_sms=80,  # NVIDIA V100 architecture whitepaper
    gemm_efficiency=0.70,  # assumed; a little under the A100's
    memory_efficiency=0.83,  # assumed; a little under the A100's
    attention_efficiency=0.30,  # assumed; FlashAttention-2 does not run on it
    attention_backward_efficiency=0.25,  # assumed
    kernel_overhead_s=_A100_80GB.kernel_overhead_s,  # assumed as on the A100
    tile_overhead_s=_A100_80GB.tile_overhead_s,  # assumed as on the A100
    source="NVIDIA datasheet; all efficiencies assumed, unsure by a third",
)

_V100_16GB = replace(
    _V100,
    name="v100-sxm2-16gb",
    memory_bytes=_gib(15.78),
    memory_source=f"{_PYTORCH} on V100 16 GB: 15.78 GiB",
)
_V100_PCIE_FLOPS = 112e12  # NVIDIA V100 datasheet, PCIe

_A100_PCIE = replace(
    _A100_80GB,
    name="a100-pcie-80gb",
    memory_source=None,  # assumed as on the SXM part of 80 GB
    memory_bandwidth_bytes_per_s=1.935e12,  # datasheet
    gemm_efficiency=_A100_80GB.gemm_efficiency * 252.9 / 271.2,  # the SXM part's fit, scaled by mamf: less power
    source="NVIDIA datasheet; efficiencies of the A100 SXM, GEMM scaled by mamf, not measured on this part",
)

_MI325X = replace(
    _MI300X,
    name="mi325x",
    memory_bytes=_gib(255.98),
    memory_source=f"{_PYTORCH} on MI325X: 255.98 GiB",
    memory_bandwidth_bytes_per_s=6.0e12,  # AMD MI325X datasheet
    gemm_efficiency=784.9 / 1307,  # mamf / peak
    source="AMD datasheet; GEMM by mamf / peak; memory, attention and overheads assumed, unsure by a third",
)

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        replace(
            _A100_80GB,
            name="a100-sxm-40gb",
            memory_bytes=42_298_834_944,
            memory_source="CUDA's deviceQuery on A100-SXM4-40GB: 42,298,834,944 bytes, 39.39 GiB",
            memory_bandwidth_bytes_per_s=1.555e12,  # datasheet
            source="NVIDIA datasheet; fitted constants of the 80 GB part, which has the same chip",
        ),
        _A100_80GB,
        _A100_PCIE,
        replace(
            _A100_PCIE,
            name="a100-pcie-40gb",
            memory_bytes=42_298_834_944,  # assumed as on the SXM part of 40 GB
            memory_bandwidth_bytes_per_s=1.555e12,  # datasheet
        ),
        _V100,
        _V100_16GB,
        replace(_V100, name="v100-pcie-32gb", peak_bf16_flops_per_s=_V100_PCIE_FLOPS),
        replace(_V100_16GB, name="v100-pcie-16gb", peak_bf16_flops_per_s=_V100_PCIE_FLOPS),
        _H100,
        replace(
            _H100,
            name="h200-sxm",
            memory_bytes=_gib(139.80),
            memory_source=f"{_PYTORCH} on H200: 139.80 GiB",
            memory_bandwidth_bytes_per_s=4.8e12,  # datasheet
            fp8_efficiency_ratio=(1453.4 / 1979) / (794.5 / 989),  # mamf fp8 over mamf bf16, which is the H100's
            source="NVIDIA datasheet; fitted constants of the H100, which has the same chip; mamf the same",
        ),
        # Memory and kernels as on the H100: FlashMLA reaches 3000 GB/s, 0.90, and DeepGEMM 1350+ TFLOP/s on an H800.
        replace(
            _H100,
            name="h800-sxm",
            memory_source=None,  # assumed as on the H100
            source="H100 with less NVLink; fitted constants of the H100",
        ),
        # No datasheet is public: figures as sellers and users print them. GEMMs and attention assumed as on the H100,
        # which errs slow: the same SM units with a quarter of the matrix rate keep it busy more easily.
        replace(
            _H100,
            name="h20-sxm",
            peak_bf16_flops_per_s=148e12,
            peak_fp8_flops_per_s=296e12,
            memory_bytes=_gib(95.0),  # assumed: sold as 96 GB, and users write of 95 GB
            memory_source=None,
            memory_bandwidth_bytes_per_s=4.0e12,
            num_sms=78,  # Geekbench's entry of an H20
            source="sellers' figures, no datasheet is public; efficiencies of the H100, not measured on an H20",
        ),
        _B200,
        _GB200,
        # Blackwell Ultra. Its faster exponentials in attention are not counted, which errs slow.
        replace(
            _B200,
            name="b300-sxm",  # HGX B300 datasheet: bf16 36, fp8 72 PFLOP/s of 8 GPUs with sparsity, as the HGX B200
            memory_bytes=_gib(267.69),
            memory_source=f"{_PYTORCH} on B300: 267.69 GiB",
            # NVIDIA, Blackwell Ultra: 8 TB/s. Datasheets of HGX boards state 7.7 TB/s for B200 and B300 alike.
            memory_bandwidth_bytes_per_s=8.0e12,
            num_sms=148,  # as CUDA reports
            source="NVIDIA datasheet; efficiencies of the B200, not measured on a B300",
        ),
        replace(
            _GB200,
            name="gb300",  # NVIDIA GB300 NVL72 datasheet: bf16 180, fp8 360 PFLOP/s of 72 GPUs, dense
            memory_bytes=_gib(276.50),
            memory_source=f"{_PYTORCH} on GB300: 276.50 GiB",
            source="NVIDIA datasheet; efficiencies of the GB200, not measured on a GB300",
        ),
        # As announced: NVIDIA, "Inside the NVIDIA Rubin Platform" (2026), preliminary. A GPU is a package of two dies.
        replace(
            _GB200,
            name="vr200",
            peak_bf16_flops_per_s=4000e12,
            peak_fp8_flops_per_s=17500e12,  # for training, dense
            memory_bytes=_gib(288 * 0.991),  # assumed: announced with 288 GB; GiB over GB as on B200, B300 and GB300
            memory_source=None,
            memory_bandwidth_bytes_per_s=22e12,  # 13 TB/s when first announced, in 2025
            host_bytes_per_s=450e9,  # NVLink-C2C of 1.8 TB/s both ways between a Vera and its two GPUs; a half each
            num_sms=224,
            source="announced by NVIDIA, preliminary; all efficiencies assumed as on the GB200, unsure by a third",
        ),
        _MI300X,
        _MI325X,
        replace(
            _MI325X,
            name="mi355x",
            peak_bf16_flops_per_s=2516.6e12,  # AMD MI355X datasheet, dense
            peak_fp8_flops_per_s=5033.2e12,  # datasheet, dense
            memory_bytes=_gib(287.98),
            memory_source=f"{_PYTORCH} on MI355X: 287.98 GiB",
            memory_bandwidth_bytes_per_s=8.0e12,  # datasheet
            num_sms=256,  # CUs, datasheet
            source="AMD datasheet; GEMM of the MI325X; memory, attention and overheads assumed, unsure by a third",
        ),
        _L40S,
        replace(
            _L40S,
            name="rtx-4090",
            peak_bf16_flops_per_s=165.2e12,  # NVIDIA Ada GPU architecture whitepaper, dense, sums in fp32
            peak_fp8_flops_per_s=330.3e12,  # whitepaper, dense, sums in fp32
            memory_bytes=_gib(23.64),
            memory_source=f"{_PYTORCH} on RTX 4090: 23.61 to 23.68 GiB",
            memory_bandwidth_bytes_per_s=1008e9,  # whitepaper
            num_sms=128,  # whitepaper
            source="NVIDIA whitepaper; all efficiencies assumed as on the L40S, unsure by a third",
        ),
        replace(
            _L40S,
            name="rtx-pro-6000",  # Blackwell, Server Edition
            # Four and eight times the 120 TFLOP/s in fp32 of the datasheet, as on the Workstation Edition, for which
            # NVIDIA states 503.8 TFLOP/s in bf16; the Server Edition's datasheet states no dense bf16.
            peak_bf16_flops_per_s=480e12,
            peak_fp8_flops_per_s=960e12,
            memory_bytes=_gib(94.97),
            memory_source="total memory of CUDA on RTX PRO 6000 Blackwell: 94.97 GiB",
            memory_bandwidth_bytes_per_s=1597e9,  # datasheet
            num_sms=188,  # NVIDIA RTX Blackwell PRO architecture whitepaper
            source="NVIDIA datasheet, peaks derived; all efficiencies assumed as on the L40S, unsure by a third",
        ),
        replace(
            _MI300X,
            name="mi250x-gcd",
            peak_bf16_flops_per_s=191.5e12,  # half of the MI250X's 383 (AMD datasheet)
            peak_fp8_flops_per_s=None,
            memory_bytes=_gib(63.98),
            memory_source=f"{_PYTORCH} on one GCD: 63.98 GiB",
            memory_bandwidth_bytes_per_s=1.6e12,  # half of the MI250X's 3.2 TB/s (AMD datasheet, rounded)
            num_sms=110,  # CUs of one GCD, half of 220
            # Assumed: whole training steps reach 0.32-0.38 of the peak (Dash et al., 2023, Frontier). Memory, attention
            # and launches are assumed as on the MI300X; attention is FlashAttention-2 on composable kernels.
            gemm_efficiency=0.60,
            tile_overhead_s=_A100_80GB.tile_overhead_s,  # assumed
            source="half an MI250X (AMD datasheet, Frontier User Guide); all efficiencies assumed, unsure by a third",
        ),
        Device(
            name="ascend-910b",
            # One die of the 910C has 376 (CloudMatrix384 paper, 2025). Variants of the 910B are sold from 280 up; a
            # measured 328 bf16 matmul on a 910B (limulidae benchmark) excludes the slower variants there.
            peak_bf16_flops_per_s=376e12,
            memory_bytes=_gib(60.97),
            memory_source="total capacity in torch_npu's out-of-memory messages on 910B: 60.96 to 60.97 GiB",
            memory_bandwidth_bytes_per_s=1.6e12,  # half of the 910C's 3.2 TB/s (CloudMatrix384 paper)
            num_sms=24,  # AI cores with a cube unit, one 910C die; unsure for the 910B (20 to 25 by variant)
            gemm_efficiency=0.75,  # assumed, under the 328 / 376 = 0.87 of one large matmul (limulidae)
            memory_efficiency=0.80,  # limulidae: torch.exp 642 GB/s, taken as read and written: 1284 of 1600
            attention_efficiency=0.40,  # assumed
            attention_backward_efficiency=0.30,  # assumed
            kernel_overhead_s=8e-6,  # assumed; twice the A100's
            tile_overhead_s=_H100.tile_overhead_s,  # assumed
            source="no datasheet is public: one die of the 910C, and a user's benchmark; unsure by a third",
        ),
    )
}
"""Devices by name. A device that resembles another one states only the figures that differ."""


def get_device(name: str) -> Device:
    """Return the preset `name`, or say which name is near.

    >>> get_device("h100-sxm").num_sms
    132
    >>> get_device("h100")
    Traceback (most recent call last):
    sim.errors.InvalidValueError: cluster.device.preset must be a known preset, got h100. Did you mean `h100-sxm`? ...
    """
    if name in DEVICES:
        return DEVICES[name]
    raise InvalidValueError(
        field="cluster.device.preset",
        rule="be a known preset",
        value=name,
        hint=f"{_preset_hint(name)} `moesim list presets` shows all.",
    )


def _preset_hint(name: str) -> str:
    """Return the preset that a name was meant for: a preset of the same model of GPU, or else how to give the figures.

    >>> _preset_hint("NVIDIA H100 80GB HBM3"), _preset_hint("b100")[:31]
    ('Did you mean `h100-sxm`?', 'No preset is of this model: nam')
    """
    model = _models_of(name)
    same = [preset for preset in DEVICES if model & _models_of(preset)]
    if same:
        return did_you_mean(name, same, cutoff=0.0)
    otherwise = (
        "No preset is of this model: name the preset that is nearest in kind, and give the figures of the GPU next to "
        "it: `memory`, `memory_bandwidth`, `peak_bf16` and the efficiencies of cluster.device."
    )
    return otherwise if model else did_you_mean(name, DEVICES, otherwise=otherwise)


def _models_of(name: str) -> set[str]:
    """Return the model of a GPU that a name tells, spelt with and without separators; empty where there is no number.

    >>> _models_of("a100-sxm-80gb"), sorted(_models_of("mi-300x"))
    ({'a100'}, ['300', 'mi300'])
    """
    spellings = (name.lower(), re.sub(r"[^a-z0-9]", "", name.lower()))
    return {match[0] for match in (re.search(r"[a-z]*[0-9]+", text) for text in spellings) if match}
