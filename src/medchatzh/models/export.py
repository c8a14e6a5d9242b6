"""`medchatzh export`: a finished checkpoint as a folder to hand to others: transformers, vLLM, llama.cpp's converter and Ollama read it.

What is written is read by transformers 4 as by 5, whose own files the older version refuses (a list under `extra_special_tokens`) or
misreads (RoPE's base stands under another name, so that 4 would take its default).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from medchatzh import models, prompt
from medchatzh.models import card
from medchatzh.models.decoding.sampling import Decoding
from medchatzh.models.published import pieces, weights
from medchatzh.records import Turn
from medchatzh.run import MANIFEST, PARTIAL, Manifest, Progress, read_manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Dtype = Literal["bf16", "fp16", "fp32"]
_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_LOOP = "{% for message in messages %}"
_AGREEING = (
    "",
    # A tokenizer that puts a space in front of every text (LLaMA's, Baichuan's) put one in front of every turn in training; in one text
    # of all turns it does so at the start, and, as most versions do, behind each special token.
    "{% if not loop.first and messages[loop.index0 - 1]['role'] != 'assistant' %}{{ ' ' }}{% endif %}",
    "{% if not loop.first %}{{ ' ' }}{% endif %}",
)
"""What may have to stand in front of each turn, for the ids of the whole to be those of its turns."""


def export(source: Path, out: Path, dtype: Dtype = "bf16") -> int:
    """Write the checkpoint in `source` (or in a stage's folder) as a new folder `out`; returns the number of its parameters.

    A tensor and a shard are in memory. ValueError where `source` is no finished causal checkpoint, or cannot be kept in `dtype`.
    """
    models.require_torch()
    stage = source if (source / MANIFEST).is_file() else source.parent
    folder = source / "checkpoint" if (source / "checkpoint").is_dir() else source
    if any(part.endswith(PARTIAL) for part in folder.absolute().parts):
        raise ValueError(f"{folder}: not finished; run its stage to the end first")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no checkpoint there (config.json is missing)")
    table = models.describe(folder)
    if "ForCausalLM" not in str(table.get("architectures")):
        raise ValueError(f"{folder}: {table.get('architectures')} gives no text; export the checkpoint of pretrain, sft or dpo")
    tokenizer, template = models.load_tokenizer(folder)
    stored = weights.Weights(folder)
    made = manifests(stage)
    with weights.aside(out) as target, Progress("export", total=len(stored.names), unit="tensors") as progress:
        counted: list[int] = []
        weights.write(target, progress.over(_converted(stored, dtype, counted)))
        _write_json(target / "config.json", _config(table, dtype))
        _write_json(target / "generation_config.json", _generation_config(tokenizer))
        chat_template, agreeing, puts_space = agreement(tokenizer, template)
        _write_tokenizer(tokenizer, template, chat_template, target)
        has_pieces = _copy_pieces([folder, *(place for place, manifest in made if manifest.stage.startswith("tokenizer"))], target)
        facts = card.Facts(
            name=out.name,
            template=template,
            eos=str(tokenizer.eos_token),
            num_parameters=sum(counted),
            dtype=_NAMES[dtype],
            max_positions=int(table.get("max_position_embeddings", 0)),
            agreement=agreeing,
            puts_space=puts_space,
            is_gguf_ready=has_pieces or not _is_from_pieces(target),
            differs_in_gguf=has_pieces and pieces.differs_in_llama_cpp(target / pieces.FILE_NAME),
            decoding=Decoding(),
            manifests=tuple(manifest for _, manifest in made),
        )
        (target / "README.md").write_text(card.readme(facts), "utf-8")
        (target / "Modelfile").write_text(card.modelfile(facts), "utf-8")
    return sum(counted)


def manifests(stage: Path) -> list[tuple[Path, Manifest]]:
    """(folder, manifest) of the stage that made a checkpoint, and of those that it was made from, as far as they lie beside it."""
    found: dict[str, tuple[Path, Manifest]] = {}
    waiting = [stage]
    while waiting:
        folder = waiting.pop(0)
        try:
            manifest = read_manifest(folder)
        except ValueError:
            continue  # given away without what it was made from
        if folder.name not in found:
            found[folder.name] = folder, manifest
            waiting += [folder.parent / name for name in manifest.inputs.values()]
    return list(found.values())


def _converted(stored: weights.Weights, dtype: Dtype, counted: list[int]) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    wanted = getattr(torch, _NAMES[dtype])
    for name in stored.names:
        tensor = stored.read(name)
        counted.append(tensor.numel())
        rounded = tensor.to(wanted) if tensor.is_floating_point() else tensor
        if not torch.isfinite(rounded).all():
            reason = (
                "too large for fp16; take --dtype bf16"
                if torch.isfinite(tensor).all()
                else "no numbers (NaN or infinite): the training diverged"
            )
            raise ValueError(f"{stored.folder}: weights of {name} are {reason}")
        yield name, rounded


def _config(table: dict[str, Any], dtype: Dtype) -> dict[str, Any]:
    """config.json with the names of both versions of transformers."""
    table = table | {"dtype": _NAMES[dtype], "torch_dtype": _NAMES[dtype]}
    rope = table.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        table["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            table["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return table


def _generation_config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Our decoding. Temperature and the like are left out: beside `do_sample: false` they make transformers refuse to save the model."""
    chosen = Decoding()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {name: number for name, number in ids.items() if number is not None} | {
        "do_sample": chosen.do_sample,
        "repetition_penalty": chosen.repetition_penalty,
        "max_new_tokens": chosen.max_new_tokens,
        "min_new_tokens": chosen.min_new_tokens,
    }


def _write_tokenizer(tokenizer: PreTrainedTokenizerBase, template: prompt.Template, chat_template: str, folder: Path) -> None:
    tokenizer.add_bos_token = tokenizer.add_eos_token = False
    models.save_tokenizer(tokenizer, template, folder)
    (folder / "chat_template.jinja").write_text(chat_template, "utf-8")
    file = folder / "tokenizer_config.json"
    table = msgspec.json.decode(file.read_bytes())
    for key in ("backend", "extra_special_tokens", "is_local", "local_files_only"):  # of transformers 5 alone
        table.pop(key, None)
    named = {table.get(f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
    more = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content not in named]
    if more:
        table["additional_special_tokens"] = more
    # Reads tokenizer.json as it is, in both versions; LlamaTokenizer of 4 would make it anew from tokenizer.model.
    table["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Training and our own chat put no BOS in front; not told, llama.cpp and Ollama put one before every text of a sentencepiece model.
    table |= {"add_bos_token": False, "add_eos_token": False, "chat_template": chat_template}
    _write_json(file, table)


def _copy_pieces(folders: Sequence[Path], target: Path) -> bool:
    """Copy tokenizer.model from the first folder that has one; whether there was one."""
    for folder in folders:
        if (folder / pieces.FILE_NAME).is_file():
            shutil.copyfile(folder / pieces.FILE_NAME, target / pieces.FILE_NAME)
            return True
    return False


def _is_from_pieces(folder: Path) -> bool:
    """Whether the tokenizer was a sentencepiece model once, which llama.cpp's converter then wants. (Qwen's and LLaMA 3's never were.)"""
    return bool(msgspec.json.decode((folder / "tokenizer.json").read_bytes())["model"].get("byte_fallback"))


def agreement(tokenizer: PreTrainedTokenizerBase, template: prompt.Template) -> tuple[str, tuple[int, int], bool]:
    """(chat template, (dialogues to which it gives the ids of training, dialogues tried), whether it puts spaces between turns): of the
    forms known, the one that agrees best."""
    plain = prompt.jinja(template)
    forms = [_LOOP + lead + plain.removeprefix(_LOOP) for lead in _AGREEING]
    scores = []
    for form in forms:
        same = 0
        for turns in PROBES:
            messages = [{"role": turn.role, "content": turn.content} for turn in turns]
            given: Any = tokenizer.apply_chat_template(messages, chat_template=form, tokenize=True, return_dict=True)
            same += given["input_ids"] == prompt.encode(turns, tokenizer, template).input_ids
        scores.append(same)
    best = max(range(len(forms)), key=scores.__getitem__)
    return forms[best], (scores[best], len(PROBES)), bool(_AGREEING[best])


def _dialogue(*contents: str, system: str | None = None) -> tuple[Turn, ...]:
    turns = tuple(Turn("assistant" if number % 2 else "user", content) for number, content in enumerate(contents))
    return turns if system is None else (Turn("system", system), *turns)


PROBES = (
    _dialogue("头痛怎么办？"),
    _dialogue("头痛怎么办？", "多休息。"),
    _dialogue("1", "2.5毫克", "３次？", "，好的"),
    _dialogue("咳嗽三天了", "1. 多饮水；\n2. 休息。\n", "还发热呢？", "\n请就医", "好"),
    _dialogue("你好", "您好！", system="你是医生。"),
    _dialogue("你好", "您好！", "脉细数？", system=""),
    _dialogue("  两个空格  ", "  缩进的\t回答\n\n", "𠮷野家😀é", "Hello, x² ≤ 38.5℃"),
)


def _write_json(file: Path, table: dict[str, Any]) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n")
