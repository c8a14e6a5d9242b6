"""What a checkpoint folder says of itself: its configuration, tokenizer files and weights, read without loading a model."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medchatzh import prompt

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_CHAT_NAME = re.compile(r"chat|instruct|assistant|(?<![a-z])(it|sft|rlhf|dpo)(?![a-z])", re.IGNORECASE)
MARKS = {
    "chatml": "<|im_start|>",
    "bentsao": "### 问题",
    "huatuogpt": "<病人>",
    "medchatzh": "Human: \n",
    "llama-3": "<|start_header_id|>",
    "llama-2": "[INST]",
    "baichuan-chat": "<reserved_",
    "chatglm": "[gMASK]",
    "deepseek": "<｜User｜>",
    "gemma": "<start_of_turn>",
    "glm-4": "<|user|>",
    "alpaca": "### Instruction",
    "vicuna": "USER:",
}
"""Name of a chat template → what stands in no other's. The first ones are ours (`prompt.TEMPLATES`)."""


class Folder:
    """A checkpoint folder. Files that are missing or no JSON read as empty tables: other checks say so."""

    def __init__(self, setting: str, path: Path) -> None:
        self.setting = setting
        self.path = path

    def table(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.table("config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return self.table("special_tokens_map.json") | self.table("tokenizer_config.json")

    def special(self, name: str) -> str:
        """The text of a special token such as `eos_token`; '' where none is named."""
        value = self.tokenizer_config.get(name)
        return str(value.get("content", "")) if isinstance(value, Mapping) else str(value or "")

    @cached_property
    def weight_files(self) -> list[Path]:
        """The files that hold weights, those named by an index among them whether they are there or not. Optimizer states are none."""
        named = {file for pattern in WEIGHTS for file in self.path.glob(pattern)}
        for index in self.path.glob("*.index.json"):
            weight_map = self.table(index.name).get("weight_map", {})
            named |= {self.path / str(file) for file in weight_map.values()}
        return sorted(file for file in named if not file.name.startswith(("optimizer", "scheduler", "training_args", "rng_state")))

    @property
    def chat_template(self) -> str:
        """The text of the chat template, wherever it stands; '' where there is none."""
        for name in ("chat_template.jinja", "chat_template.json"):
            if (self.path / name).is_file():
                return (self.path / name).read_text("utf-8", "replace")
        found = self.tokenizer_config.get("chat_template") or ""
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    @property
    def template_name(self) -> str:
        """Of `MARKS`; '' where the chat template is none of those, or there is none."""
        text = self.chat_template.replace("\\n", "\n")
        return next((name for name, mark in MARKS.items() if mark in text), "")

    @property
    def is_chat(self) -> bool:
        """Whether it was trained to converse, as its names say or its EOS, which ends a turn. (Qwen's base models too have a template.)"""
        if (self.path / prompt.FILE_NAME).exists():
            return True
        eos = self.special("eos_token")
        ends_turn = len(eos) > len("</s>") and eos in self.chat_template
        return ends_turn or any(_CHAT_NAME.search(name) for name in (self.path.name, str(self.config.get("_name_or_path", ""))))

    @property
    def is_known(self) -> bool:
        """Whether transformers has the model's class itself."""
        kind = str(self.config.get("model_type", "")).replace("-", "_")
        found = find_spec("transformers")
        if not found or not found.origin:
            return True  # that it is missing is another finding
        return bool(kind) and (Path(found.origin).parent / "models" / kind).is_dir()

    @cached_property
    def embedding_rows(self) -> int:
        """Rows of the embedding matrix as stored; 0 where it cannot be told without loading the weights (`.bin`)."""
        from safetensors import safe_open

        for file in self.weight_files:
            if file.suffix != ".safetensors" or damage(file):
                continue
            with safe_open(file, "numpy") as opened:
                for name in opened.keys():  # noqa: SIM118
                    if name.endswith(("embed_tokens.weight", "wte.weight", "word_embeddings.weight")):
                        return int(opened.get_slice(name).get_shape()[0])
        return 0


def damage(file: Path) -> str:
    """What is wrong with a file of weights, by its first bytes and its size; '' where nothing shows."""
    if not file.is_file():
        return "is missing, and the index names it"
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(64)
    if head.startswith(b"version https://git-lfs"):
        return f"is a Git LFS pointer of {size} bytes, not the weights"
    if not size:
        return "is empty"
    if head.lstrip()[:1] == b"<":
        return "is a web page: the download was refused"
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "numpy"):
                return ""
        except SafetensorError as error:
            return f"is damaged or cut off ({error})"
    if head.startswith(b"PK") and not zipfile.is_zipfile(file):
        return "is cut off"
    return ""


def num_parameters(shape: Mapping[str, Any], vocab_size: int = 0) -> int:
    """Parameters of a LLaMA-like model from the keys of its config.json; 0 where it is none."""
    try:
        hidden, layers, heads = (int(shape[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        inner, vocab = int(shape["intermediate_size"]), vocab_size or int(shape["vocab_size"])
    except (KeyError, TypeError, ValueError):
        return 0
    head = int(shape.get("head_dim") or hidden // heads)
    key_heads = int(shape.get("num_key_value_heads") or heads)
    attention = 2 * hidden * heads * head + 2 * hidden * key_heads * head
    embeddings = vocab * hidden * (1 if shape.get("tie_word_embeddings") else 2)
    return embeddings + layers * (attention + 3 * hidden * inner + 2 * hidden) + hidden


def problems(folder: Folder) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) of the weights, and of a tokenizer that is a pointer."""
    for file in folder.weight_files:
        if wrong := damage(file):
            yield str(file), wrong
    for name in ("tokenizer.model", "tokenizer.json"):
        file = folder.path / name
        if file.is_file() and (wrong := damage(file)):
            yield str(file), wrong
