"""`medchatzh convert`: a published checkpoint in a layout of its own → a plain LLaMA folder that everything loads."""

from __future__ import annotations

from pathlib import Path

import msgspec

from medchatzh import models
from medchatzh.models.published import baichuan

_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
"""Model types that transformers, vLLM and llama.cpp know by themselves, and that Chinese medical models are made of."""


def convert(folder: Path, out: Path) -> None:
    """Write the checkpoint in `folder` as a LLaMA in the new folder `out`. ValueError where it is one already, or cannot become one."""
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder}: a LoRA adapter, no whole model; `medchatzh generate --adapter` merges it into its base")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no checkpoint there (config.json is missing)")
    try:
        kind = str(models.describe(folder).get("model_type"))
    except msgspec.DecodeError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}; download it again") from None
    if kind == baichuan.MODEL_TYPE:
        baichuan.convert(folder, out)
    elif kind in _LLAMA_LIKE:
        raise ValueError(f"{folder}: nothing to convert: transformers and vLLM load a {kind} model as it is; use this folder")
    else:
        raise ValueError(f"{folder}: model_type {kind!r} is no LLaMA in another layout; known: {baichuan.MODEL_TYPE}")
