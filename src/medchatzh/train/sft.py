"""Supervised fine-tuning of all parameters: the loss covers answers and their EOS, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medchatzh import models, prompt
from medchatzh.models.packing import Examples, collect
from medchatzh.records import Dialogue, Pool, read
from medchatzh.run import Context, Progress, Result
from medchatzh.train import loop
from medchatzh.train.loop import Epochs, rounded
from medchatzh.train.optimization import Optimization

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 3
LIBRARIES = ("torch", "transformers")


class Config(Optimization, frozen=True, kw_only=True):
    pools: tuple[Pool, ...] = ("general", "medical")
    """What to learn from. The paper's ablation (figure 2) leaves "medical" out."""


class Encoding(NamedTuple):
    """Dialogues as examples, and what did not fit."""

    examples: Examples
    num_split: int
    """Dialogues that became several examples."""
    num_exchanges_dropped: int
    """Exchanges too long by themselves."""
    num_dialogues_dropped: int
    """Dialogues of which nothing fits."""


def encode(dialogues: Iterable[Dialogue], tokenizer: PreTrainedTokenizerBase, template: prompt.Template, row_tokens: int) -> Encoding:
    """Dialogues as examples of at most `row_tokens`. ValueError names a dialogue whose turns do not alternate.

    A long dialogue is split between exchanges; an exchange that is too long by itself is dropped whole. An answer is never
    cut: an EOS after half a sentence teaches stopping early, and no EOS teaches never to stop.
    """
    num_split = num_exchanges = num_dialogues = 0

    def windows() -> Iterator[prompt.Encoded]:
        nonlocal num_split, num_exchanges, num_dialogues
        for dialogue in dialogues:
            try:
                prompt.check(dialogue.turns, answered=True)
            except ValueError as error:
                raise ValueError(f"sft: {dialogue.id}: {error}") from None
            encoded, dropped = prompt.split_to_fit(dialogue.turns, tokenizer, template, row_tokens)
            num_split += len(encoded) > 1
            num_exchanges += dropped
            num_dialogues += not encoded
            yield from encoded

    return Encoding(collect(windows()), num_split, num_exchanges, num_dialogues)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `mix/train.jsonl` and measure on `mix/validation.jsonl`; writes `checkpoint/` and `metrics.jsonl`."""
    base = inputs["pretrain"] / "checkpoint"
    tokenizer, template = models.load_tokenizer(base)

    def encoded(name: str) -> tuple[Encoding, int]:
        dialogues = [dialogue for dialogue in read(inputs["mix"] / f"{name}.jsonl", Dialogue) if dialogue.pool in config.pools]
        with Progress(f"encode {name}", total=len(dialogues), unit="dialogues") as progress:
            return encode(progress.over(dialogues), tokenizer, template, config.row_tokens), len(dialogues)

    encoding, num_in = encoded("train")
    validation, num_validation = encoded("validation")
    if not num_in:
        raise ValueError(f"sft: no instructions left in {', '.join(config.pools)}; look at the rejects of curate and score")
    examples = encoding.examples
    if not len(examples):
        raise ValueError(f"sft: every dialogue is longer than sft.row_tokens = {config.row_tokens}; raise it")
    model = models.load_causal(base)
    models.check_vocabulary(model, tokenizer, base)
    batches = Epochs(examples, config, pad_id=tokenizer.pad_token_id, seed=context.seed)
    facts = loop.train(model, batches, loop.causal_loss, lambda batch: batch.num_targets, config, out, context, "sft")
    nats = loop.held_out_loss(model, validation.examples, tokenizer.pad_token_id, config)
    models.save(model, tokenizer, template, out / "checkpoint")
    return Result(
        num_in=num_in,
        num_out=num_in - encoding.num_dialogues_dropped,
        dropped=loop.counts(too_long=encoding.num_dialogues_dropped),
        facts=facts
        | {
            "num_examples": len(examples),
            "num_corpus_tokens": examples.num_tokens,
            "num_split_dialogues": encoding.num_split,
            "num_exchanges_too_long": encoding.num_exchanges_dropped + validation.num_exchanges_dropped,
            "num_validation": num_validation,
            "held_out_loss": rounded(nats),
        },
    )
