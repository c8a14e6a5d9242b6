"""Baichuan-7B and Baichuan2-7B as plain LLaMA folders, exactly.

Source: modeling_baichuan.py of baichuan-inc/Baichuan-7B and of Baichuan2-7B-Base. Their layer is LLaMA's (RMSNorm, rotary embedding on the
halves of a head, SwiGLU) but that query, key and value projections lie in one matrix, `W_pack`, one below the other. Baichuan2 scales the
rows of its output matrix to length one (`NormHead`), which is done here once and for all: answers stay what they were, but trained further
such a head is free to grow, as a LLaMA's is. The 13B models know positions by ALiBi and are no LLaMA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from medchatzh import models
from medchatzh.models.published import pieces, weights
from medchatzh.run import Progress

if TYPE_CHECKING:
    import torch

MODEL_TYPE = "baichuan"
_PACKED = "self_attn.W_pack.weight"
_HEAD = "lm_head.weight"
_RECOMPUTED = re.compile(r"rotary_emb\.inv_freq$")
"""Saved by versions of transformers of the time, and worked out from the configuration by every one."""


class Config(msgspec.Struct, frozen=True):
    """What of config.json is needed. Its other keys are the same for all, or about training."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    architectures: tuple[str, ...] = ()
    max_position_embeddings: int = 0
    """0 in the 13B models, which have `model_max_length` instead."""
    hidden_act: str = "silu"
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 0
    tie_word_embeddings: bool = False

    @property
    def has_norm_head(self) -> bool:
        """Baichuan2's class is spelt so; Baichuan-7B's is BaiChuanForCausalLM."""
        return "BaichuanForCausalLM" in self.architectures

    def names(self) -> set[str]:
        """Of all tensors but what is recomputed."""
        parts = [_PACKED, "self_attn.o_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"]
        parts += [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        layers = {f"model.layers.{layer}.{part}" for layer in range(self.num_hidden_layers) for part in parts}
        return layers | {"model.embed_tokens.weight", "model.norm.weight", _HEAD}


def read_config(source: Path) -> Config:
    """ValueError where the folder's model is not LLaMA in another layout."""
    file = source / "config.json"
    try:
        config = msgspec.json.decode(file.read_bytes(), type=Config)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: not the configuration of a Baichuan model: {error}") from None
    if not config.max_position_embeddings or config.hidden_size == 5120:
        raise ValueError(f"{file}: a 13B model, which knows positions by ALiBi: no LLaMA. Baichuan-7B and Baichuan2-7B can be converted")
    if config.hidden_act != "silu" or config.tie_word_embeddings:
        raise ValueError(f"{file}: hidden_act {config.hidden_act!r} or tied embeddings: no model that Baichuan published")
    return config


def convert(source: Path, out: Path, shard_bytes: int = weights.SHARD_BYTES) -> None:
    """Write the model as LLaMA, with its tokenizer, as a new folder `out`: in shards of at most `shard_bytes`, in the precision it has.

    A shard is held in memory, which is never larger than half of the largest that is read. ValueError where the folder is not such a
    model or lacks something, or `out` exists.
    """
    models.require_torch()
    config = read_config(source)
    stored = weights.Weights(source)
    held = {name for name in stored.names if not _RECOMPUTED.search(name)}
    for wrong, what in ((config.names() - held, "lacks"), (held - config.names(), "has an unknown tensor,")):
        if wrong:
            raise ValueError(f"{source}: {what} {min(wrong)} ({len(wrong)} in all): not as it was published; download the checkpoint again")
    with weights.aside(out) as folder, Progress("Baichuan", total=len(stored.names), unit="tensors") as progress:
        pieces.write(source / pieces.FILE_NAME, folder, config.pad_token_id)
        dtype = stored.read("model.norm.weight").dtype
        (folder / "config.json").write_bytes(_llama(config, str(dtype).removeprefix("torch.")))
        weights.write(folder, _unpacked(stored, config, progress), min(shard_bytes, stored.largest_file_bytes // 2))


def _llama(config: Config, dtype: str) -> bytes:
    """config.json by its names of 2023, which all versions of transformers, vLLM and llama.cpp understand."""
    table = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": dtype,
        "attention_bias": False,
        "num_key_value_heads": config.num_attention_heads,
        "rope_theta": 10000.0,
        "use_cache": True,
    } | {key: value for key, value in msgspec.to_builtins(config).items() if key != "architectures"}
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


def _unpacked(stored: weights.Weights, config: Config, progress: Progress) -> Iterator[tuple[str, torch.Tensor]]:
    from torch.nn import functional

    width, vocab = config.hidden_size, config.vocab_size
    shapes = {_PACKED: (3 * width, width), _HEAD: (vocab, width), "embed_tokens.weight": (vocab, width)}
    for name in progress.over(stored.names):
        if _RECOMPUTED.search(name):
            continue
        tensor = stored.read(name)
        wanted = next((shape for end, shape in shapes.items() if name.endswith(end)), tuple(tensor.shape))
        if tensor.shape != wanted:
            raise ValueError(f"{stored.folder}: {name} is {tuple(tensor.shape)}, by config.json it is {wanted}: files of two checkpoints?")
        if name.endswith(_PACKED):
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                yield name.replace("W_pack", f"{part}_proj"), rows.clone()
        elif name == _HEAD and config.has_norm_head:
            # In fp32, then rounded once: at least as near to the true length as the original, which works in the stored precision.
            yield name, functional.normalize(tensor.float()).to(tensor.dtype)
        else:
            yield name, tensor
