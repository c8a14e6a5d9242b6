"""Settings that the three training stages share."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from medchatzh.recipe import Settings


def deal(num_units: int, most: int, processes: int) -> tuple[int, int]:
    """(micro batches a process, units each) of a step's units: equally many for every process, none of more than `most` units, and as
    little left over as can be."""
    num_micro = max(1, -(-num_units // (most * processes)))
    return num_micro, max(1, -(-num_units // (num_micro * processes)))


class Lora(Settings, frozen=True, kw_only=True):
    """Low-rank adapters in place of full parameters (arXiv:2106.09685). Merged into the weights when the stage ends."""

    rank: int = 0
    """0 trains all parameters, as the paper does."""
    alpha: float = 16.0
    """The product of the two matrices counts alpha / rank."""
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get adapters; "all-linear" is every matrix but embeddings and head."""
    quantized: bool = False
    """The frozen weights in 4 bits (QLoRA, arXiv:2305.14314). Needs CUDA and bitsandbytes."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError("rank must not be negative (0: all parameters), alpha must be positive, dropout from 0 to below 1")
        if self.quantized and not self.rank:
            raise ValueError("quantized needs a rank: weights in 4 bits cannot be trained themselves")


class Optimization(Settings, frozen=True, kw_only=True):
    """What the three training stages share. AdamW throughout, as in the paper (section 3.1)."""

    unit: ClassVar[str] = "rows"
    """The setting that bounds a micro batch."""

    learning_rate: float = 1e-3
    """Peak. The paper's 2e-5 (pre-training) and 2e-4 (SFT) are for 7 B parameters; small models want more."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """What follows the rise. run_sf.sh of the paper's repository asks for a cosine."""
    final_rate: float = 0.1
    """Share of the peak that cosine and linear fall to. A last step at no rate at all teaches nothing."""
    warmup: float = 0.05
    """Share of the steps that the rate rises over (run_sf.sh: 0.05)."""
    weight_decay: float = 1e-5
    """Section 3.1 of the paper."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's, PyTorch's own; large batches want 0.95 as the second (LLaMA)."""
    max_grad_norm: float = 1.0
    epochs: float = 1.0
    """0 trains nothing: the stage passes its model on as it is."""
    max_steps: int = 0
    """Stop after so many steps even if epochs are left; 0 for no bound."""
    row_tokens: int = 512
    """Tokens a packed row, which is also the longest example (context length)."""
    rows: int = 8
    """Rows a micro batch of one device (the paper's "batch size")."""
    accumulation: int = 1
    """Micro batches a step of one device."""
    devices: int = 1
    """Devices that the two above are counted for: a step has rows × accumulation × devices rows. On another number of processes the same
    step is cut into more, fewer or smaller micro batches, so that the losses are the same (section 3.1: 8)."""
    packing: bool = True
    """Several examples a row, isolated from each other. Off: one a row, as the paper's code has it; the same loss, most of it padding."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the arithmetic; weights and optimizer states are fp32. fp16 scales the loss (run_sf.sh), and needs CUDA."""
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    """What processes share out between them: nothing (gradients are averaged), all that FSDP2 shards, or DeepSpeed's ZeRO stage 2 (the
    paper's: gradients and optimizer states) or 3 (weights too)."""
    gradient_checkpointing: bool = False
    """Keep a layer's input alone and compute the rest again in the backward pass: a third more work, a fraction of the memory
    (run_sf.sh)."""
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    """auto: example by example (CPU), FlashAttention 2 where it is installed (CUDA), else PyTorch's SDPA with a block-diagonal mask."""
    kernels: Literal["auto", "torch", "liger"] = "auto"
    """Liger's fused kernels, by themselves where CUDA and `liger_kernel` are there."""
    neftune_alpha: float = 0.0
    """Noise on the embeddings of a training batch, ± alpha / √(tokens × width) (NEFTune, arXiv:2310.05914: 5 to 15); 0 for none."""
    lora: Lora = Lora()
    save_steps: int = 100
    """Steps between resumable states."""
    keep_states: int = 1
    """How many of them are kept, the newest."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too (extra [watch])."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, but is {self.epochs} (0: no training)")
        positive = ("learning_rate", "row_tokens", "rows", "accumulation", "devices", "save_steps", "keep_states", "max_grad_norm")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.max_steps < 0 or self.weight_decay < 0 or self.neftune_alpha < 0:
            raise ValueError("max_steps, weight_decay and neftune_alpha must not be negative (0 steps: no bound)")
        if not 0 <= self.warmup < 1 or not 0 <= self.final_rate <= 1:
            raise ValueError("warmup and final_rate are shares: from 0 to 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie from 0 to below 1, not {self.betas}")

    @property
    def units_a_step(self) -> int:
        """Rows (rankings) of a step, over all devices and micro batches."""
        most: int = getattr(self, self.unit)
        return most * self.accumulation * self.devices

    def idle(self, processes: int) -> float:
        """Share of the places of a step, on so many processes, that no row (ranking) is left for."""
        num_micro, size = deal(self.units_a_step, getattr(self, self.unit), processes)
        return 1 - self.units_a_step / (num_micro * size * processes)

    def num_steps(self, steps_per_epoch: int) -> int:
        if not self.epochs:
            return 0
        steps = max(1, math.ceil(self.epochs * steps_per_epoch))
        return min(steps, self.max_steps) if self.max_steps else steps


class HoldsOut(Optimization, frozen=True, kw_only=True):
    """A stage that splits its own data. (SFT is given a training and a validation file.)"""

    held_out: float = 0.02
    """Share of the data (by document or case) that is never trained on and measured at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.held_out < 1:
            raise ValueError("held_out is a share: from 0 to below 1")
