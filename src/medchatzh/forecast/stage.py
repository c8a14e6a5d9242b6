"""The forecast of one training stage: model, data, work, memory, time, disk."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from medchatzh.forecast import activations, memory, shapes
from medchatzh.forecast.amounts import Amount, Stage, steps_per_epoch
from medchatzh.forecast.devices import GIB, Device
from medchatzh.forecast.shapes import Shape
from medchatzh.train.optimization import Optimization, deal
from medchatzh.train.reward import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Warned(msgspec.Struct, frozen=True):
    """What will go wrong ("error"), or may ("warning")."""

    level: Literal["error", "warning"]
    text: str
    """中文 / English."""
    remedy: str = ""
    """Settings to give with --set, where some help."""


class Forecast(msgspec.Struct, kw_only=True):
    """One stage on some devices."""

    stage: str
    lesson: str
    """What the reward model learns before the rankings: `instruct`, `defects-1` …; '' for the stage itself."""
    model: str
    num_parameters: int
    num_trained: int
    num_examples: int
    num_tokens: int
    """An epoch's."""
    num_trained_tokens: int
    """Of all steps."""
    num_units: int
    """Rows, or rankings, an epoch."""
    basis: str
    units_a_step: int
    """Rows, or rankings, of an optimizer step, over all devices."""
    micro_batches: int
    """Of a step, a device."""
    idle: float
    """Share of the devices' places in a step that no row, or ranking, is left for."""
    num_steps: int
    flops: float
    hours: float
    efficiency: float
    memory_bytes: dict[str, float]
    device_bytes: float
    host_bytes: float
    disk_bytes: dict[str, float]
    warnings: list[Warned] = []

    @property
    def peak_bytes(self) -> float:
        return sum(self.memory_bytes.values())

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.device_bytes


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage runs on, and with what."""

    device: Device
    devices: int
    nodes: int
    efficiency: float

    @property
    def processes(self) -> int:
        return self.devices * self.nodes


def is_half(config: Optimization, device: Device) -> bool:
    """Whether the arithmetic has 16 bits there (`models.is_bf16` asks the machine that it runs on)."""
    return config.precision in ("bf16", "fp16") or (config.precision == "auto" and device.has_bf16)


def micro_batch(shape: Shape, config: Optimization, found: Amount, device: Device) -> memory.Micro:
    """The fullest micro batch of a device, laid out as `packing.assemble` does."""
    mean = max(1, min(config.row_tokens, round(found.num_tokens / max(1, found.num_examples))))
    if isinstance(config, Ranks):
        tokens = max(2, round(config.rankings * found.answers * mean))
        rows = -(-tokens // config.row_tokens)
    else:
        rows = config.rows
        tokens = rows * config.row_tokens
    half = is_half(config, device)
    sixteen = "" if not half else "autocast" if config.sharding == "none" else "pure"
    kind = "sdpa" if config.attention == "sdpa" else "packed" if not device.is_cuda else "flash"
    length = mean if config.packing else config.row_tokens
    if kind == "sdpa":
        layout = (rows, config.row_tokens)
        spans = []
    else:
        layout = (1, tokens)
        spans = [(0, start, min(start + length, tokens)) for start in range(0, tokens, length)]
    kept = activations.kept(shape.config, spans, layout, kind=kind, sixteen=sixteen)
    if kind == "sdpa":  # the mask, and what SDPA makes of it in each layer
        mask = layout[0] * layout[1] ** 2
        kept = kept._replace(layer=kept.layer + mask * (2 if half else 4), rest=kept.rest + mask)
    return memory.Micro(layout[0] * layout[1], math.ceil(found.supervised * tokens), kept)


def flops(shape: Shape, config: Optimization, found: Amount, num_trained: int, tokens: float) -> float:
    """Of training on so many tokens: 2 a matrix parameter forward, 4 backward (2 where the matrix stands still), 2 more where a layer is
    computed again; causal attention 2 × context × width a layer forward, twice that backward."""
    again = 1 if config.gradient_checkpointing else 0
    learns = 1 if not config.lora.rank else 0
    matrices = shape.in_matrices * (2 + 2 + 2 * learns + 2 * again)
    head = shape.head * (6 if not shape.is_reward and learns else 4) * found.supervised
    adapters = 0 if learns else 6 * num_trained
    context = config.row_tokens if config.attention == "sdpa" else found.context_tokens
    attention = 2 * context * shape.attention_size * shape.num_layers * (3 + again)
    return tokens * (matrices + head + adapters + attention)


def forecast(stage: Stage, config: Any, model: PreTrainedConfig, name: str, found: Amount, ground: Ground, lesson: str = "") -> Forecast:
    """What a stage, or a lesson of it, will take. Nothing is warned of yet."""
    shape = shapes.count(model, name, is_reward=stage == "reward" and lesson != "instruct")
    num_trained = shapes.num_trained(shape, config.lora)
    micro_batches, dealt = deal(config.units_a_step, getattr(config, config.unit), ground.processes)
    idle = config.idle(ground.processes)
    per_epoch = steps_per_epoch(found, config)
    num_steps = config.num_steps(per_epoch)
    tokens = found.num_tokens * (1 - getattr(config, "held_out", 0.0)) * num_steps / per_epoch
    as_run = msgspec.structs.replace(config, accumulation=micro_batches, **{config.unit: dealt})
    micro = micro_batch(shape, as_run, found, ground.device)
    half = is_half(config, ground.device)
    work = flops(shape, config, found, num_trained, tokens)
    rate = (ground.device.tflops if half else ground.device.fp32_tflops or ground.device.tflops / 16) * 1e12
    parts = memory.parts(
        shape, as_run, num_trained, micro, processes=ground.processes, is_cuda=ground.device.is_cuda, half=half, is_dpo=stage == "dpo"
    )
    return Forecast(
        stage=stage,
        lesson=lesson,
        model=name,
        num_parameters=shape.num_parameters,
        num_trained=num_trained,
        num_examples=found.num_examples,
        num_tokens=found.num_tokens,
        num_trained_tokens=round(tokens),
        num_units=found.num_units,
        basis=found.basis,
        units_a_step=config.units_a_step,
        micro_batches=micro_batches,
        idle=idle,
        num_steps=num_steps,
        flops=work,
        hours=work / (rate * ground.efficiency * ground.processes * (1 - idle)) / 3600,
        efficiency=ground.efficiency,
        memory_bytes={part: size for part, size in parts.items() if size},
        device_bytes=ground.device.memory_gib * GIB,
        # every process reads the weights in fp32 before they go where they belong; the first one makes the model once more at the end
        host_bytes=4 * shape.num_parameters * max(ground.devices, 2) + 1.5e9 * ground.devices if ground.device.is_cuda else 0.0,
        disk_bytes=_disk(shape, config, num_trained, found, half),
    )


def _disk(shape: Shape, config: Optimization, num_trained: int, found: Amount, half: bool) -> dict[str, float]:
    """States (one more while it is written), the fp32 checkpoint, tokens with a byte each for whether they are learnt."""
    state = 12 * num_trained + (2 * num_trained if config.sharding.startswith("zero") and half else 0)
    ids = 2 if shape.vocab_size <= 1 << 16 else 4
    tokens = 0 if shape.is_reward else found.num_tokens * (ids + 1)
    return {"states": state * (config.keep_states + 1), "checkpoint": 4 * shape.num_parameters, "tokens": tokens}
