"""LoRA adapters in PEFT's published layout, merged into a plain checkpoint (BenTsao: LLaMA-7B + LoRA).

Merged, W + scale · B · A, because then one engine serves all, in bounded memory and without PEFT: what it would do for us is one product a
matrix, and its own `merge_and_unload` holds the whole model. A merged matrix is kept in fp32, whatever the base is in: rounded to fp16 it
would lose the last bits of what the adapter adds, and PEFT itself adds at run time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from medchatzh import models
from medchatzh.models.published import weights
from medchatzh.run import Progress

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."
_HALF = re.compile(r"(.+)\.lora_([AB])\.weight")
_FOREIGN = ("use_dora", "lora_bias", "use_qalora", "layer_replication", "trainable_token_indices", "target_parameters", "modules_to_save")
"""Settings of PEFT that change the model and that no baseline here uses."""


class AdapterConfig(msgspec.Struct, frozen=True):
    """What of `adapter_config.json` decides the sum; its other keys are about training."""

    peft_type: str
    r: int
    lora_alpha: float
    fan_in_fan_out: bool = False
    """Whether the base stores its matrices as [in, out] (GPT-2's Conv1D) and not as [out, in]."""
    bias: str = "none"
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    def rank(self, module: str) -> int:
        """Rows of A in a module. Patterns are matched as PEFT does, at the end of its name."""
        return int(_matching(self.rank_pattern, module, self.r))

    def scale(self, module: str) -> float:
        """Factor of B · A in a module: alpha / r, or alpha / √r where `use_rslora`."""
        rank = self.rank(module)
        return float(_matching(self.alpha_pattern, module, self.lora_alpha)) / (math.sqrt(rank) if self.use_rslora else rank)


def _matching(patterns: dict[str, Any], module: str, usual: Any) -> Any:
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)), usual)


def read_config(adapter: Path) -> AdapterConfig:
    """ValueError where the folder holds no LoRA adapter, or one that does more than W + scale · B · A."""
    file = adapter / "adapter_config.json"
    if not file.is_file():
        raise ValueError(f"{adapter}: no adapter there (adapter_config.json is missing)")
    try:
        config = msgspec.json.decode(file.read_bytes(), type=AdapterConfig)
        table = msgspec.json.decode(file.read_bytes())
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: not the configuration of a LoRA adapter: {error}") from None
    foreign = [key for key in _FOREIGN if table.get(key)] + (["bias"] if config.bias != "none" else [])
    if config.peft_type != "LORA" or foreign:
        raise ValueError(f"{file}: {', '.join(foreign) or config.peft_type} cannot be merged here; merge it with PEFT and give that folder")
    return config


def merge(base: Path, adapter: Path, out: Path, shard_bytes: int = weights.SHARD_BYTES) -> None:
    """Write base and adapter as one checkpoint, a new folder `out`, with the base's configuration and tokenizer.

    A matrix and its merged form are in memory, and a shard. ValueError where the two do not belong together, or `out` exists.
    """
    models.require_torch()
    config = read_config(adapter)
    bases = weights.Weights(base)
    halves = weights.Weights(adapter, stems=("adapter_model",))
    pairs = _pairs(halves)
    for name in pairs:
        if name not in bases:
            raise ValueError(f"{adapter}: changes {name}, which {base} does not have: an adapter for another model")
    with weights.aside(out) as folder, Progress("base + LoRA", total=len(bases.names), unit="tensors") as progress:
        weights.write(folder, progress.over(_merged(bases, halves, pairs, config)), shard_bytes)
        weights.copy_rest(base, folder)


def _pairs(halves: weights.Weights) -> dict[str, tuple[str, str]]:
    """Name of each changed matrix of the base → names of A and B."""
    found: dict[str, dict[str, str]] = {}
    for name in halves.names:
        match = _HALF.fullmatch(name.removeprefix(_PREFIX))
        if not match:
            raise ValueError(f"{halves.folder}: {name} is neither lora_A nor lora_B; merge the adapter with PEFT and give that folder")
        found.setdefault(f"{match[1]}.weight", {})[match[2]] = name
    for name, half in found.items():
        if len(half) < 2:
            raise ValueError(f"{halves.folder}: only lora_{next(iter(half))} of {name}; download the adapter again")
    if not found:
        raise ValueError(f"{halves.folder}: the adapter is empty: it was saved without its matrices")
    return {name: (half["A"], half["B"]) for name, half in found.items()}


def _merged(
    bases: weights.Weights, halves: weights.Weights, pairs: dict[str, tuple[str, str]], config: AdapterConfig
) -> Iterator[tuple[str, torch.Tensor]]:
    for name in bases.names:
        tensor = bases.read(name)
        if name in pairs:
            first, second = (halves.read(half).float() for half in pairs[name])  # [r, in], [out, r]
            module = name.removesuffix(".weight")
            if len(first) != config.rank(module):
                raise ValueError(f"{halves.folder}: {module} has rank {len(first)}, the configuration says {config.rank(module)}")
            change = second @ first * config.scale(module)
            if config.fan_in_fan_out:
                change = change.T
            if change.shape != tensor.shape:
                raise ValueError(f"{halves.folder}: {name} is {tuple(change.shape)}, the base's {tuple(tensor.shape)}: another base?")
            tensor = tensor.float().add_(change)
        yield name, tensor
