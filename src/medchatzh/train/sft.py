"""Supervised fine-tuning of all parameters: the loss covers answers and their EOS, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medchatzh import models, prompt
from medchatzh.models.packing import Examples, collect
from medchatzh.records import Dialogue, Pool, hold_out, read
from medchatzh.run import Context, Progress, Result
from medchatzh.train import loop
from medchatzh.train.loop import Epochs, rounded
from medchatzh.train.optimization import Optimization

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
LIBRARIES = ("torch", "transformers")


class Config(Optimization, frozen=True, kw_only=True):
    pools: tuple[Pool, ...] = ("general", "medical")
    """What to learn from. The paper's ablation (figure 2) leaves "medical" out."""


def encode(
    dialogues: Iterable[Dialogue], tokenizer: PreTrainedTokenizerBase, template: prompt.Template, row_tokens: int
) -> tuple[Examples, int, int]:
    """Dialogues as examples of at most `row_tokens`; returns them, the dialogues split and the exchanges dropped.

    A long dialogue is split between exchanges; an exchange that is too long by itself is dropped whole. An answer is never
    cut: an EOS after half a sentence teaches stopping early, and no EOS teaches never to stop.
    """
    num_split = num_dropped = 0

    def windows() -> Iterable[prompt.Encoded]:
        nonlocal num_split, num_dropped
        for dialogue in dialogues:
            encoded, dropped = prompt.split_to_fit(dialogue.turns, tokenizer, template, row_tokens)
            num_split += len(encoded) > 1
            num_dropped += dropped
            yield from encoded

    return collect(windows()), num_split, num_dropped


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `score/medical.jsonl` and `curate/general.jsonl`; writes `checkpoint/` and `metrics.jsonl`."""
    base = inputs["pretrain"] / "checkpoint"
    tokenizer, template = models.load_tokenizer(base)
    folders = {"general": inputs["curate"], "medical": inputs["score"]}
    dialogues = [dialogue for pool in config.pools for dialogue in read(folders[pool] / f"{pool}.jsonl", Dialogue)]
    if not dialogues:
        raise ValueError(f"sft: no instructions left in {', '.join(config.pools)}; look at the rejects of curate and score")
    trained, held_out_dialogues = hold_out(dialogues, config.held_out, key=lambda dialogue: dialogue.question)
    with Progress("encode", total=len(dialogues), unit="dialogues") as progress:
        examples, num_split, num_too_long = encode(_counted(trained, progress), tokenizer, template, config.row_tokens)
        held_out, _, _ = encode(_counted(held_out_dialogues, progress), tokenizer, template, config.row_tokens)
    if not len(examples):
        raise ValueError(f"sft: every dialogue is longer than sft.row_tokens = {config.row_tokens}; raise it")
    model = models.load_causal(base)
    models.check_vocabulary(model, tokenizer, base)
    batches = Epochs(examples, config, pad_id=tokenizer.pad_token_id, seed=context.seed)
    facts = loop.train(model, batches, loop.causal_loss, lambda batch: batch.num_targets, config, out, context, "sft")
    nats = loop.held_out_loss(model, held_out, tokenizer.pad_token_id, config)
    models.save(model, tokenizer, template, out / "checkpoint")
    loop.finish(out)
    return Result(
        num_in=len(dialogues),
        num_out=len(trained),
        dropped={"held_out": len(held_out_dialogues)} if held_out_dialogues else {},
        facts=facts
        | {
            "num_examples": len(examples),
            "num_corpus_tokens": examples.num_tokens,
            "num_split_dialogues": num_split,
            "num_exchanges_too_long": num_too_long,
            "held_out_loss": rounded(nats),
        },
    )


def _counted(dialogues: Iterable[Dialogue], progress: Progress) -> Iterable[Dialogue]:
    for dialogue in dialogues:
        progress.add()
        yield dialogue
