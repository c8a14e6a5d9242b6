"""What is known of accelerators: peak rates without sparsity and memory, from their makers' data sheets."""

from __future__ import annotations

import difflib
import os
from typing import NamedTuple

GIB = 2**30
_FOUNDRY = "llm-foundry's benchmarking/README.md measures 0.64 to 0.77 (7 B, A100) and 0.46 to 0.57 (7 B, H100) with its own kernels"


class Device(NamedTuple):
    """One device. Rates are of matrix products with 16-bit operands and fp32 sums, dense."""

    name: str
    tflops: float
    memory_gib: float
    efficiency: float
    """Share of the peak that training reaches, recomputation counted as work."""
    source: str
    has_bf16: bool = True
    is_cuda: bool = True
    fp32_tflops: float = 0.0
    """TF32 is off by default in PyTorch; 0: a sixteenth of `tflops`."""


_KNOWN = (
    Device(
        "a800-80g", 312, 80, 0.5, f"NVIDIA A800 80GB, an A100 with slower NVLink; {_FOUNDRY}; Baichuan-7B 0.58 on A800", True, True, 19.5
    ),
    Device("a100-80g", 312, 80, 0.5, f"NVIDIA A100 80GB data sheet; {_FOUNDRY}", True, True, 19.5),
    Device("a100-40g", 312, 40, 0.5, f"NVIDIA A100 40GB data sheet; {_FOUNDRY}", True, True, 19.5),
    Device("h100-80g", 989, 80, 0.4, f"NVIDIA H100 SXM data sheet; {_FOUNDRY}", True, True, 67),
    Device("h200-141g", 989, 140, 0.4, f"NVIDIA H200 SXM data sheet; {_FOUNDRY}", True, True, 67),
    Device("h20", 148, 95, 0.6, "NVIDIA H20 data sheet; much bandwidth for its rate: a guess", True, True, 44),
    Device("l40s", 362, 45, 0.35, "NVIDIA L40S data sheet; PCIe between devices: a guess", True, True, 91.6),
    Device("rtx-4090", 165, 24, 0.4, "NVIDIA Ada whitepaper (fp16 with fp32 sums); PCIe between devices: a guess", True, True, 82.6),
    Device("rtx-3090", 71, 24, 0.5, "NVIDIA Ampere GA102 whitepaper (fp16 with fp32 sums); a guess", True, True, 35.6),
    Device("v100-32g", 125, 32, 0.4, "NVIDIA V100 data sheet; no bf16; a guess", False, True, 15.7),
)
DEVICES = {device.name: device for device in _KNOWN}


def cpu() -> Device:
    """This machine's processor and memory, as one device. Rates by docs of this package's CPU measurements: a core with bf16 instructions
    multiplies at 0.2 TFLOP/s, without at 0.08."""
    import torch

    cores = os.cpu_count() or 1
    has_bf16 = torch.cpu._is_avx512_bf16_supported()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    source = f"this machine: {cores} cores; rates of one AMD EPYC core, measured"
    return Device("cpu", 0.2 * cores if has_bf16 else 0.08 * cores, memory, 0.6, source, has_bf16, False, 0.08 * cores)


def find(name: str, memory_gib: float = 0, tflops: float = 0) -> Device:
    """A device by name, or one that is told by hand, as CUDA device. ValueError lists the known ones."""
    if name == "cpu":
        found = cpu()
    elif name in DEVICES:
        found = DEVICES[name]
    elif memory_gib and tflops:
        found = Device(name, tflops, memory_gib, 0.4, "given by hand; efficiency a guess")
    else:
        near = difflib.get_close_matches(name, [*DEVICES, "cpu"], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"--device {name}: unknown; {hint}Known: {', '.join([*DEVICES, 'cpu'])}."
            " For any other give --memory-gb (GiB) and --tflops (bf16 or fp16, dense)"
        )
    return found._replace(memory_gib=memory_gib or found.memory_gib, tflops=tflops or found.tflops)
