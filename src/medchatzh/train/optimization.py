"""Settings that the three training stages share."""

from __future__ import annotations

import math
from typing import Literal

from medchatzh.recipe import Settings


class Optimization(Settings, frozen=True, kw_only=True):
    """What the three training stages share. AdamW throughout, as in the paper (section 3.1)."""

    learning_rate: float = 1e-3
    """Peak. The paper's 2e-5 (pre-training) and 2e-4 (SFT) are for 7 B parameters; small models want more."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Cosine falls to a tenth of the peak; run_sf.sh of the paper's repository asks for cosine."""
    warmup: float = 0.05
    """Share of the steps that the rate rises over (run_sf.sh: 0.05)."""
    weight_decay: float = 1e-5
    """Section 3.1 of the paper."""
    max_grad_norm: float = 1.0
    epochs: float = 1.0
    """0 trains nothing: the stage passes its model on as it is."""
    max_steps: int = 0
    """Stop after so many steps even if epochs are left; 0 for no bound."""
    row_tokens: int = 512
    """Tokens a packed row, which is also the longest example (context length)."""
    rows: int = 8
    """Rows a micro batch."""
    accumulation: int = 1
    """Micro batches a step."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    save_steps: int = 100
    """Steps between resumable states."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, but is {self.epochs} (0: no training)")
        for name in ("learning_rate", "row_tokens", "rows", "accumulation", "save_steps", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.max_steps < 0 or self.weight_decay < 0:
            raise ValueError("max_steps and weight_decay must not be negative (0 steps: no bound)")
        if not 0 <= self.warmup < 1:
            raise ValueError("warmup is a share: from 0 to below 1")

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
