"""What settings need of the machine: told before anything runs, not after the hours of the stages before."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from medchatzh import models
from medchatzh.train.optimization import Optimization


def check(config: Optimization, num_processes: int) -> None:
    """ValueError where a stage with these settings cannot train here, on so many processes: what is lacking, and what to do."""
    for what in _lacking(config, num_processes):
        raise ValueError(what)


def _lacking(config: Optimization, num_processes: int) -> Iterator[str]:
    lora, sharding = config.lora, config.sharding
    needs_cuda = {
        "precision = 'fp16'": (config.precision == "fp16", "set 'auto', 'bf16' or 'fp32'"),
        "attention = 'flash'": (config.attention == "flash", "set 'auto'"),
        "kernels = 'liger'": (config.kernels == "liger", "set 'auto'"),
        "lora.quantized": (lora.quantized, "leave it out, or train on a machine with a GPU"),
    }
    for setting, (is_set, remedy) in needs_cuda.items():
        if is_set and models.device().type != "cuda":
            yield f"{setting} needs CUDA; {remedy}"
    packages = {
        "attention = 'flash'": ("flash_attn", config.attention == "flash", "flash-attn --no-build-isolation; or set 'auto'"),
        "kernels = 'liger'": ("liger_kernel", config.kernels == "liger", "liger-kernel; or set 'auto'"),
        "lora.rank": ("peft", lora.rank > 0, "'medchatzh[lora]'"),
        "lora.quantized": ("bitsandbytes", lora.quantized, "'medchatzh[qlora]'"),
        f"sharding = {sharding!r}": ("deepspeed", sharding.startswith("zero"), "'medchatzh[deepspeed]'"),
    }
    for setting, (package, is_set, remedy) in packages.items():
        if is_set and not find_spec(package):
            yield f"{setting} needs {package}: pip install {remedy}"
    if sharding != "none" and num_processes == 1:
        yield f"sharding = {sharding!r} needs several processes: start them with `medchatzh launch RECIPE --devices N`"
    if sharding != "none" and lora.quantized:
        yield f"lora.quantized: weights in 4 bits cannot be sharded ({sharding!r}); set sharding to 'none'"
    if sharding == "fsdp2" and config.precision == "fp16":
        yield "precision = 'fp16' with sharding = 'fsdp2' would need a scaled loss, which FSDP2 has not; set 'bf16', or 'zero2'"
