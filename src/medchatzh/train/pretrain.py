"""Continued pre-training on the books, from a checkpoint folder or from scratch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from medchatzh import models
from medchatzh.models.packing import Examples, collect
from medchatzh.records import Document, hold_out, read
from medchatzh.run import Context, Progress, Result
from medchatzh.train import loop
from medchatzh.train.loop import Epochs, rounded
from medchatzh.train.optimization import HoldsOut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
LIBRARIES = ("torch", "transformers")


class Config(HoldsOut, frozen=True, kw_only=True):
    base: str = ""
    """Checkpoint folder to go on from; empty makes a model of `architecture` from scratch. Set `tokenizer.path` to the same folder."""
    architecture: models.Architecture = models.Architecture()


def encode(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, row_tokens: int) -> tuple[Examples, int]:
    """Documents as examples of at most `row_tokens`, each document closed by EOS; returns them and the number that was split.

    A document longer than a row becomes several examples, each an independent context: nothing is lost, only sight of what
    stood before. Every token but an example's first is predicted.
    """
    num_split = 0

    def chunks() -> Iterator[tuple[list[int], list[int]]]:
        nonlocal num_split
        # By the thousand: the tokenizer then works on all cores, several times faster than text by text.
        for texts in batched((document.text for document in documents), 1000):
            for ids in tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
                ids.append(tokenizer.eos_token_id)
                num_split += len(ids) > row_tokens
                for start in range(0, len(ids), row_tokens):
                    chunk = ids[start : start + row_tokens]
                    yield chunk, chunk

    return collect(chunks()), num_split


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on `books/documents.jsonl`; writes `checkpoint/` and `metrics.jsonl`."""
    tokenizer, template = models.load_tokenizer(inputs["tokenizer"])
    documents = list(read(inputs["books"] / "documents.jsonl", Document))
    if not documents:
        raise ValueError("pretrain: no book text; check ingest.sources for a source of format 'book', or the rejects of the books stage")
    if config.base:
        base = Path(config.base).expanduser()
        model = models.load_causal(base)
        models.check_vocabulary(model, tokenizer, base)
    else:
        model = models.new_causal(config.architecture, tokenizer, context.seed)
    # By book: chapters of one book resemble each other, so holding out chapters would flatter the perplexity.
    trained, held_out_documents = hold_out(documents, config.held_out, key=lambda document: document.book or document.id)
    with Progress("encode", total=len(documents), unit="documents") as progress:
        examples, num_split = encode(progress.over(trained), tokenizer, config.row_tokens)
        held_out, _ = encode(progress.over(held_out_documents), tokenizer, config.row_tokens)
    if not len(examples):
        raise ValueError(f"pretrain: every book fell into the held-out share of {config.held_out}; lower pretrain.held_out or add books")
    batches = Epochs(examples, config, pad_id=tokenizer.pad_token_id, seed=context.seed)
    facts = loop.train(model, batches, loop.causal_loss, lambda batch: batch.num_targets, config, out, context, "pretrain")
    nats = loop.held_out_loss(model, held_out, tokenizer.pad_token_id, config)
    models.save(model, tokenizer, template, out / "checkpoint")
    held_out_chars = sum(len(document.text) for document in held_out_documents)
    num_predicted = held_out.num_tokens - len(held_out)
    return Result(
        num_in=len(documents),
        num_out=len(trained),
        dropped=loop.counts(held_out=len(held_out_documents)),
        facts=facts
        | {
            "num_split_documents": num_split,
            "num_corpus_tokens": examples.num_tokens,
            "held_out_loss": rounded(nats),
            "held_out_bits_per_char": rounded(nats * num_predicted / max(1, held_out_chars) / math.log(2)),
        },
    )


def batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(islice(texts, size)):
        yield batch
