"""What will fail, or go badly, before it does; and where a stage does not fit its devices, the nearest settings with which it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, chain, combinations
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.forecast.devices import GIB
from medchatzh.forecast.stage import Forecast, Ground, Warned
from medchatzh.train.optimization import Lora

_FULL_RATE = 5e-5
"""Learning rates above it are high for all parameters of a model of 1 B and more: LLaMA-2-chat, Alpaca and Vicuna have 2e-5."""
_FP16_RATE = 1e-4
_FEW_STEPS = 20
Changes = dict[str, Any]


def warnings(
    made: Forecast, config: Any, ground: Ground, max_positions: int, free_bytes: float, again: Callable[[Any], Forecast]
) -> Iterator[Warned]:
    """What to say of a stage. `again` forecasts it under other settings; `free_bytes` of the disk that the run folder is on."""
    stage, device = made.stage, ground.device
    yield from _impossible(stage, config, ground)
    if not made.fits:
        need, have = made.peak_bytes / GIB, made.device_bytes / GIB
        remedy = nearest(config, ground, again)
        shown = " ".join(f"--set {stage}.{key}={value}" for key, value in _written(remedy)) if remedy else ""
        nothing = "" if shown else "；没有单项改动能放下 / no setting here makes it fit: more or larger devices"
        yield Warned(
            "error", f"显存不足：需 {need:.1f} GiB，每卡 {have:.0f} GiB / does not fit: {need:.1f} GiB of {have:.0f}{nothing}", shown
        )
    elif made.peak_bytes > 0.92 * made.device_bytes:
        yield Warned("warning", "余量不足 8 %，估计误差可达 10 % / less than 8 % to spare, and the estimate may be 10 % off")
    if max_positions and config.row_tokens > max_positions:
        text = f"row_tokens = {config.row_tokens} 超过模型的 {max_positions} 个位置 / beyond the model's positions"
        yield Warned("error", text, f"--set {stage}.row_tokens={max_positions}")
    is_large = made.num_parameters >= 1e9 and not config.lora.rank
    if config.precision == "fp16" and config.learning_rate >= _FP16_RATE:
        text = f"fp16 与学习率 {config.learning_rate:g}：损失易成 0 或 NaN / fp16 with this rate: a loss of 0 or NaN is likely"
        better = f"--set {stage}.precision=bf16" if device.has_bf16 else f"--set {stage}.learning_rate=2e-5"
        yield Warned("warning", text, better)
    if is_large and config.learning_rate > _FULL_RATE:
        size = f"{made.num_parameters / 1e9:.1f} B"
        text = f"全参数训练 {size} 模型，学习率 {config.learning_rate:g} 偏高 / a high rate for all of its parameters"
        yield Warned("warning", text, f"--set {stage}.learning_rate=2e-5")
    if 0 < made.num_steps < _FEW_STEPS:
        text = f"只有 {made.num_steps} 步 / only {made.num_steps} steps: little is learnt, and warm-up is most of it"
        yield Warned("warning", text, f"--set {stage}.accumulation=1 --set {stage}.devices={ground.processes}")
    if ground.processes != config.devices:
        text = (
            f"配方按 {config.devices} 卡计，此处 {ground.processes} 个进程：同样的全局批，每卡 {made.micro_batches} 个微批"
            f" / the recipe counts for {config.devices}: the same step is cut into {made.micro_batches} micro batches a process"
        )
        yield Warned("warning", text)
    if made.idle:
        what = f"{made.idle:.0%} of the processes have nothing to do: a step has {made.units_a_step} {config.unit}"
        text = f"每步 {made.idle:.0%} 的位置空着 / {what}"
        yield Warned("warning", text)
    disk = sum(made.disk_bytes.values())
    if disk > free_bytes:
        text = f"磁盘不足：需 {disk / 1e9:.0f} GB，此处剩 {free_bytes / 1e9:.0f} GB / the disk here is too small"
        yield Warned("warning", text, "--runs DIR")


def _impossible(stage: str, config: Any, ground: Ground) -> Iterator[Warned]:
    """Settings that the loop refuses."""
    device, is_sharded = ground.device, config.sharding != "none"
    if is_sharded and ground.processes == 1:
        text = f"sharding = '{config.sharding}' 需要多个进程 / needs several processes: medchatzh launch --devices N"
        yield Warned("error", text, f"--set {stage}.sharding=none")
    if config.precision == "fp16" and not device.is_cuda:
        yield Warned("error", "fp16 只用于 CUDA / fp16 needs CUDA", f"--set {stage}.precision=auto")
    if config.precision == "fp16" and config.sharding == "fsdp2":
        yield Warned("error", "fp16 不能与 fsdp2 同用 / fp16 does not go with fsdp2", f"--set {stage}.sharding=zero2")
    if config.precision == "bf16" and not device.has_bf16:
        yield Warned(
            "error",
            f"{device.name} 没有 bf16 / has no bf16",
            f"--set {stage}.precision=fp16" if device.is_cuda else f"--set {stage}.precision=fp32",
        )
    if config.attention == "flash" and not device.is_cuda:
        yield Warned("error", "attention = 'flash' 只用于 CUDA / needs CUDA", f"--set {stage}.attention=auto")
    if config.lora.quantized and (not device.is_cuda or is_sharded):
        yield Warned(
            "error", "4 位权重需要 CUDA，且不能分片 / 4-bit weights need CUDA and cannot be sharded", f"--set {stage}.lora.quantized=false"
        )


def nearest(config: Any, ground: Ground, again: Callable[[Any], Forecast]) -> Changes:
    """The smallest change that makes a stage fit; {} where none does. One setting before two, what costs nothing before what costs time,
    and what keeps the result before what changes it (adapters in place of all parameters)."""
    options: list[Changes] = []
    if config.attention == "sdpa":
        options.append({"attention": "auto"})
    if not config.gradient_checkpointing:
        options.append({"gradient_checkpointing": True})
    options += _smaller(config)
    if ground.processes > 1 and config.precision != "fp32":
        options += [{"sharding": other} for other in ("zero2", "zero3") if other > config.sharding or config.sharding == "none"]
    pairs = [first | second for first, second in combinations(options, 2) if first.keys().isdisjoint(second)]
    everything = list(accumulate(reversed(options), lambda first, second: second | first))[-1:]
    adapters: list[Changes] = []
    for lora in () if config.lora.rank else (Lora(rank=16), Lora(rank=16, quantized=True)):
        if lora.quantized and (not ground.device.is_cuda or ground.processes > 1):
            break
        alone: Changes = {"lora": lora} | ({"sharding": "none"} if lora.quantized and config.sharding != "none" else {})
        fitting = [one for one in [*options, *pairs] if not (lora.quantized and "sharding" in one)]
        adapters += [alone, *(alone | one for one in fitting)]
    for changes in chain(options, pairs, everything, adapters):
        if again(msgspec.structs.replace(config, **changes)).fits:
            return changes
    return {}


def _smaller(config: Any) -> Iterator[Changes]:
    """Fewer rows (rankings) a micro batch, and as many more of them: the same step."""
    name = config.unit
    size, more = getattr(config, name), config.accumulation
    while size > 1 and size % 2 == 0:
        size, more = size // 2, more * 2
        yield {name: size, "accumulation": more}


def _written(changes: Changes) -> Iterator[tuple[str, str]]:
    for key, value in changes.items():
        if isinstance(value, Lora):
            yield "lora.rank", str(value.rank)
            if value.quantized:
                yield "lora.quantized", "true"
        else:
            yield key, str(value).lower() if isinstance(value, bool) else str(value)


def existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next(place for place in (path.resolve(), *path.resolve().parents) if place.is_dir())
