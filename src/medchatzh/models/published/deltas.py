"""Base + delta: models that are published as the difference to a base which their authors may not pass on (HuatuoGPT-13B, Ziya-LLaMA-13B).

Source: apply_delta.py of FreedomIntelligence/HuatuoGPT and of IDEA-CCNL/Fengshenbang-LM (Ziya), which hold both models in memory, 52 GB
for 13B. Here a tensor of each and a shard of the sum are: see `weights`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medchatzh import models
from medchatzh.models.published import weights
from medchatzh.run import Progress

if TYPE_CHECKING:
    import torch

_OWN = re.compile(r"embed_tokens|lm_head\.weight|self_attn\.rotary_emb\.inv_freq")
"""Tensors that are the delta's own, no difference: its vocabulary may be larger than the base's (Ziya: 39,424 for LLaMA's 32,000)."""
_RECOMPUTED = re.compile(r"rotary_emb\.inv_freq")
"""Buffers that old versions of transformers saved, and every version works out from the configuration."""


def apply(base: Path, delta: Path, out: Path, shard_bytes: int = weights.SHARD_BYTES) -> None:
    """Write base + delta, in fp16 as its authors' script does, with the delta's configuration and tokenizer, as a new folder `out`.

    The two may be sharded differently. ValueError where they do not belong together, or `out` exists.
    """
    models.require_torch()
    bases, deltas = weights.Weights(base), weights.Weights(delta)
    without_base = [name for name in deltas.names if name not in bases and not _OWN.search(name)]
    without_delta = [name for name in bases.names if name not in deltas and not _RECOMPUTED.search(name)]
    for missing, folder in ((without_base, base), (without_delta, delta)):
        if missing:
            raise ValueError(f"{folder}: lacks {missing[0]} ({len(missing)} tensors in all): base and delta are not of the same model")
    with weights.aside(out) as folder, Progress("base + delta", total=len(deltas.names), unit="tensors") as progress:
        weights.write(folder, progress.over(_sums(bases, deltas)), shard_bytes)
        weights.copy_rest(delta, folder)


def _sums(bases: weights.Weights, deltas: weights.Weights) -> Iterator[tuple[str, torch.Tensor]]:
    for name in deltas.names:
        if _RECOMPUTED.search(name):
            yield name, deltas.read(name)  # as it is: fp16 would round the frequencies
            continue
        tensor = deltas.read(name).half()
        if not _OWN.search(name):
            original = bases.read(name).half()
            if original.shape != tensor.shape:
                raise ValueError(f"{deltas.folder}: {name} is {tuple(tensor.shape)}, the base's {tuple(original.shape)}: another base?")
            tensor += original
        yield name, tensor
