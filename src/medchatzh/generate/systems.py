"""Systems that are not trained here: a baseline by name, any checkpoint, any model behind a server. How they are described and asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh.models.cache import content_key
from medchatzh.models.published import baselines
from medchatzh.models.published.baselines import Baseline, Variant
from medchatzh.models.served.answers import Keep, answer_all, remembered
from medchatzh.models.served.wire import Answer, Endpoint, usage
from medchatzh.recipe import Settings
from medchatzh.records import Turn
from medchatzh.run import Digests

Answered = tuple[str, str]
"""An answer and how it ended, as in `Prediction`."""
Ask = Callable[[Sequence[Sequence[Turn]]], Iterator[tuple[int, Answered]]]
"""Dialogues → the number of each, and its answer, as it comes."""


class Config(Settings, frozen=True, kw_only=True):
    """A system that is not trained here: a `model`, with what is laid over it, or an `endpoint`."""

    name: str
    """The system's name in tables."""
    baseline: str = ""
    """Whose own code says how it is asked and read: `medchatzh`, `bentsao`, `huatuogpt`, `chatglm-med`, `gpt-3.5-turbo`. Left out: a
    checkpoint is asked with the template of its `prompt.json` (the paper's where it has none) and `generate.decoding`, a server with the
    turns as messages and its own defaults, but for what `endpoint.extra` sets."""
    variant: Variant = "official"
    """`official`: as the baseline's authors run it; `paper`: as the script of the MedChatZH paper runs it."""
    model: str = ""
    """Checkpoint folder, or the base's, where there is more."""
    deltas: tuple[str, ...] = ()
    """Folders of differences, added to the base one after the other: HuatuoGPT's to Ziya's, and Ziya's to LLaMA."""
    adapter: str = ""
    """Folder of a LoRA adapter in PEFT's layout (BenTsao's), merged into the base."""
    endpoint: Endpoint = Endpoint()
    """A server in place of `model`."""

    def __post_init__(self) -> None:
        where = f"systems {self.name!r}"
        if not re.fullmatch(r"[^\s@=/]+", self.name):
            raise ValueError(f"{where}: a name has no spaces and none of @, = and /")
        if bool(self.model) == bool(self.endpoint.base_url and self.endpoint.model):
            raise ValueError(f"{where}: give either model, a checkpoint folder, or endpoint.base_url and endpoint.model")
        if (self.adapter or self.deltas) and not self.model:
            raise ValueError(f"{where}: an adapter or a delta needs the base that it changes: set model")
        if not self.baseline and self.variant != "official":
            raise ValueError(f"{where}: variant {self.variant!r} is of a baseline: set baseline")
        chosen = self.chosen
        if chosen and self.model and chosen.reached == "endpoint":
            raise ValueError(f"{where}: {chosen.name} has no checkpoint that runs here; give an endpoint, or a file under [[predictions]]")
        if chosen and not self.model and chosen.num_beams > 1:
            raise ValueError(f"{where}: {chosen.num_beams} beams cannot be had over an endpoint; give the checkpoint as model")

    @property
    def chosen(self) -> Baseline | None:
        """The baseline that it is; None where it is asked in its own way."""
        return baselines.baseline(self.baseline, self.variant) if self.baseline else None

    @property
    def kind(self) -> Literal["checkpoint", "endpoint"]:
        return "checkpoint" if self.model else "endpoint"

    def folders(self) -> dict[str, Path]:
        """Setting → folder, in the order in which they are laid over each other."""
        deltas = {f"deltas[{number}]": folder for number, folder in enumerate(self.deltas)}
        given = {"model": self.model} | deltas | {"adapter": self.adapter}
        return {setting: Path(folder).expanduser() for setting, folder in given.items() if folder}

    def files(self) -> dict[str, Path]:
        """`setting/name` → file, of all that its checkpoint is made of. ValueError where a folder is none."""
        for setting, folder in self.folders().items():
            if not folder.is_dir():
                raise ValueError(f"systems {self.name!r}: {setting}: {folder} is not a folder; give a checkpoint's")
        return files_in(self.folders())


def files_in(folders: Mapping[str, Path]) -> dict[str, Path]:
    """`label/name` → file, of some folders."""
    return {
        f"{label}/{file.name}": file
        for label, folder in folders.items()
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.startswith(".")
    }


def assembled(folders: Mapping[str, Path], scratch: Path) -> Path:
    """The checkpoint to load: that of `model`, or of what was laid over it, made in `scratch` (as large as the model, for each)."""
    from medchatzh.models.published import adapters, deltas

    base = folders["model"]
    for number, (setting, folder) in enumerate(folders.items()):
        if setting != "model":
            made = scratch / f"assembled{number}"
            if not made.exists():  # else a run that was killed since has made it
                (adapters.merge if setting == "adapter" else deltas.apply)(base, folder, made)
            base = made
    return base


def answer_here(
    label: str, files: Mapping[str, Path], way: Any, dialogues: Sequence[Sequence[Turn]], ask: Ask, cache: Path
) -> list[Answered]:
    """The answers of a checkpoint: those that `cache` knows of the same `files` asked in the same `way`, and the others from `ask`.

    Each is on disk as soon as it is there, a line of an append-only file, so a killed run goes on from it. As an answer does not depend on
    what is decoded beside it, that ends in the same bytes.
    """
    digests = Digests(cache / ".digests.json")
    asked = msgspec.json.encode(({name: digests[file] for name, file in files.items()}, way), order="deterministic")
    digests.save()
    path = cache / f"generated-{hashlib.sha256(asked).hexdigest()[:16]}.jsonl"

    def ask_by_length(missing: Sequence[int], keep: Keep) -> None:  # alike ones side by side
        ordered = sorted(range(len(missing)), key=lambda place: sum(len(turn.content) for turn in dialogues[missing[place]]))
        for number, answered in ask([dialogues[missing[place]] for place in ordered]):
            keep(ordered[number], Answer(*answered))

    given = remembered(path, [content_key(turns).hex() for turns in dialogues], ask_by_length, label)
    return [(answer.text, answer.finish) for answer in given]


def answer_over_http(config: Config, dialogues: Sequence[Sequence[Turn]], cache: Path, seed: int) -> tuple[list[Answered], dict[str, Any]]:
    """(answers, what they took) of a server, which is asked once for each question, whatever is killed: see `answers`."""
    chosen = config.chosen or baselines.baseline("gpt-3.5-turbo")  # the turns alone
    requests = [baselines.request(chosen, turns, seed=seed) for turns in dialogues]
    given = answer_all(config.endpoint, requests, cache, config.name)
    used = list(given)
    if chosen.max_total_tokens:  # only now is it known how long the prompts are; those whose answers went beyond are asked anew
        beyond = {
            number: baselines.request(chosen, dialogues[number], num_prompt_tokens=answer.prompt_tokens, seed=seed)
            for number, answer in enumerate(given)
            if answer.prompt_tokens and answer.prompt_tokens + (answer.completion_tokens or 0) > chosen.max_total_tokens
        }
        again = answer_all(config.endpoint, list(beyond.values()), cache, config.name)
        used += again
        for number, answer in zip(beyond, again, strict=True):
            given[number] = answer
    texts = [baselines.from_text(chosen, turns, answer.text) for turns, answer in zip(dialogues, given, strict=True)]
    return [(text, answer.finish) for text, answer in zip(texts, given, strict=True)], usage(config.endpoint, used)
