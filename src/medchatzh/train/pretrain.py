"""Continued pre-training on the books, from a checkpoint folder or from scratch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from medchatzh import models, records
from medchatzh.models.packing import Encoded, Examples, Ints
from medchatzh.records import Document, read
from medchatzh.run import SCRATCH, Context, Progress, Result
from medchatzh.train import loop
from medchatzh.train.loop import Epochs, rounded
from medchatzh.train.optimization import HoldsOut
from medchatzh.train.processes import join

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 2
LIBRARIES = ("torch", "transformers", "deepspeed", "peft")
TOGETHER = True

T = TypeVar("T")


class Config(HoldsOut, frozen=True, kw_only=True):
    base: str = ""
    """Checkpoint folder to go on from; empty makes a model of `architecture` from scratch. Set `tokenizer.path` to the same folder."""
    architecture: models.Architecture = models.Architecture()


def encode(
    documents: Iterable[tuple[int, Document]], tokenizer: PreTrainedTokenizerBase, row_tokens: int, counts: Counter[str]
) -> Iterator[tuple[int, Encoded]]:
    """Numbered documents as examples of at most `row_tokens`, each document closed by EOS; `counts` documents, their characters, those
    split.

    A document longer than a row becomes several examples, each an independent context: nothing is lost, only sight of what
    stood before. Every token but an example's first is predicted.
    """
    # By the thousand: the tokenizer then works on all cores, several times faster than text by text.
    for some in batched(documents, 1000):
        texts = [document.text for _, document in some]
        for (number, document), ids in zip(
            some, tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"], strict=True
        ):
            ids.append(tokenizer.eos_token_id)
            counts["documents"] += 1
            counts["chars"] += len(document.text)
            counts["split"] += len(ids) > row_tokens
            for start in range(0, len(ids), row_tokens):
                chunk = ids[start : start + row_tokens]
                yield number, (chunk, chunk)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `books/documents.jsonl`; writes `checkpoint/` and `metrics.jsonl`."""
    processes = join(context.threads)
    tokenizer, template = models.load_tokenizer(inputs["tokenizer"])
    file = inputs["books"] / "documents.jsonl"
    if next(read(file, Document), None) is None:
        raise ValueError("pretrain: no book text; check ingest.sources for a source of format 'book', or the rejects of the books stage")
    base = Path(config.base).expanduser()

    def make(quantized: bool) -> models.Model:
        if not config.base:
            return models.new_causal(config.architecture, tokenizer, context.seed)
        model = models.load_causal(base, quantized=quantized)
        models.check_vocabulary(model, tokenizer, base)
        return model

    def part(is_held_out: bool) -> tuple[Examples, Ints, Counter[str]]:
        counts: Counter[str] = Counter()
        name = "held out" if is_held_out else "encode"

        def documents() -> Iterator[tuple[int, Document]]:
            with Progress(name, total=None, unit="documents") as progress:
                for number, document in enumerate(read(file, Document)):
                    # By book: chapters of one book resemble each other, so holding out chapters would flatter the perplexity.
                    if records.is_held_out(document.book or document.id, config.held_out) == is_held_out:
                        progress.add()
                        yield number, document

        encoded = encode(documents(), tokenizer, config.row_tokens, counts)
        folder = out / SCRATCH / ("tokens_held_out" if is_held_out else "tokens")
        return *loop.stored(encoded, counts, folder, len(tokenizer), processes), counts

    examples, numbers, counts = part(False)
    held_out, _, held_out_counts = part(True)
    if not len(examples):
        raise ValueError(f"pretrain: every book fell into the held-out share of {config.held_out}; lower pretrain.held_out or add books")
    batches = Epochs(examples, config, pad_id=tokenizer.pad_token_id, seed=context.seed)

    def names(chosen: Ints) -> list[str]:
        wanted = set(numbers[chosen].tolist())
        return [document.id for number, document in enumerate(read(file, Document)) if number in wanted]

    model, facts = loop.train(make, batches, loop.causal(config), config, out, context, "pretrain", names)
    if not processes.is_first:
        return Result()
    models.save(model, tokenizer, template, out / "checkpoint")
    nats = loop.held_out_loss(model, held_out, tokenizer.pad_token_id, config)
    num_predicted = held_out.num_tokens - len(held_out)
    return Result(
        num_in=counts["documents"] + held_out_counts["documents"],
        num_out=counts["documents"],
        dropped=loop.dropped(held_out=held_out_counts["documents"]),
        facts=facts
        | {
            "num_split_documents": counts["split"],
            "num_corpus_tokens": examples.num_tokens,
            "held_out_loss": rounded(nats),
            "held_out_bits_per_char": rounded(nats * num_predicted / max(1, held_out_counts["chars"]) / math.log(2)),
        },
    )


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
