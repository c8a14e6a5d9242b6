"""Supervised fine-tuning, of all parameters or of LoRA adapters: the loss covers answers and their EOS, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medchatzh import models, prompt
from medchatzh.models.packing import Examples, Ints
from medchatzh.records import Dialogue, Pool, read
from medchatzh.run import SCRATCH, Context, Progress, Result
from medchatzh.train import loop
from medchatzh.train.loop import Epochs, rounded
from medchatzh.train.optimization import Optimization
from medchatzh.train.processes import join

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 4
LIBRARIES = ("torch", "transformers", "deepspeed", "peft")
TOGETHER = True


class Config(Optimization, frozen=True, kw_only=True):
    pools: tuple[Pool, ...] = ("general", "medical")
    """What to learn from. The paper's ablation (figure 2) leaves "medical" out."""


def encode(
    dialogues: Iterable[tuple[int, Dialogue]],
    tokenizer: PreTrainedTokenizerBase,
    template: prompt.Template,
    row_tokens: int,
    counts: Counter[str],
) -> Iterator[tuple[int, prompt.Encoded]]:
    """Numbered dialogues as examples of at most `row_tokens`. ValueError names a dialogue whose turns do not alternate.

    A long dialogue is split between exchanges; an exchange that is too long by itself is dropped whole. An answer is never
    cut: an EOS after half a sentence teaches stopping early, and no EOS teaches never to stop. `counts` dialogues, those split, those of
    which nothing fits (too_long), and exchanges too long by themselves.
    """
    for number, dialogue in dialogues:
        try:
            prompt.check(dialogue.turns, answered=True)
        except ValueError as error:
            raise ValueError(f"sft: {dialogue.id}: {error}") from None
        encoded, dropped = prompt.split_to_fit(dialogue.turns, tokenizer, template, row_tokens)
        counts.update(dialogues=1, split=len(encoded) > 1, exchanges_too_long=dropped, too_long=not encoded)
        for window in encoded:
            yield number, window


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `mix/train.jsonl` and measure on `mix/validation.jsonl`; writes `checkpoint/` and `metrics.jsonl`."""
    processes = join(context.threads)
    base = inputs["pretrain"] / "checkpoint"
    tokenizer, template = models.load_tokenizer(base)

    def numbered(name: str) -> Iterator[tuple[int, Dialogue]]:
        for number, dialogue in enumerate(read(inputs["mix"] / f"{name}.jsonl", Dialogue)):
            if dialogue.pool in config.pools:
                yield number, dialogue

    def part(name: str) -> tuple[Examples, Ints, Counter[str]]:
        counts: Counter[str] = Counter()
        with Progress(f"encode {name}", total=None, unit="dialogues") as progress:
            encoded = encode(progress.over(numbered(name)), tokenizer, template, config.row_tokens, counts)
            return *loop.stored(encoded, counts, out / SCRATCH / name, len(tokenizer), processes), counts

    examples, numbers, counts = part("train")
    validation, _, validation_counts = part("validation")
    if not counts["dialogues"]:
        raise ValueError(f"sft: no instructions left in {', '.join(config.pools)}; look at the rejects of curate and score")
    if not len(examples):
        raise ValueError(f"sft: every dialogue is longer than sft.row_tokens = {config.row_tokens}; raise it")

    def make(quantized: bool) -> models.Model:
        model = models.load_causal(base, quantized=quantized)
        models.check_vocabulary(model, tokenizer, base)
        return model

    def names(chosen: Ints) -> list[str]:
        wanted = set(numbers[chosen].tolist())
        return [dialogue.id for number, dialogue in numbered("train") if number in wanted]

    batches = Epochs(examples, config, pad_id=tokenizer.pad_token_id, seed=context.seed)
    model, facts = loop.train(make, batches, loop.causal(config), config, out, context, "sft", names)
    if not processes.is_first:
        return Result()
    models.save(model, tokenizer, template, out / "checkpoint")
    return Result(
        num_in=counts["dialogues"],
        num_out=counts["dialogues"] - counts["too_long"],
        dropped=loop.dropped(too_long=counts["too_long"]),
        facts=facts
        | {
            "num_examples": len(examples),
            "num_corpus_tokens": examples.num_tokens,
            "num_split_dialogues": counts["split"],
            "num_exchanges_too_long": counts["exchanges_too_long"] + validation_counts["exchanges_too_long"],
            "num_validation": validation_counts["dialogues"],
            "held_out_loss": rounded(loop.held_out_loss(model, validation, tokenizer.pad_token_id, config)),
        },
    )
