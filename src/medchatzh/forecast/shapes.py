"""What a model is, before its weights are at hand: counted on PyTorch's meta device, from a config.json or a shape known here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from medchatzh import models
from medchatzh.models import Architecture
from medchatzh.train.optimization import Lora

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_LLAMA_7B = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008}
KNOWN: dict[str, dict[str, Any]] = {
    # 7,000,559,616: LLaMA with 64,000 pieces; q, k and v lie in one matrix (W_pack), which counts the same
    "baichuan-7b": {**_LLAMA_7B, "vocab_size": 64000, "max_position_embeddings": 4096, "tie_word_embeddings": False},
    "llama-7b": {**_LLAMA_7B, "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": False},
    # a LLaMA-7B; its vocabulary is not stated on its page, and LLaMA's is taken: some pieces more are less than 1 % of it
    "ziya-llama-7b-reward": {**_LLAMA_7B, "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": False},
    "llama-13b": {
        **_LLAMA_7B,
        **{"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "intermediate_size": 13824, "vocab_size": 32000},
        **{"max_position_embeddings": 2048, "tie_word_embeddings": False},
    },
    # transformers has no class for it. GPT-NeoX has the same matrices, biases and norms: 28 layers of 12 h² + 13 h, a final norm of 2 h,
    # one matrix of embeddings, h = 4,096; the sum, 6,173,286,400, is what users of THUDM/chatglm-6b see printed.
    "chatglm-6b": {
        "model_type": "gpt_neox",
        **{"hidden_size": 4096, "num_hidden_layers": 28, "num_attention_heads": 32, "intermediate_size": 16384, "vocab_size": 130528},
        **{"max_position_embeddings": 2048, "tie_word_embeddings": True},
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        **{"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944},
        **{"vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": False},
    },
}
"""Published shapes, by the names that folders of them have."""
_LLAMA_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")


class Shape(NamedTuple):
    """A model's sizes, in parameters unless said otherwise."""

    name: str
    config: PreTrainedConfig
    num_parameters: int
    """A tied matrix counted once."""
    num_layers: int
    in_layers: int
    """Of all layers together."""
    in_matrices: int
    """Of those, what is multiplied with: all but norms and biases."""
    embedding: int
    """The matrix of the input embeddings."""
    head: int
    """The matrix behind the last layer: to the vocabulary, or to a reward. Counted even if it is the embeddings'."""
    is_tied: bool
    is_reward: bool
    hidden_size: int
    attention_size: int
    """Width of all query heads together."""
    vocab_size: int
    max_positions: int
    linear: dict[str, tuple[int, int]]
    """Name of each matrix that LoRA may stand beside → its width in and out."""


def config_of(given: str | Path | Mapping[str, Any]) -> PreTrainedConfig:
    """The transformers configuration of a known name, a checkpoint folder, a config.json, or its content. ValueError where it is none."""
    models.require_torch()
    from transformers import AutoConfig

    if isinstance(given, Mapping):
        table, where = dict(given), "config"
    elif str(given).lower() in KNOWN:
        table, where = dict(KNOWN[str(given).lower()]), str(given)
    else:
        file = Path(given).expanduser()
        file = file / "config.json" if file.is_dir() else file
        if not file.is_file():
            raise ValueError(f"{given}: no config.json there; give a file, a checkpoint folder, or one of {', '.join(KNOWN)}")
        table, where = msgspec.json.decode(file.read_bytes()), str(file)
    kind = str(table.get("model_type"))
    if kind.lower() == "baichuan":  # its own class needs remote code; the counts are LLaMA's
        table = {key: table[key] for key in _LLAMA_KEYS if key in table} | {"tie_word_embeddings": False}
        kind = "llama"
    table.pop("model_type", None)
    try:
        return AutoConfig.for_model(kind, **table)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: transformers knows no model of type {kind!r}: {str(error).splitlines()[0]}") from None


def of_architecture(shape: Architecture, vocab_size: int) -> PreTrainedConfig:
    """The configuration of a model made from scratch."""
    return config_of(
        {
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.num_heads,
            "intermediate_size": shape.intermediate_size,
            "max_position_embeddings": shape.max_positions,
            "tie_word_embeddings": shape.tie_embeddings,
        }
    )


def count(config: PreTrainedConfig, name: str, *, is_reward: bool = False) -> Shape:
    """Sizes of the model that transformers would build, from one on the meta device: exact, and without a byte of weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if is_reward:
        config = type(config).from_dict(config.to_dict() | {"num_labels": 1})
    with torch.device("meta"):
        model = (AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM).from_config(config)
    model.tie_weights()
    inner = model.base_model
    embedding = model.get_input_embeddings().weight
    head = _head(model, is_reward)
    layers = list(inner.layers)
    parts = [parameter for layer in layers for parameter in layer.parameters()]
    linear = {
        path: (module.in_features, module.out_features)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.weight is not head
    }
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        name=name,
        config=config,
        num_parameters=models.num_parameters(model),
        num_layers=len(layers),
        in_layers=sum(part.numel() for part in parts),
        in_matrices=sum(part.numel() for part in parts if part.dim() > 1),
        embedding=embedding.numel(),
        head=head.numel(),
        is_tied=head is embedding,
        is_reward=is_reward,
        hidden_size=text.hidden_size,
        attention_size=size * text.num_attention_heads,
        vocab_size=embedding.shape[0],
        max_positions=getattr(text, "max_position_embeddings", 0) or 0,
        linear=linear,
    )


def _head(model: models.Model, is_reward: bool) -> Any:
    return model.score.weight if is_reward else model.get_output_embeddings().weight


def num_trained(shape: Shape, lora: Lora) -> int:
    """Parameters that learn: all, or the adapters alone (and a reward model's head, which learns whole)."""
    if not lora.rank:
        return shape.num_parameters
    chosen = [sizes for name, sizes in shape.linear.items() if _is_target(name, lora.targets)]
    if not chosen:
        raise ValueError(f"lora.targets: no matrix of {shape.name} is called {', '.join(lora.targets)}; write 'q_proj', or 'all-linear'")
    return sum(lora.rank * (inner + outer) for inner, outer in chosen) + (shape.head if shape.is_reward else 0)


def _is_target(name: str, targets: tuple[str, ...]) -> bool:
    return targets == ("all-linear",) or any(name == target or name.endswith(f".{target}") for target in targets)
