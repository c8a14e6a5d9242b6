"""LoRA and QLoRA with PEFT: low-rank adapters that learn while the weights stand still, merged into these at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from medchatzh import models
from medchatzh.train.optimization import Lora

TOLERANCE = 1e-3
"""How far merged logits may be from those with the adapter beside, as a share of the largest: fp32 sums in another order give 1e-6."""


def attach(model: models.Model, config: Lora, *, head: str = "") -> Any:
    """A PEFT model around `model`, which itself holds the adapters from now on; only they learn, and the module `head` (a reward
    model's)."""
    import peft

    targets: Any = list(config.targets) if config.targets != ("all-linear",) else "all-linear"
    if config.quantized:
        model = peft.prepare_model_for_kbit_training(model)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # it takes fractions
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="SEQ_CLS" if head else "CAUSAL_LM",
        modules_to_save=[head] if head else None,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise ValueError(f"lora.targets: {error}; write names of the model's matrices such as 'q_proj', or 'all-linear'") from None


def merged(
    make: Callable[[], models.Model], config: Lora, weights: Mapping[str, torch.Tensor], adapter: Path, *, head: str = ""
) -> tuple[models.Model, float]:
    """(the base with what the adapters learnt in its matrices, how far its logits are from those of the two apart, as a share of the
    largest).

    The base is made anew, in fp32 and in one piece, also where it was trained in 4 bits or in shards. Writes the adapter itself, in PEFT's
    layout, to `adapter`. ValueError where the merged model answers otherwise than the two apart.
    """
    wrapped = attach(make(), Lora(rank=config.rank, alpha=config.alpha, targets=config.targets), head=head)
    model = wrapped.base_model.model
    missing = [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in weights]
    assert not missing, missing
    model.load_state_dict(weights, strict=False)
    wrapped.save_pretrained(adapter)
    model.eval()
    ids = torch.randint(0, model.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(input_ids=ids, use_cache=False).logits
        whole = wrapped.merge_and_unload()
        difference = float((whole(input_ids=ids, use_cache=False).logits - before).abs().max() / before.abs().max())
    if difference > TOLERANCE:
        raise ValueError(
            f"the merged model's logits differ from the adapter's by {difference:.1e} of the largest; the adapter lies in {adapter}"
        )
    return whole, difference
