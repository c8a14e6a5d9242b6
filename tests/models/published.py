"""Tiny checkpoints in the layouts in which the baselines are published, made without transformers: any version of it must read them alike.

Weights come from numpy's frozen generator, so they are the same everywhere, as the answers recorded in golden/baselines.json ask for.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

TOKENIZER = Path(__file__).parents[1] / "golden" / "llama_tokenizer.model"
"""As LLaMA's: BPE with bytes, a space in front, unk 0, BOS 1, EOS 2, nothing normalized; 768 pieces."""
LAYERS, HIDDEN, INNER, VOCAB = 2, 32, 48, 768

LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-06,
    "initializer_range": 0.02,
    "vocab_size": VOCAB,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
}
LORA_CONFIG = {  # the keys that PEFT 0.3 wrote when BenTsao was published
    "base_model_name_or_path": "decapoda-research/llama-7b-hf",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 8,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
}


def llama_weights(seed: int, vocab: int = VOCAB, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Random tensors under LLaMA's names, `inv_freq` among them, as transformers saved it in 2023."""
    random = np.random.RandomState(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape) * scale).to(dtype)

    tensors = {"model.embed_tokens.weight": normal(vocab, HIDDEN, scale=1.0)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for part in "qkvo":
            tensors[f"{name}self_attn.{part}_proj.weight"] = normal(HIDDEN, HIDDEN, scale=0.2)
        for part, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
            tensors[f"{name}mlp.{part}_proj.weight"] = normal(*shape, scale=0.2)
        for part in ("input", "post_attention"):
            tensors[f"{name}{part}_layernorm.weight"] = 1 + normal(HIDDEN, scale=0.1)
        tensors[f"{name}self_attn.rotary_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, 16, 2).float() / 16)
    tensors["model.norm.weight"] = 1 + normal(HIDDEN, scale=0.1)
    tensors["lm_head.weight"] = normal(vocab, HIDDEN, scale=0.3)
    tensors["lm_head.weight"][2] *= 1.5  # else EOS would hardly come
    return tensors


def write_bin(folder: Path, tensors: dict[str, torch.Tensor], num_shards: int = 1) -> None:
    """`pytorch_model.bin`, or shards of it with an index."""
    if num_shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    names = list(tensors)
    files = {}
    for number in range(num_shards):
        file = f"pytorch_model-{number + 1:05}-of-{num_shards:05}.bin"
        members = names[number * len(names) // num_shards : (number + 1) * len(names) // num_shards]
        torch.save({name: tensors[name] for name in members}, folder / file)
        files |= dict.fromkeys(members, file)
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())}, "weight_map": files}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path, *, add_bos: bool = True) -> None:
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    texts = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    special = {key: {"content": text, **flags, "__type": "AddedToken"} for key, text in texts.items()}
    config = {
        **special,
        "add_bos_token": add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": None,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({key: {"content": text, **flags} for key, text in texts.items()}))


def llama(folder: Path, seed: int = 1, *, num_shards: int = 1, add_bos: bool = True, **changes: object) -> Path:
    """A LLaMA as it stood on the hub: config, tokenizer.model, .bin."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | changes))
    write_bin(folder, llama_weights(seed), num_shards)
    write_tokenizer(folder, add_bos=add_bos)
    return folder


def lora(folder: Path, seed: int = 3, **changes: object) -> Path:
    """BenTsao's folder: adapter_config.json and adapter_model.bin."""
    folder.mkdir()
    config = LORA_CONFIG | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    random = np.random.RandomState(seed)
    tensors = {}
    for layer in range(LAYERS):
        for module in config["target_modules"]:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_"
            tensors[f"{name}A.weight"] = torch.from_numpy(random.standard_normal((config["r"], HIDDEN)) * 0.1).float()
            tensors[f"{name}B.weight"] = torch.from_numpy(random.standard_normal((HIDDEN, config["r"])) * 0.1).float()
    torch.save(tensors, folder / "adapter_model.bin")
    return folder


def delta(folder: Path, seed: int = 5, *, num_shards: int = 3, vocab: int = VOCAB + 24) -> Path:
    """HuatuoGPT-13B's folder: fp16, sharded, small differences, and a vocabulary of its own."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | {"vocab_size": vocab, "torch_dtype": "float16"}))
    tensors = llama_weights(seed, vocab, torch.float16)
    for name, tensor in tensors.items():
        if "embed_tokens" not in name and "lm_head" not in name and "inv_freq" not in name:
            tensor *= 0.1
    write_bin(folder, tensors, num_shards)
    write_tokenizer(folder)
    return folder


def ziya(folder: Path, seed: int = 7, *, bias: float | None = None) -> Path:
    """Ziya-LLaMA-7B-Reward's folder: a body and a value head, and a class that comes as code (and must not be run)."""
    folder.mkdir()
    code = {"AutoModelForSequenceClassification": "modeling_llama_rm.LlamaRewardModel"}
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | {"architectures": ["LlamaRewardModel"], "auto_map": code}))
    (folder / "modeling_llama_rm.py").write_text("raise AssertionError('the code of a checkpoint was run')\n")
    tensors = llama_weights(seed)
    tensors["value_head.weight"] = tensors.pop("lm_head.weight")[:1]
    if bias is not None:
        tensors["value_head.bias"] = torch.tensor([bias])
    write_bin(folder, tensors, num_shards=2)
    write_tokenizer(folder)
    return folder
