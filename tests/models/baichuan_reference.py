"""Baichuan's original architecture in plain torch, written from what its published code computes, and tiny checkpoints in its layout.

One sequence at a time, no cache, all in the precision of the weights.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tests.models.published import write_bin

LAYERS, HIDDEN, INNER, HEADS, POSITIONS = 3, 64, 176, 4, 128
CONFIG = {
    "architectures": ["BaiChuanForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_baichuan.BaiChuanConfig",
        "AutoModelForCausalLM": "modeling_baichuan.BaiChuanForCausalLM",
    },
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "model_type": "baichuan",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.29.1",
    "use_cache": True,
}


def tensors(vocab: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Random weights under the original names, `inv_freq` among them."""
    random = np.random.RandomState(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape) * scale).to(dtype)

    made = {"model.embed_tokens.weight": normal(vocab, HIDDEN, scale=1.0)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        made[f"{name}self_attn.W_pack.weight"] = normal(3 * HIDDEN, HIDDEN, scale=0.2)
        made[f"{name}self_attn.o_proj.weight"] = normal(HIDDEN, HIDDEN, scale=0.2)
        made[f"{name}self_attn.rotary_emb.inv_freq"] = _frequencies().to(dtype)
        for part, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
            made[f"{name}mlp.{part}_proj.weight"] = normal(*shape, scale=0.2)
        for part in ("input", "post_attention"):
            made[f"{name}{part}_layernorm.weight"] = 1 + normal(HIDDEN, scale=0.1)
    made["model.norm.weight"] = 1 + normal(HIDDEN, scale=0.1)
    made["lm_head.weight"] = normal(vocab, HIDDEN, scale=0.05)
    return made


def checkpoint(
    folder: Path, tokenizer: bytes, vocab: int, *, num_shards: int = 1, dtype: torch.dtype = torch.float32, **changes: object
) -> Path:
    """A folder as it stood on the hub: its own code, tokenizer.model, .bin."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": vocab} | changes))
    (folder / "modeling_baichuan.py").write_text("raise AssertionError('the code of a checkpoint was run')\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_bos_token": False,
                "add_eos_token": False,
                "auto_map": {"AutoTokenizer": ["tokenization_baichuan.BaiChuanTokenizer", None]},
                "tokenizer_class": "BaiChuanTokenizer",
            }
        )
    )
    (folder / "tokenizer.model").write_bytes(tokenizer)
    write_bin(folder, tensors(vocab, dtype=dtype), num_shards)
    return folder


def logits(weights: dict[str, torch.Tensor], ids: list[int], *, norm_head: bool = False) -> torch.Tensor:
    """[T, vocab] of a sequence of T ids."""
    hidden = weights["model.embed_tokens.weight"][ids]
    cos, sin = (wave(torch.outer(torch.arange(len(ids)).float(), _frequencies())).repeat(1, 2) for wave in (torch.cos, torch.sin))
    future = torch.full((len(ids), len(ids)), float("-inf")).triu(1)
    for layer in range(LAYERS):
        part = {name.removeprefix(f"model.layers.{layer}."): tensor for name, tensor in weights.items()}
        normed = _normalized(hidden, part["input_layernorm.weight"])
        packed = normed @ part["self_attn.W_pack.weight"].T  # [T, 3 * HIDDEN]: q of all heads, then k, then v
        query, key, value = (packed[:, n * HIDDEN : (n + 1) * HIDDEN].view(-1, HEADS, HIDDEN // HEADS).transpose(0, 1) for n in range(3))
        query, key = (each * cos + _half_rotated(each) * sin for each in (query, key))
        scores = query @ key.transpose(1, 2) / math.sqrt(HIDDEN // HEADS) + future
        attended = (scores.softmax(-1) @ value).transpose(0, 1).reshape(-1, HIDDEN)
        hidden = hidden + attended @ part["self_attn.o_proj.weight"].T
        normed = _normalized(hidden, part["post_attention_layernorm.weight"])
        gate, up = (normed @ part[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        hidden = hidden + (gate * torch.sigmoid(gate) * up) @ part["mlp.down_proj.weight"].T
    head = weights["lm_head.weight"]
    if norm_head:
        head = functional.normalize(head)
    return _normalized(hidden, weights["model.norm.weight"]) @ head.T


def _normalized(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)


def _half_rotated(heads: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, -1)
    return torch.cat((-second, first), -1)


def _frequencies() -> torch.Tensor:
    size = HIDDEN // HEADS
    return 1 / 10000 ** (torch.arange(0, size, 2).float() / size)
