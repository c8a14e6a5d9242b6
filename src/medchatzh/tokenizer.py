"""Tokenizer stage: sentencepiece BPE with byte fallback, in a folder that `AutoTokenizer` loads.

BPE because it trains 25 times faster than unigram at the same length (20 MB of books, 8,000 pieces: 5.7 against 143 CPU-s,
1.24 and 1.23 characters a token). Ids as in LLaMA and Baichuan: pad 0, BOS 1, EOS 2.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medchatzh import models, prompt
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Document, read
from medchatzh.run import Context, Result

VERSION = 1
LIBRARIES = ("sentencepiece", "transformers", "tokenizers")
SEEDED = False

_MAX_LINE_CHARS = 1000
"""sentencepiece silently skips sentences of more than 4,192 bytes; a hanzi has 3 (rarely 4)."""


class Config(Settings, frozen=True, kw_only=True):
    vocab_size: int = 8000
    """Pieces, the 256 bytes and 4 special tokens included. 8,000 suit models of a few million parameters (Baichuan: 64,000)."""
    character_coverage: float = 0.9995
    """Share of the text's characters that get a piece of their own; the rest are written as bytes. sentencepiece's value for Chinese."""
    max_chars: int = 30_000_000
    """Read at most so many characters of each of the two inputs; beyond 20 MB the pieces hardly change."""
    path: str = ""
    """Folder of an existing tokenizer to use as it is, instead of training one."""
    template: str = "medchatzh"
    """Prompt template that goes with the tokenizer and every checkpoint made with it."""

    def __post_init__(self) -> None:
        prompt.template(self.template)
        if not self.path and self.vocab_size < 300:
            raise ValueError("vocab_size must be at least 300: 256 bytes, 4 special tokens and some pieces")
        if not 0.9 <= self.character_coverage <= 1:
            raise ValueError("character_coverage must lie between 0.9 and 1")


def train(texts: Iterable[str], config: Config, threads: int = 1) -> bytes:
    """Train a sentencepiece model; returns the bytes of `tokenizer.model`. ValueError where the text is too little."""
    import sentencepiece

    model = io.BytesIO()
    lines = _lines(texts)
    first = next(lines, None)
    if first is None:
        raise ValueError("tokenizer: no text to train on: curate and books kept nothing; look at their rejects.jsonl")

    def sentences() -> Iterator[str]:
        yield first
        yield from lines

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=model,
            model_type="bpe",
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            byte_fallback=True,
            split_digits=True,
            # Text must come back as it went in: no NFKC, no squeezed spaces, no space in front.
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            # A newline never merges with a neighbour, so a turn's text tokenizes the same alone and between its headers.
            user_defined_symbols=["\n"],
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            num_threads=threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        # Its message is "INTERNAL: file(line) [condition] Vocabulary size is smaller than required_chars. 3000 vs 3064. …"
        reason = str(error).rpartition("] ")[2]
        raise ValueError(f"tokenizer: sentencepiece: {reason} (settings tokenizer.vocab_size, tokenizer.character_coverage)") from None
    return model.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.split("\n"):
            for start in range(0, len(line), _MAX_LINE_CHARS):
                yield line[start : start + _MAX_LINE_CHARS]


def save(model: bytes, config: Config, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json (with the chat template) and prompt.json."""
    from transformers import LlamaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    piece_file = folder / "tokenizer.model"
    piece_file.write_bytes(model)
    tokenizer = LlamaTokenizer.from_pretrained(
        folder, legacy=False, add_bos_token=False, add_eos_token=False, add_prefix_space=False, pad_token="<pad>"
    )
    models.save_tokenizer(tokenizer, prompt.template(config.template), folder)


def _limited(texts: Iterable[str], max_chars: int) -> Iterator[str]:
    for text in texts:
        if max_chars <= 0:
            return
        yield text[:max_chars]
        max_chars -= len(text)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Train on the curated dialogues and the books, or adopt the tokenizer at `config.path`."""
    models.require_torch()

    def dialogues() -> Iterator[str]:
        for pool in ("medical", "general"):
            for dialogue in read(inputs["curate"] / f"{pool}.jsonl", Dialogue):
                yield from (turn.content for turn in dialogue.turns)

    def books() -> Iterator[str]:
        return (document.text for document in read(inputs["books"] / "documents.jsonl", Document))

    if config.path:
        tokenizer, _ = models.load_tokenizer(Path(config.path).expanduser())
        models.save_tokenizer(tokenizer, prompt.template(config.template), out)
    else:
        texts = [*_limited(dialogues(), config.max_chars), *_limited(books(), config.max_chars)]
        save(train(texts, config), config, out)
    tokenizer, _ = models.load_tokenizer(out)
    sample = [*_limited(dialogues(), 200_000), *_limited(books(), 200_000)]
    num_tokens = sum(len(ids) for ids in tokenizer(sample, add_special_tokens=False)["input_ids"])
    return Result(
        num_in=len(sample),
        num_out=len(sample),
        facts={"vocab_size": len(tokenizer), "chars_per_token": round(sum(map(len, sample)) / max(1, num_tokens), 3)},
    )
