"""What a recipe will need, roughly and at once: steps, memory, disk, time. The sharp figures are `medchatzh plan`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medchatzh.doctor.sample import CHARS_A_TOKEN, texts
from medchatzh.records import Dialogue, Document, Preference, Record

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject
    from medchatzh.train.optimization import Optimization

_CPU_RATE = 75e9
"""FLOP/s of a core that training reaches in fp32 (12 to 110 M parameters)."""
_GPU_RATE = 120e12
"""FLOP/s of a GPU that training reaches: 40 % of an A800's bf16 peak."""


def num_tokens(subject: Subject, kind: type[Record], pools: Sequence[str] = ()) -> float:
    """Tokens of all records of a kind (of some pools), by the sample."""
    chars = 0.0
    for source in subject.sources:
        chosen = [record for record in source.of(kind) if not pools or getattr(record, "pool", "") in pools]
        size = sum(len(text) for record in chosen for text in texts(record))
        kept = max(1, source.num_kept)
        chars += size / kept * source.num_records
    return chars / CHARS_A_TOKEN


def num_steps(subject: Subject, stage: str) -> int:
    """Steps that a stage will take; 0 where the sample holds nothing for it."""
    from medchatzh.train.pretrain import Config as Pretrain
    from medchatzh.train.reward import Config as Reward

    config = subject.training[stage]
    if isinstance(config, Reward):
        rankings = sum(source.num_records for source in subject.sources if source.of(Preference))
        epoch = rankings * (1 - config.held_out) / config.units_a_step
    else:
        is_books = isinstance(config, Pretrain)
        tokens = num_tokens(subject, Document) if is_books else num_tokens(subject, Dialogue, subject.recipe.sft.pools)
        row = config.row_tokens
        if not config.packing and not is_books and subject.dialogues:  # one example a row, however short
            mean = sum(len(text) for dialogue in subject.dialogues for text in texts(dialogue)) / len(subject.dialogues) / CHARS_A_TOKEN
            row = min(row, max(1, round(mean)))
        epoch = tokens / (row * config.units_a_step)
    return config.num_steps(max(1, round(epoch))) if epoch else 0


def device_bytes(subject: Subject, config: Optimization) -> tuple[float, float]:
    """(what weights, gradients and AdamW's states need on a device, what the activations of a micro batch do), both a lower bound.

    fp32: 4 + 4 + 8 bytes a parameter. ZeRO-2 keeps 2 (16-bit weights) and shares out 14; ZeRO-3 and FSDP2 share out all. LoRA keeps the
    weights alone, in 4 bits half a byte. Activations: 34 bytes a token, layer and width without checkpointing (arXiv:2205.05198, its
    attention matrices left out), 2 with it; logits are never whole in memory.
    """
    num_parameters = subject.num_parameters
    if config.lora.rank:
        states = num_parameters * (0.55 if config.lora.quantized else 4.0)
    else:
        kept, shared = {"none": (16.0, 0.0), "zero2": (2.0, 14.0)}.get(config.sharding, (0.0, 16.0))
        states = num_parameters * (kept + shared / subject.machine.world(config.devices))
    shape = subject.shape
    layers, hidden = (int(shape.get(key, 0)) for key in ("num_hidden_layers", "hidden_size"))
    a_token = layers * hidden * (2 if config.gradient_checkpointing else 34)
    return states, config.rows * config.row_tokens * a_token


def disk_bytes(subject: Subject) -> float:
    """Checkpoints of all stages in fp32, and the most states that lie there at once: the ones kept and the one that is being written."""
    num_parameters = subject.num_parameters
    states = [(config.keep_states + 1) * 12 * num_parameters for config in subject.training.values() if not config.lora.rank]
    return 4 * num_parameters * len(subject.training) + max(states, default=0)


def seconds_a_step(subject: Subject, config: Optimization) -> float:
    """By 6 FLOPs a parameter and token, 8 with gradient checkpointing."""
    machine = subject.machine
    rate = _GPU_RATE * len(machine.gpus) or _CPU_RATE * machine.usable_cores
    factor = 8 if config.gradient_checkpointing else 6
    return factor * subject.num_parameters * config.units_a_step * config.row_tokens / rate
